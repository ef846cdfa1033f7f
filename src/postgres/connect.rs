//! Opening a connection to PostgreSQL.
//!
//! Owns which servers and addresses are tried, with TLS or without, in libpq's order, and how long to wait after failed
//! attempts.
//!
//! Invariant: an attempt ends with a connection or a reason, never with a panic, and within the address's time limits.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postgres::NoTls;
use postgres::config::{Host, SslMode, SslNegotiation};
use postgres::error::SqlState;
use thiserror::Error;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::postgres::address::{Database, Server};
use crate::postgres::client::Client;
use crate::postgres::fault::describe_postgres;
use crate::postgres::socket::{Limits, Negotiator, Transport, Watch, no_answer};
use crate::runtime::retry::{Backoff, Outage};
use crate::runtime::shutdown::Stop;
use crate::tls::{self, TlsMode};

/// How long a reply may take. Longer than sql/begin.sql lets a statement run, so that only a peer that hangs exceeds
/// it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);

/// The limit for a connection within the process, which succeeds at once or not at all.
const STAND_IN_TIMEOUT: Duration = Duration::from_secs(1);

/// The maximum number of file descriptors needed to open a connection.
const DESCRIPTORS: usize = 8;

/// The reasons why no server could be reached, on one line.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ConnectError(String);

/// Opens connections for the pool.
pub struct Manager {
    database: Database,
    watch: Watch,
    /// Set while the last attempt has failed. Further attempts wait for it, one at a time.
    backoff: Mutex<Option<Backoff>>,
    /// The number of attempts to connect.
    pub made: Arc<AtomicU64>,
}

impl Manager {
    pub fn new(database: Database, outage: &Arc<Outage>, stop: &Stop) -> Manager {
        Manager {
            made: Arc::default(),
            database,
            watch: Watch {
                outage: Arc::clone(outage),
                stop: stop.clone(),
            },
            backoff: Mutex::default(),
        }
    }

    fn try_connect(&self) -> Result<Client, ConnectError> {
        self.made.fetch_add(1, Ordering::Relaxed);
        ensure_descriptors()?;
        // The postgres crate panics if the system refuses the resources of its event loop. A panic would end the pool's
        // thread, and the pool would wait forever for the connection that it has already counted.
        catch_unwind(AssertUnwindSafe(|| self.database.connect(&self.watch)))
            .unwrap_or_else(|_| Err(ConnectError("the system refused what a connection needs".to_owned())))
    }
}

impl r2d2::ManageConnection for Manager {
    type Connection = Client;
    type Error = ConnectError;

    fn connect(&self) -> Result<Client, ConnectError> {
        let lock = || self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failing = lock();
        let Some(backoff) = failing.as_mut() else {
            drop(failing);
            return self.try_connect().inspect_err(|_| {
                lock().get_or_insert_default();
            });
        };
        // The pool itself would retry twice a second for each connection that it wants. While a server is down or full,
        // only one attempt is made at a time; the lock makes the others wait. After a stop one last attempt is made, so
        // that the entries that were read are applied if possible.
        let _ = backoff.wait(&self.watch.stop);
        let connected = self.try_connect();
        if connected.is_ok() {
            *failing = None;
        }
        connected
    }

    fn is_valid(&self, client: &mut Client) -> Result<(), ConnectError> {
        client
            .is_valid(self.database.connect_timeout())
            .map_err(|error| ConnectError(describe_postgres(&error)))
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}

/// Checks whether the process may open enough files, since the postgres crate would panic if it may not.
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
    /// Connects to the first server that accepts.
    fn connect(&self, watch: &Watch) -> Result<Client, ConnectError> {
        let transports = self.transports().map_err(ConnectError)?;
        let mut reasons: Vec<String> = Vec::new();
        for server in &self.servers {
            match self.connect_to(server, &transports, watch) {
                Ok(client) => return Ok(client),
                Err(reason) => reasons.push(format!("{server}: {reason}")),
            }
        }
        Err(ConnectError(reasons.join("; ")))
    }

    /// The transports in the order to try them.
    fn transports(&self) -> Result<Vec<Transport>, String> {
        let make = || self.tls.client_config().map(MakeRustlsConnect::new);
        Ok(match self.tls.mode {
            TlsMode::Disable => vec![Transport::Plain],
            TlsMode::Allow => vec![Transport::Plain, Transport::Tls(make()?)],
            TlsMode::Prefer => vec![Transport::Prefer(make()?), Transport::Plain],
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => vec![Transport::Tls(make()?)],
        })
    }

    fn connect_to(&self, server: &Server, transports: &[Transport], watch: &Watch) -> Result<Client, String> {
        let name = match &server.host {
            Host::Unix(directory) => return self.connect_to_socket(directory, server.port, watch),
            Host::Tcp(name) => name,
        };
        let addresses = match server.address {
            Some(address) => vec![address],
            None => resolve(name, server.port)?,
        };
        let mut reasons: Vec<String> = Vec::new();
        for address in addresses {
            for transport in transports {
                match self.connect_by(name, SocketAddr::new(address, server.port), transport.clone(), watch) {
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

    /// Connects to a Unix socket, on which PostgreSQL offers no TLS. The postgres crate passes only TCP sockets to a
    /// TLS connector, and the time limits are enforced there. It is therefore given a TCP connection within the
    /// process, which the connector replaces by the Unix socket. If that connection cannot be made, there are no time
    /// limits.
    fn connect_to_socket(&self, directory: &Path, port: u16, watch: &Watch) -> Result<Client, String> {
        let connected = match stand_in() {
            Ok(stand_in) => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                let socket = open_socket(&path, self.connect_timeout())
                    .map_err(|error| format!("error connecting to server: {error}"))?;
                let address = stand_in.local_addr().map_err(|error| error.to_string())?;
                self.connect_by("localhost", address, Transport::Local(Arc::new(socket)), watch)
            }
            Err(error) => {
                log::debug!(
                    "no time limits on {}: no connection to 127.0.0.1: {error}",
                    directory.display()
                );
                let mut config = self.config.clone();
                config.ssl_mode(SslMode::Disable).host_path(directory).port(port);
                config.connect(NoTls).map(|client| Client::new(client, None))
            }
        };
        connected.map_err(|error| describe(&error))
    }

    fn connect_by(
        &self,
        name: &str,
        address: SocketAddr,
        transport: Transport,
        watch: &Watch,
    ) -> Result<Client, postgres::Error> {
        let mut config = self.config.clone();
        // Makes the crate pass the socket to the connector at once, see socket.rs.
        config
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        config.host(name).hostaddr(address.ip()).port(address.port());
        let process = Arc::default();
        let client = config.connect(Negotiator {
            transport,
            limits: Limits {
                start: self.connect_timeout(),
                answer: ANSWER_TIMEOUT,
            },
            watch: watch.clone(),
            process: Arc::clone(&process),
        })?;
        let process = process.get().copied().filter(|_| self.keeps_statements);
        Ok(Client::new(client, process))
    }

    fn connect_timeout(&self) -> Duration {
        self.config.get_connect_timeout().copied().unwrap_or(ANSWER_TIMEOUT)
    }
}

/// A listener within the process that accepts connections.
fn stand_in() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    TcpStream::connect_timeout(&listener.local_addr()?, STAND_IN_TIMEOUT)?;
    Ok(listener)
}

/// Connects to a Unix socket within `limit`. A server that hangs accepts no connection once its backlog is full.
fn open_socket(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_write_timeout(Some(limit))?;
    socket
        .connect(&socket2::SockAddr::unix(path)?)
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => no_answer(limit),
            _ => error,
        })?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
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

/// Whether another transport may succeed: the server has no TLS, refuses it, or requires it.
fn may_pass_otherwise(error: &postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => !is_unreachable(error),
    }
}

/// Whether no server is reachable at the address, or none that answers in time.
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
