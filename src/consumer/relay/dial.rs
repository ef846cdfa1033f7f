//! Opens a WebSocket to a relay.
//!
//! Owns the steps (DNS, TCP, proxy, TLS, upgrade), their time limits, redirects, and how long to wait after each kind
//! of failure. Each dial resolves the name again and tries its addresses in turn.

use std::fmt;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tungstenite::handshake::client::{ClientHandshake, Request, Response, generate_key};
use tungstenite::http::{HeaderMap, StatusCode, header};
use tungstenite::protocol::{WebSocket, WebSocketConfig};
use tungstenite::{Error, HandshakeError};

use super::proxy::Proxy;
use super::stream::{Socket, Stream};
use crate::logging::shown;
use crate::runtime::heartbeat;
use crate::runtime::shutdown::{Stop, Stopped};
use crate::settings::relay_url::RelayUrl;
use crate::tls::{self, Roots, TlsMode, TlsSettings};

/// Limit of each step.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of redirects that are followed.
const MAX_REDIRECTS: usize = 3;

/// The shortest wait after an answer that a retry will not change soon.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// The longest wait that a relay may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The largest message that is read. Larger ones end the connection. It is more than any relay may send, so that the
/// seq of a message that is too large for an entry can still be read.
const MAX_MESSAGE: usize = 16 << 20;

/// Fewer reads of the system than by default: 128 KiB hold some twenty events.
const READ_BUFFER: usize = 128 << 10;

/// A step of a dial. The connection to each address of a name is one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Name,
    Connect,
    Tls,
    Upgrade,
}

/// Why a relay could not be reached.
#[derive(Debug)]
pub struct DialError {
    pub reason: String,
    /// What the relay answered instead of opening a WebSocket.
    pub status: Option<StatusCode>,
    /// How long to wait at least before the next attempt.
    pub wait: Duration,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// A dial fails, or a stop ends it.
pub enum Failure {
    Dial(DialError),
    Stopped(Stopped),
}

impl From<String> for Failure {
    fn from(reason: String) -> Failure {
        Failure::Dial(DialError {
            reason,
            status: None,
            wait: Duration::ZERO,
        })
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Failure {
        Failure::Stopped(stopped)
    }
}

/// Connects to the relay's stream, from `cursor` or from now on.
///
/// # Errors
///
/// The relay could not be reached or refuses, or a stop was requested.
pub fn dial(relay: &RelayUrl, cursor: Option<u64>, stop: &Stop) -> Result<WebSocket<Stream>, Failure> {
    let dial = Dial {
        timeout: TIMEOUT,
        begins: &|_| {},
        stop,
    };
    dial.open(relay, cursor)
}

/// How to dial.
pub struct Dial<'a> {
    /// Limit of each step.
    pub timeout: Duration,
    /// Called when a step begins.
    pub begins: &'a dyn Fn(Step),
    pub stop: &'a Stop,
}

enum Upgraded {
    Open(Box<WebSocket<Stream>>),
    Redirect(RelayUrl),
}

impl Dial<'_> {
    /// As `dial`.
    ///
    /// # Errors
    ///
    /// As for `dial`.
    pub fn open(&self, relay: &RelayUrl, cursor: Option<u64>) -> Result<WebSocket<Stream>, Failure> {
        let mut relay = relay.clone();
        for _ in 0..=MAX_REDIRECTS {
            match self.upgrade(&relay, cursor)? {
                Upgraded::Open(socket) => return Ok(*socket),
                Upgraded::Redirect(target) => relay = target,
            }
        }
        Err(refused(format!("more than {MAX_REDIRECTS} redirects"), None, LONG_WAIT))
    }

    fn upgrade(&self, relay: &RelayUrl, cursor: Option<u64>) -> Result<Upgraded, Failure> {
        let mut stream = self.connect(relay)?;
        self.begin(Step::Upgrade);
        stream.socket().deadline = Some(Instant::now() + self.timeout);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let mut step = ClientHandshake::start(stream, request(relay, cursor)?, Some(config))
            .map_err(|error| error.to_string())?
            .handshake();
        loop {
            heartbeat::beat();
            match step {
                Ok((mut socket, _)) => {
                    socket.get_mut().socket().deadline = None;
                    return Ok(Upgraded::Open(Box::new(socket)));
                }
                Err(HandshakeError::Interrupted(waiting)) => {
                    self.stop.check()?;
                    step = waiting.handshake();
                }
                Err(HandshakeError::Failure(Error::Http(response))) => return answered(relay, &response),
                Err(HandshakeError::Failure(error)) => return Err(describe(&error).into()),
            }
        }
    }

    /// Connects to the first of the relay's addresses that answers, or to the proxy's.
    fn connect(&self, relay: &RelayUrl) -> Result<Stream, Failure> {
        let proxy = Proxy::of(relay)?;
        let (host, port) = match &proxy {
            Some(proxy) => (proxy.host.as_str(), proxy.port),
            None => (relay.host.as_str(), relay.port),
        };
        self.begin(Step::Name);
        let addresses: Vec<SocketAddr> = (host, port)
            .to_socket_addrs()
            .map_err(|error| format!("cannot resolve {host}: {error}"))?
            .collect();
        let mut reason = format!("{host} has no address");
        for address in addresses {
            self.stop.check()?;
            self.begin(Step::Connect);
            match TcpStream::connect_timeout(&address, self.timeout) {
                Ok(tcp) => return self.prepare(tcp, relay, proxy.as_ref()),
                Err(error) => reason = format!("cannot connect to {address}: {error}"),
            }
        }
        Err(reason.into())
    }

    fn prepare(&self, tcp: TcpStream, relay: &RelayUrl, proxy: Option<&Proxy>) -> Result<Stream, Failure> {
        if let Some(proxy) = proxy {
            proxy
                .connect(&tcp, relay, self.timeout)
                .map_err(|error| format!("cannot connect through the proxy {}: {error}", proxy.host))?;
        }
        let socket = Socket::new(tcp).map_err(|error| error.to_string())?;
        match relay.is_tls {
            true => self.encrypt(socket, relay),
            false => Ok(Stream::Plain(socket)),
        }
    }

    fn encrypt(&self, mut socket: Socket, relay: &RelayUrl) -> Result<Stream, Failure> {
        self.begin(Step::Tls);
        let settings = TlsSettings {
            mode: TlsMode::VerifyFull,
            roots: Roots::System,
            identity: None,
        };
        let name = ServerName::try_from(relay.host.clone()).map_err(|error| error.to_string())?;
        let mut connection =
            ClientConnection::new(Arc::new(settings.client_config()?), name).map_err(|error| error.to_string())?;
        socket.deadline = Some(Instant::now() + self.timeout);
        while connection.is_handshaking() {
            heartbeat::beat();
            self.stop.check()?;
            match connection.complete_io(&mut socket) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(describe(&Error::Io(error)).into()),
            }
        }
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    fn begin(&self, step: Step) {
        heartbeat::beat();
        (self.begins)(step);
    }
}

fn request(relay: &RelayUrl, cursor: Option<u64>) -> Result<Request, String> {
    let agent = concat!("firehose-consumer/", env!("CARGO_PKG_VERSION"), " (firehose-worker)");
    Request::builder()
        .uri(relay.stream(cursor))
        .header(header::HOST, relay.authority())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::USER_AGENT, agent)
        .body(())
        .map_err(|error| error.to_string())
}

/// What to do about an answer that does not open a WebSocket.
fn answered(relay: &RelayUrl, response: &Response) -> Result<Upgraded, Failure> {
    let status = response.status();
    if status.is_redirection() {
        return redirect(relay, response.headers()).map(Upgraded::Redirect);
    }
    let text = response
        .body()
        .as_deref()
        .map(String::from_utf8_lossy)
        .unwrap_or_default();
    let text = shown::cut(&shown::one_line(text.trim()), 120);
    let reason = match text.is_empty() {
        true => format!("it answered {status}"),
        false => format!("it answered {status}: {text}"),
    };
    let wait = match status {
        StatusCode::TOO_MANY_REQUESTS => retry_after(response.headers()).unwrap_or(LONG_WAIT),
        status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => Duration::ZERO,
        _ => LONG_WAIT,
    };
    Err(refused(reason, Some(status), wait))
}

fn redirect(relay: &RelayUrl, headers: &HeaderMap) -> Result<RelayUrl, Failure> {
    let target = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let Some(target) = target else {
        return Err(refused("it redirects without a target".to_owned(), None, LONG_WAIT));
    };
    // The cursor is added to the new address as well.
    let target = target.split('?').next().unwrap_or_default();
    let target = match target.starts_with('/') {
        true => format!("{relay}{target}"),
        false => target.to_owned(),
    };
    RelayUrl::parse(&target).map_err(|reason| {
        refused(
            format!("it redirects to an unusable address: {reason}"),
            None,
            LONG_WAIT,
        )
    })
}

/// The header's number of seconds. A date, its other form, is not understood.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

fn refused(reason: String, status: Option<StatusCode>, wait: Duration) -> Failure {
    Failure::Dial(DialError { reason, status, wait })
}

/// The error on one line, with advice if it is about TLS.
pub fn describe(error: &Error) -> String {
    let text = shown::one_line(&error.to_string());
    match tls::cause(error).and_then(tls::advice) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}
