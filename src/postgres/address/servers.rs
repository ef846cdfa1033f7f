//! The servers that an address names, in the order to try them.

use std::fmt;
use std::net::IpAddr;

use postgres::config::Host;

use super::ALLOWED;

const DEFAULT_PORT: u16 = 5432;

/// Where Debian's servers have their socket, and its libpq looks for it.
pub const DEFAULT_HOST: &str = "/var/run/postgresql";

/// One of the servers in an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub host: Host,
    /// Where the host is, if its name is not to be looked up.
    pub address: Option<IpAddr>,
    pub port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.host {
            Host::Tcp(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Tcp(name) => write!(f, "{name}:{}", self.port),
            Host::Unix(path) => write!(f, "{}/.s.PGSQL.{}", path.display(), self.port),
        }
    }
}

/// Hosts, addresses and ports, which go together by their place in their lists; one port is for all.
pub fn parse(hosts: &str, addresses: &str, ports: &str) -> Result<Vec<Server>, String> {
    let list = |text: &str| text.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>();
    let (hosts, addresses, ports) = (list(hosts), list(addresses), list(ports));
    let count = hosts.len().max(addresses.len());
    let fits = |list: &[String]| list.len() == count || list == [""];
    if !fits(&hosts) || !fits(&addresses) || !(fits(&ports) || ports.len() == 1) {
        return Err(format!(
            "as many hosts, addresses and ports are needed as there are servers; {ALLOWED}"
        ));
    }
    let at = |list: &[String], index: usize| list.get(index).or(list.first()).cloned().unwrap_or_default();
    (0..count)
        .map(|index| server(&at(&hosts, index), &at(&addresses, index), &at(&ports, index)))
        .collect()
}

fn server(host: &str, address: &str, port: &str) -> Result<Server, String> {
    let host = match (host, address) {
        ("", "") => DEFAULT_HOST,
        ("", address) => address,
        (host, _) => host,
    };
    let address = match address {
        "" => None,
        text => Some(text.parse().map_err(|_| "hostaddr is not an IP address".to_owned())?),
    };
    let port = match port {
        "" => DEFAULT_PORT,
        text => text
            .parse()
            .map_err(|_| format!("a port is not a number up to 65535; {ALLOWED}"))?,
    };
    Ok(Server {
        host: match host.starts_with('/') {
            true => Host::Unix(host.into()),
            false => Host::Tcp(host.to_owned()),
        },
        address,
        port,
    })
}
