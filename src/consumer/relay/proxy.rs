//! The HTTP proxy through which relays are reached, if the environment names one.
//!
//! Owns HTTPS_PROXY and NO_PROXY, in upper and lower case, as most programs understand them, and the CONNECT request.

use std::env;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use data_encoding::BASE64;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::settings::relay_url::RelayUrl;

/// The largest accepted head of a proxy's answer, in bytes.
const MAX_HEAD: u64 = 16 << 10;

/// A proxy for encrypted connections.
pub struct Proxy {
    pub host: String,
    pub port: u16,
    /// The value of the header Proxy-Authorization.
    authorization: Option<String>,
}

impl Proxy {
    /// The proxy for a relay. `None` if the relay is reached directly.
    ///
    /// # Errors
    ///
    /// The variable is not the URL of an HTTP proxy. The error does not quote it, since it may hold a password.
    pub fn of(relay: &RelayUrl) -> Result<Option<Proxy>, String> {
        let value = variable("HTTPS_PROXY").filter(|_| relay.is_tls && !is_excepted(relay));
        value.map(|value| Proxy::parse(&value)).transpose()
    }

    fn parse(value: &str) -> Result<Proxy, String> {
        let with_scheme = match value.contains("://") {
            true => value.to_owned(),
            false => format!("http://{value}"),
        };
        let unusable = || "HTTPS_PROXY is unusable: only http:// proxies are supported, as http://host:port".to_owned();
        let url = Url::parse(&with_scheme).map_err(|_| unusable())?;
        let host = url.host_str().filter(|_| url.scheme() == "http").ok_or_else(unusable)?;
        let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let authorization = (!url.username().is_empty()).then(|| {
            let password = decode(url.password().unwrap_or_default());
            let pair = format!("{}:{password}", decode(url.username()));
            format!("Basic {}", BASE64.encode(pair.as_bytes()))
        });
        Ok(Proxy {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(80),
            authorization,
        })
    }

    /// Makes the proxy connect to the relay.
    ///
    /// # Errors
    ///
    /// The proxy refuses, or does not answer within `timeout`.
    pub fn connect(&self, tcp: &TcpStream, relay: &RelayUrl, timeout: Duration) -> io::Result<()> {
        tcp.set_read_timeout(Some(timeout))?;
        tcp.set_write_timeout(Some(timeout))?;
        let target = match relay.host.contains(':') {
            true => format!("[{}]:{}", relay.host, relay.port),
            false => format!("{}:{}", relay.host, relay.port),
        };
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            request += &format!("Proxy-Authorization: {authorization}\r\n");
        }
        request += "\r\n";
        (&*tcp).write_all(request.as_bytes())?;
        let status = head(tcp)?;
        match status.split(' ').nth(1) {
            Some("200") => Ok(()),
            _ => Err(io::Error::other(format!("the proxy answered {status:?}"))),
        }
    }
}

/// The status line of an answer, of which the head is read and no byte more: what follows is the relay's.
fn head(tcp: &TcpStream) -> io::Result<String> {
    let mut lines = BufReader::with_capacity(1, tcp.take(MAX_HEAD));
    let mut status = String::new();
    lines.read_line(&mut status)?;
    loop {
        let mut line = String::new();
        match lines.read_line(&mut line)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            _ if line.trim().is_empty() => return Ok(status.trim().to_owned()),
            _ => {}
        }
    }
}

/// A variable that many programs share, in either case, and that is therefore none of the settings.
#[allow(clippy::disallowed_methods, reason = "not a setting of this program alone")]
fn variable(name: &str) -> Option<String> {
    let value = env::var(name).or_else(|_| env::var(name.to_ascii_lowercase())).ok()?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn is_excepted(relay: &RelayUrl) -> bool {
    variable("NO_PROXY").is_some_and(|list| is_listed(&list, &relay.host))
}

/// Whether NO_PROXY lists the host: by its name, by a domain above it, or by `*`.
fn is_listed(list: &str, host: &str) -> bool {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .any(|item| {
            let domain = item.trim_start_matches('.');
            item == "*" || host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_domains_of_no_proxy_are_reached_directly() {
        let list = "localhost, .example.com,internal";
        for (host, is_direct) in [
            ("localhost", true),
            ("example.com", true),
            ("relay.example.com", true),
            ("notexample.com", false),
            ("relay.internal", true),
            ("bsky.network", false),
        ] {
            assert_eq!(is_listed(list, host), is_direct, "{host}");
        }
        assert!(is_listed("*", "bsky.network"));
    }

    #[test]
    fn a_proxy_has_a_host_a_port_and_perhaps_a_user() {
        let proxy = Proxy::parse("http://me:p%40ss@proxy:3128").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy", 3128));
        assert_eq!(proxy.authorization.as_deref(), Some("Basic bWU6cEBzcw=="));
        assert!(Proxy::parse("proxy:3128").is_ok());
        let Err(error) = Proxy::parse("socks5://me:secret@proxy") else {
            panic!("a SOCKS proxy was accepted");
        };
        assert!(!error.contains("secret"), "{error}");
    }
}
