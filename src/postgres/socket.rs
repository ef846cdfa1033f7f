//! The stream under a connection to PostgreSQL.
//!
//! Owns the negotiation of TLS and the time limit of replies. The postgres crate does not know all of libpq's values of
//! sslmode, and waits forever for a peer that is reachable but silent. It is configured for direct TLS, so that it
//! passes on the socket as soon as it is connected; this module then negotiates TLS, or does without.
//!
//! Invariant: a caller that waits for the server's reply fails at the time limit, a few seconds after a stop request at
//! the latest; the log reports the silence after ten seconds.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use postgres::Socket;
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::Sleep;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::runtime::retry::{Outage, Waiter};
use crate::runtime::shutdown::Stop;

type RustlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// The SSLRequest message: its length, and a code in the place of a protocol version.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Type and length of the ReadyForQuery message, by which a server waits for the next request. A status byte follows.
const READY: [u8; 5] = *b"Z\0\0\0\x05";

/// Type and length of the BackendKeyData message. A process ID and a secret key follow.
const KEY_DATA: [u8; 5] = *b"K\0\0\0\x0c";

/// After this long without a reply, the server is reported as down.
const REPORT_AFTER: Duration = Duration::from_secs(10);

/// How long a silent server may delay a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How often the time limit is checked while a reply is awaited.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How a newly connected socket becomes a connection.
#[derive(Clone)]
pub enum Transport {
    Plain,
    /// Plain, over this socket, which replaces the new one.
    Local(Arc<std::os::unix::net::UnixStream>),
    /// TLS, or plain if the server has none.
    Prefer(MakeRustlsConnect),
    Tls(MakeRustlsConnect),
}

/// How long a peer may be silent.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Until the server is ready for its first request.
    pub start: Duration,
    /// Until each later reply.
    pub answer: Duration,
}

/// What a silent server affects: the report of its outage, and a stop that must not wait for it.
#[derive(Clone)]
pub struct Watch {
    pub outage: Arc<Outage>,
    pub stop: Stop,
}

/// Negotiates the transport on each newly connected socket.
#[derive(Clone)]
pub struct Negotiator {
    pub transport: Transport,
    pub limits: Limits,
    pub watch: Watch,
    /// Where to put the ID of the server process that the peer names at the start of the session.
    pub process: Arc<OnceLock<i32>>,
}

impl MakeTlsConnect<Socket> for Negotiator {
    type Stream = Stream;
    type TlsConnect = Negotiation;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Negotiation> {
        Ok(Negotiation {
            negotiator: self.clone(),
            host: host.to_owned(),
        })
    }
}

/// The negotiation on one socket.
pub struct Negotiation {
    negotiator: Negotiator,
    host: String,
}

impl TlsConnect<Socket> for Negotiation {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let Negotiator {
            transport,
            limits,
            watch,
            process,
        } = self.negotiator;
        Box::pin(async move {
            let inner = tokio::time::timeout(limits.start, negotiate(transport, &self.host, socket))
                .await
                .map_err(|_| no_answer(limits.start))??;
            Ok(Stream::new(inner, limits, watch, process))
        })
    }
}

async fn negotiate(transport: Transport, host: &str, mut socket: Socket) -> io::Result<Inner> {
    let (mut tls, may_be_plain) = match transport {
        Transport::Plain => return Ok(Inner::Plain(socket)),
        Transport::Local(socket) => return Ok(Inner::Local(UnixStream::from_std(socket.try_clone()?)?)),
        Transport::Prefer(tls) => (tls, true),
        Transport::Tls(tls) => (tls, false),
    };
    socket.write_all(&TLS_REQUEST).await?;
    match socket.read_u8().await? {
        b'S' => {}
        b'N' if may_be_plain => return Ok(Inner::Plain(socket)),
        b'N' => {
            return Err(io::Error::other(
                "the server has no TLS: switch its setting ssl on, or allow a plain connection by sslmode",
            ));
        }
        _ => return Err(io::Error::other("the peer does not answer as PostgreSQL does")),
    }
    let Ok(connect) = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, host);
    Ok(Inner::Tls(Box::new(connect.connect(socket).await?)))
}

/// The error for a server that did not reply within `limit`.
pub fn no_answer(limit: Duration) -> io::Error {
    let reason = format!("the server is reachable, but gave no answer for {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

/// The byte stream of a connection, encrypted or not. Fails when a request has had no reply for too long.
pub struct Stream {
    inner: Inner,
    limits: Limits,
    stop: Stop,
    waiter: Waiter,
    is_started: bool,
    process: Arc<OnceLock<i32>>,
    /// When bytes were last transferred, while a request has been sent and no ReadyForQuery has arrived since.
    silent_since: Option<Instant>,
    next_check: Pin<Box<Sleep>>,
    /// The last bytes received.
    tail: [u8; READY.len() + 1],
}

enum Inner {
    Plain(Socket),
    Local(UnixStream),
    Tls(Box<RustlsStream>),
}

impl Stream {
    fn new(inner: Inner, limits: Limits, watch: Watch, process: Arc<OnceLock<i32>>) -> Stream {
        Stream {
            inner,
            limits,
            stop: watch.stop,
            waiter: Waiter::new(&watch.outage),
            is_started: false,
            process,
            silent_since: None,
            next_check: Box::pin(tokio::time::sleep(POLL_INTERVAL)),
            tail: Default::default(),
        }
    }

    fn limit(&self) -> Duration {
        let limit = match self.is_started {
            true => self.limits.answer,
            false => self.limits.start,
        };
        match self.stop.is_requested() {
            true => limit.min(STOP_PATIENCE),
            false => limit,
        }
    }

    fn restart_wait(&mut self) {
        self.silent_since = Some(Instant::now());
        self.schedule_check();
    }

    fn schedule_check(&mut self) {
        self.next_check
            .as_mut()
            .reset(tokio::time::Instant::now() + POLL_INTERVAL);
    }

    /// Reports a server that has been silent for `REPORT_AFTER`. Ready with the error once it has been silent for the
    /// limit; until then, wakes the task for the next check.
    fn check_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(since) = self.silent_since else {
            return Poll::Pending;
        };
        while self.next_check.as_mut().poll(context).is_ready() {
            let (silence, limit) = (since.elapsed(), self.limit());
            if silence >= limit {
                return Poll::Ready(no_answer(limit));
            }
            // A connection that cannot be established is reported with its own reason.
            if self.is_started && !self.waiter.is_waiting() && self.is_silent_for_all(since) {
                let reason = format!("no answer for {} s", REPORT_AFTER.as_secs());
                self.waiter.down_since(&reason, since);
            }
            self.schedule_check();
        }
        Poll::Pending
    }

    /// Whether the silence is long enough to be reported. If another connection has been served since it began, it
    /// counts only from then on: the reply may be on its way, and a line now would report the same outage twice.
    fn is_silent_for_all(&self, since: Instant) -> bool {
        let since = self.waiter.served_at().map_or(since, |served_at| since.max(served_at));
        since.elapsed() >= REPORT_AFTER
    }

    /// Records that `bytes` were received.
    fn received(&mut self, bytes: &[u8]) {
        if !self.is_started
            && let Some(process) = named_process(bytes)
        {
            let _ = self.process.set(process);
        }
        let kept = bytes.len().min(self.tail.len());
        self.tail.rotate_left(kept);
        let start = self.tail.len() - kept;
        self.tail[start..].copy_from_slice(&bytes[bytes.len() - kept..]);
        if self.tail.starts_with(&READY) {
            self.is_started = true;
            self.silent_since = None;
        } else if self.silent_since.is_some() {
            self.restart_wait();
        }
        if !bytes.is_empty() {
            self.waiter.up();
        }
    }
}

/// The server process that a BackendKeyData message among `bytes` names. `None` also if the message is in two parts.
fn named_process(bytes: &[u8]) -> Option<i32> {
    let start = memchr::memmem::find(bytes, &KEY_DATA)? + KEY_DATA.len();
    let process = bytes.get(start..start + 4)?;
    Some(i32::from_be_bytes(process.try_into().ok()?))
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.inner {
            Inner::Plain(_) | Inner::Local(_) => ChannelBinding::none(),
            Inner::Tls(stream) => stream.channel_binding(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = match &mut this.inner {
            Inner::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Inner::Local(socket) => Pin::new(socket).poll_read(context, buffer),
            Inner::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if read.is_ready() {
            this.received(&buffer.filled()[before..]);
        } else if let Poll::Ready(error) = this.check_silence(context) {
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.inner {
            Inner::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Inner::Local(socket) => Pin::new(socket).poll_write(context, bytes),
            Inner::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        if written.is_ready() {
            this.restart_wait();
            // The crate does not poll for reading until the socket is readable, so the timer must be registered here.
            let _ = this.check_silence(context);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(socket) => Pin::new(socket).poll_flush(context),
            Inner::Local(socket) => Pin::new(socket).poll_flush(context),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Inner::Local(socket) => Pin::new(socket).poll_shutdown(context),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_named_among_other_messages_and_not_by_half() {
        let start = b"S\0\0\0\x12DateStyle\0ISO\0K\0\0\0\x0c\0\x01\0\x02secrZ\0\0\0\x05I";
        assert_eq!(named_process(start), Some(0x1_0002));
        assert_eq!(named_process(&start[..27]), None);
        assert_eq!(named_process(&start[28..]), None);
    }
}
