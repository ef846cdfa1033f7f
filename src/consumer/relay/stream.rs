//! The bytes of a connection to a relay, encrypted or not.
//!
//! Owns how long a read may wait. It never waits longer than `TICK`, so that the caller can stop, ping and beat in
//! between; and not at all while the caller has something else to do.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};
use rustls::{ClientConnection, StreamOwned};
use socket2::{SockRef, TcpKeepalive};

/// How long a read waits for bytes.
pub const TICK: Duration = Duration::from_millis(250);

/// How long a write may take, and unacknowledged data may stay under way.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A TCP connection.
pub struct Socket {
    tcp: TcpStream,
    /// Whether a read returns at once if there is nothing to read.
    pub is_eager: bool,
    /// When reads begin to fail, although bytes arrive.
    pub deadline: Option<Instant>,
    /// When bytes last arrived.
    pub heard_at: Instant,
}

impl Socket {
    /// # Errors
    ///
    /// Fails if the system refuses the socket's options.
    pub fn new(tcp: TcpStream) -> io::Result<Socket> {
        let options = SockRef::from(&tcp);
        options.set_tcp_nodelay(true)?;
        options.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(30)))?;
        options.set_tcp_user_timeout(Some(WRITE_TIMEOUT))?;
        tcp.set_read_timeout(Some(TICK))?;
        tcp.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Socket {
            tcp,
            is_eager: false,
            deadline: None,
            heard_at: Instant::now(),
        })
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(io::Error::new(ErrorKind::TimedOut, "no answer in time"));
        }
        let n_read = match self.is_eager {
            true => recv(self.tcp.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?,
            false => self.tcp.read(buffer)?,
        };
        if n_read > 0 {
            self.heard_at = Instant::now();
        }
        Ok(n_read)
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tcp.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// A connection to a relay.
pub enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Stream {
    pub fn socket(&mut self) -> &mut Socket {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => &mut tls.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(buffer),
            Stream::Tls(tls) => tls.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

/// Whether a read merely found nothing.
pub fn is_wait(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
