//! The servers that an address names, in the order to try them.

use std::fmt;
use std::net::IpAddr;

use postgres::config::Host;

use super::ALLOWED;
use super::parameters::Parameters;

const DEFAULT_PORT: u16 = 5432;

/// The directory in which Debian's servers have their socket, and the default of Debian's libpq.
pub const DEFAULT_HOST: &str = "/var/run/postgresql";

/// One of the servers in an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub host: Host,
    /// The host's address, if given; its name is then not resolved.
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

/// The servers, each from the host, address and port at the same index of their lists; a single port applies to all.
/// The parameters `host` and `port` override the authority of a URL.
pub fn take(parameters: &mut Parameters) -> Result<Vec<Server>, String> {
    let addresses = addresses(parameters.take("hostaddr"))?;
    let named = parameters.take_config("", "host port")?;
    let authority = &parameters.authority;
    let hosts = given(named.get_hosts(), authority.get_hosts());
    let ports = given(named.get_ports(), authority.get_ports());
    let count = hosts.len().max(addresses.len()).max(1);
    let fits = |length| length == count || length == 0;
    if !fits(hosts.len()) || !fits(addresses.len()) || !(fits(ports.len()) || ports.len() == 1) {
        return Err(format!(
            "the lists of hosts, addresses and ports must be of the same length; {ALLOWED}"
        ));
    }
    let server = |index| {
        let address: Option<IpAddr> = addresses.get(index).copied().flatten();
        let default = || {
            address.map_or(Host::Unix(DEFAULT_HOST.into()), |address| {
                Host::Tcp(address.to_string())
            })
        };
        let host = hosts.get(index).filter(|host| **host != Host::Tcp(String::new()));
        Server {
            host: host.cloned().unwrap_or_else(default),
            address,
            port: ports.get(index).or(ports.first()).copied().unwrap_or(DEFAULT_PORT),
        }
    };
    Ok((0..count).map(server).collect())
}

fn given<'l, T>(named: &'l [T], authority: &'l [T]) -> &'l [T] {
    if named.is_empty() { authority } else { named }
}

/// Parses the list of addresses, in which libpq allows empty items and the crate does not.
fn addresses(list: Option<String>) -> Result<Vec<Option<IpAddr>>, String> {
    let parse = |text: &str| match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| "hostaddr is not an IP address".to_owned()),
    };
    list.iter().flat_map(|list| list.split(',')).map(parse).collect()
}
