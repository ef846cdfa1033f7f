//! Opening a connection to PostgreSQL.
//!
//! Owns which servers and addresses are tried, with TLS or without, in libpq's order, and that a try ends: with a
//! connection or with a reason, never with a panic, and within the address's time limits.

use std::fs::File;
use std::net::{IpAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use postgres::config::{Host, SslMode, SslNegotiation};
use postgres::error::SqlState;
use postgres::{Client, NoTls};
use thiserror::Error;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::database_url::{Database, Server};
use crate::fault::describe_postgres;
use crate::socket::{Limits, Negotiator, Way};
use crate::tls::{self, Mode};

/// How long an answer may take: longer than sql/begin.sql lets a statement run, so that only a peer that hangs reaches it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(70);

/// File descriptors that opening a connection takes at most at a time.
const DESCRIPTORS: usize = 6;

/// Why no server could be connected to, on one line.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ConnectError(String);

/// Opens connections for the pool.
pub struct Manager(pub Database);

impl r2d2::ManageConnection for Manager {
    type Connection = Client;
    type Error = ConnectError;

    fn connect(&self) -> Result<Client, ConnectError> {
        ensure_descriptors()?;
        // The postgres crate panics where the system refuses what its event loop needs. A panic would take away the pool's
        // thread, and the pool would wait for ever for the connection that it has counted already.
        catch_unwind(AssertUnwindSafe(|| self.0.connect()))
            .unwrap_or_else(|_| Err(ConnectError("the system refused what a connection needs".to_owned())))
    }

    fn is_valid(&self, client: &mut Client) -> Result<(), ConnectError> {
        client
            .is_valid(self.0.connect_timeout())
            .map_err(|error| ConnectError(describe_postgres(&error)))
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}

/// Finds out whether the process may open enough files, without a panic where it may not.
fn ensure_descriptors() -> Result<(), ConnectError> {
    let opened: Result<Vec<File>, _> = (0..DESCRIPTORS).map(|_| File::open("/dev/null")).collect();
    match opened {
        Ok(_) => Ok(()),
        Err(error) => Err(ConnectError(format!(
            "no file descriptors for a connection: {error}; raise the limit (LimitNOFILE in the unit)"
        ))),
    }
}

impl Database {
    /// A connection to the first server that gives one.
    fn connect(&self) -> Result<Client, ConnectError> {
        let ways = self.ways().map_err(ConnectError)?;
        let mut reasons: Vec<String> = Vec::new();
        for server in &self.servers {
            match self.connect_to(server, &ways) {
                Ok(client) => return Ok(client),
                Err(reason) => reasons.push(format!("{server}: {reason}")),
            }
        }
        Err(ConnectError(reasons.join("; ")))
    }

    /// How to connect, in the order to try.
    fn ways(&self) -> Result<Vec<Way>, String> {
        let make = || self.tls.client_config().map(MakeRustlsConnect::new);
        Ok(match self.tls.mode {
            Mode::Disable => vec![Way::Plain],
            Mode::Allow => vec![Way::Plain, Way::Tls(make()?)],
            Mode::Prefer => vec![Way::Prefer(make()?), Way::Plain],
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => vec![Way::Tls(make()?)],
        })
    }

    fn connect_to(&self, server: &Server, ways: &[Way]) -> Result<Client, String> {
        let name = match &server.host {
            Host::Unix(path) => return self.connect_to_socket(path, server.port),
            Host::Tcp(name) => name,
        };
        let addresses = match server.address {
            Some(address) => vec![address],
            None => resolve(name, server.port)?,
        };
        let mut reasons: Vec<String> = Vec::new();
        for address in addresses {
            for way in ways {
                match self.connect_by(name, address, server.port, way) {
                    Ok(client) => return Ok(client),
                    Err(error) => {
                        let reason = describe(&error);
                        if !reasons.contains(&reason) {
                            reasons.push(reason);
                        }
                        if !may_pass_otherwise(&error) {
                            break;
                        }
                    }
                }
            }
        }
        Err(reasons.join("; "))
    }

    /// PostgreSQL has no TLS on Unix sockets.
    fn connect_to_socket(&self, path: &Path, port: u16) -> Result<Client, String> {
        let mut config = self.config.clone();
        config.ssl_mode(SslMode::Disable).host_path(path).port(port);
        config.connect(NoTls).map_err(|error| describe(&error))
    }

    fn connect_by(&self, name: &str, address: IpAddr, port: u16, way: &Way) -> Result<Client, postgres::Error> {
        let mut config = self.config.clone();
        // Hands the socket over at once, see socket.rs.
        config
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        config.host(name).hostaddr(address).port(port);
        config.connect(Negotiator {
            way: way.clone(),
            limits: Limits {
                start: self.connect_timeout(),
                answer: ANSWER_TIMEOUT,
            },
        })
    }

    fn connect_timeout(&self) -> Duration {
        self.config.get_connect_timeout().copied().unwrap_or(ANSWER_TIMEOUT)
    }
}

fn resolve(name: &str, port: u16) -> Result<Vec<IpAddr>, String> {
    let addresses = (name, port)
        .to_socket_addrs()
        .map_err(|error| format!("its name cannot be resolved: {error}"))?;
    let mut seen: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if !seen.contains(&address.ip()) {
            seen.push(address.ip());
        }
    }
    match seen.is_empty() {
        true => Err("its name has no address".to_owned()),
        false => Ok(seen),
    }
}

/// Whether the other of two ways may do: the server wants (or has) no TLS, or wants it and says so.
fn may_pass_otherwise(error: &postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => !is_unreachable(error),
    }
}

/// Nobody is there, or nobody who answers in time.
fn is_unreachable(error: &postgres::Error) -> bool {
    use std::io::ErrorKind;
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| {
        matches!(
            io.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::TimedOut
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
        )
    })
}

fn describe(error: &postgres::Error) -> String {
    let reason = describe_postgres(error);
    match tls::cause(error).and_then(tls::advice) {
        Some(advice) => format!("{reason}; {advice}"),
        None => reason,
    }
}
