//! One connection: the request, the upgrade, and then events, until either end closes it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat};
use rustls::{ServerConnection, StreamOwned};
use socket2::SockRef;

use super::conduct::{Conduct, Incident, Upgrade};
use super::frames;
use super::log::{Held, Log, Start};
use super::server::{Shared, reset};
use super::websocket::{self as ws, Input, Request};

/// Events and bytes of one write.
const MAX_EVENTS: usize = 4096;
const MAX_BYTES: usize = 256 * 1024;

/// How long a request may take, and a close frame's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A subscriber that waits for nothing in particular wakes this often.
const MAX_SLEEP: Duration = Duration::from_millis(500);

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

struct Connection<'a> {
    shared: &'a Shared,
    id: u64,
    stream: Stream,
    wakes: UnixStream,
    input: Input,
    /// The index of the next event to send.
    next: u64,
    /// Events sent on this connection.
    n_sent: u64,
    /// When the connection began to send, for the rate.
    start: Instant,
    last_ping: Instant,
    /// A close frame was sent.
    is_closing: bool,
    out: Vec<u8>,
    time: (u64, String),
}

pub(super) fn serve(shared: &Arc<Shared>, id: u64, stream: TcpStream, wakes: UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = match &shared.tls {
        None => Stream::Plain(stream),
        Some(config) => {
            let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            Stream::Tls(Box::new(StreamOwned::new(session, stream)))
        }
    };
    let request = ws::read_request(&mut stream)?;
    // Before the answer: what is appended once a subscriber knows that it is connected is after its start.
    let (conduct, start, end) = {
        let mut state = shared.lock();
        state.seen.requests.push(request.clone());
        let conduct = state.conduct.clone();
        let (start, end) = (start(&state.log, &conduct, &request), state.log.end());
        if start == Some(Start::At(end)) {
            state.advance(id, end); // live from the start
        }
        (conduct, start, end)
    };
    if let Some(bytes) = conduct.send_buffer {
        SockRef::from(stream.tcp()).set_send_buffer_size(bytes)?;
    }
    match &conduct.upgrade {
        Upgrade::Accept => ws::accept(&request, &mut stream)?,
        Upgrade::Answer(response) => {
            stream.write_all(response.as_bytes())?;
            stream.flush()?;
            return stream.end();
        }
        Upgrade::EndlessHeaders => return endless_headers(&mut stream),
        Upgrade::Silence => return wait_for_end(&mut stream),
    }
    stream.tcp().set_read_timeout(Some(Duration::from_millis(1)))?;
    let mut connection = Connection {
        shared,
        id,
        stream,
        wakes,
        input: Input::default(),
        next: end,
        n_sent: 0,
        start: Instant::now(),
        last_ping: Instant::now(),
        is_closing: false,
        out: Vec::new(),
        time: (0, String::new()),
    };
    connection.begin(&conduct, start)?;
    while connection.turn()?.is_continue() {}
    Ok(())
}

/// Where the request's cursor begins; `None` if that is no number.
fn start(log: &Log, conduct: &Conduct, request: &Request) -> Option<Start> {
    match request.cursor().map(str::parse) {
        None => Some(Start::At(log.end())),
        Some(cursor) => Some(log.start(cursor.ok()?, conduct.includes_cursor)),
    }
}

fn endless_headers(stream: &mut Stream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n")?;
    loop {
        stream.write_all(b"X-Filler: 0123456789\r\n")?;
        stream.flush()?;
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn wait_for_end(stream: &mut Stream) -> io::Result<()> {
    stream.tcp().set_read_timeout(None)?;
    io::copy(stream, &mut io::sink()).map(drop)
}

impl Connection<'_> {
    /// Moves to the first event, and sends what comes before it.
    fn begin(&mut self, conduct: &Conduct, start: Option<Start>) -> io::Result<()> {
        match start {
            Some(Start::At(index)) => self.next = index,
            Some(Start::Oldest(index)) => {
                self.next = index;
                if conduct.announces_outdated {
                    ws::push_frame(&mut self.out, ws::FINAL | ws::BINARY, &frames::info("OutdatedCursor"));
                }
            }
            Some(Start::Future) if conduct.refuses_future => self.refuse("FutureCursor", "Cursor in the future."),
            Some(Start::Future) => {}
            None => self.refuse(
                "InvalidRequest",
                "Error: Params must have the property cursor as an integer",
            ),
        }
        self.flush()
    }

    fn refuse(&mut self, error: &str, message: &str) {
        ws::push_frame(&mut self.out, ws::FINAL | ws::BINARY, &frames::error(error, message));
        ws::push_close(&mut self.out, 1008, error);
        self.is_closing = true;
    }

    /// Reads what has come, and sends what is due or waits for it.
    fn turn(&mut self) -> io::Result<ControlFlow<()>> {
        let (conduct, events) = {
            let mut state = self.shared.lock();
            if !state.advance(self.id, self.next) {
                return Ok(ControlFlow::Break(()));
            }
            let conduct = state.conduct.clone();
            if state.is_too_slow(self.id) && !self.is_closing {
                state.seen.n_too_slow += 1;
                self.refuse("ConsumerTooSlow", "Stream consumer too slow");
            }
            let (index, events) = state.log.read(self.next, self.n_due(&conduct), MAX_BYTES);
            self.next = index;
            (conduct, events)
        };
        if conduct.stalls {
            self.wait(false, MAX_SLEEP)?;
            return Ok(ControlFlow::Continue(()));
        }
        if self.receive(&conduct)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        self.ping(&conduct);
        let n_before = self.n_sent;
        for held in &events {
            self.push(&conduct, held);
        }
        self.flush()?;
        self.shared.lock().seen.n_events += self.n_sent - n_before;
        if let Some((after, incident)) = conduct.incident
            && self.n_sent == after
            && !self.is_closing
        {
            return self.befall(&conduct, incident);
        }
        if events.is_empty() {
            self.wait(true, sleep(&conduct))?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// How many events may be sent now.
    fn n_due(&self, conduct: &Conduct) -> usize {
        if self.is_closing || conduct.stalls || conduct.withholds_events {
            return 0;
        }
        let mut n_due = MAX_EVENTS as u64;
        if let Some(rate) = conduct.rate {
            let n_until_now = (self.start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            n_due = n_due.min(n_until_now.saturating_sub(self.n_sent));
        }
        if let Some((after, _)) = conduct.incident
            && self.n_sent <= after
        {
            n_due = n_due.min(after - self.n_sent);
        }
        n_due as usize
    }

    /// Appends the event to what is to be written.
    fn push(&mut self, conduct: &Conduct, held: &Held) {
        if self.time.0 != held.millis {
            self.time = (held.millis, text_of_time(held.millis));
        }
        let (seq, time) = (held.seq, self.time.1.as_str());
        let out = &mut self.out;
        match conduct.fragment {
            None => {
                ws::push_head(out, ws::FINAL | ws::BINARY, held.message.length(seq, time) as u64);
                held.message.write(seq, time, out);
            }
            Some(length) => {
                let mut whole = Vec::new();
                held.message.write(seq, time, &mut whole);
                let last = whole.len().div_ceil(length).saturating_sub(1);
                for (n, part) in whole.chunks(length).enumerate() {
                    let opcode = if n == 0 { ws::BINARY } else { ws::CONTINUATION };
                    ws::push_frame(out, if n == last { ws::FINAL | opcode } else { opcode }, part);
                    if n == 0 {
                        ws::push_frame(out, ws::FINAL | ws::PING, b"between");
                    }
                }
            }
        }
        self.next += 1;
        self.n_sent += 1;
    }

    /// Does what the conduct has for this point of the connection.
    fn befall(&mut self, conduct: &Conduct, incident: Incident) -> io::Result<ControlFlow<()>> {
        let (_, next) = self.shared.lock().log.read(self.next, 1, 1);
        match incident {
            Incident::Reset => reset(self.stream.tcp()),
            Incident::End => self.stream.end()?,
            Incident::Close(code, reason) => {
                ws::push_close(&mut self.out, code, reason);
                self.is_closing = true;
            }
            Incident::Error(error) => self.refuse(error, ""),
            Incident::Text(text) => {
                ws::push_frame(&mut self.out, ws::FINAL | ws::TEXT, text.as_bytes());
                self.n_sent += 1; // so that it happens once
            }
            Incident::ReservedBits => {
                ws::push_frame(&mut self.out, ws::FINAL | ws::RESERVED | ws::BINARY, b"reserved");
                self.n_sent += 1;
            }
            Incident::HalfMessage | Incident::FalseLength(_) => {
                let Some(held) = next.first() else {
                    // Nothing to send half of yet.
                    self.wait(true, sleep(conduct))?;
                    return Ok(ControlFlow::Continue(()));
                };
                let mut whole = Vec::new();
                held.message.write(held.seq, &text_of_time(held.millis), &mut whole);
                if let Incident::FalseLength(length) = incident {
                    ws::push_head(&mut self.out, ws::FINAL | ws::BINARY, length);
                    self.out.extend(&whole);
                    self.next += 1;
                    self.n_sent += 1;
                } else {
                    ws::push_head(&mut self.out, ws::FINAL | ws::BINARY, whole.len() as u64);
                    self.out.extend(&whole[..whole.len() / 2]);
                    self.flush()?;
                    self.stream.end()?;
                }
            }
        }
        self.flush()?;
        match incident {
            Incident::Reset | Incident::End | Incident::HalfMessage => Ok(ControlFlow::Break(())),
            _ => Ok(ControlFlow::Continue(())),
        }
    }

    fn ping(&mut self, conduct: &Conduct) {
        if conduct
            .ping_every
            .is_some_and(|interval| self.last_ping.elapsed() >= interval)
        {
            self.last_ping = Instant::now();
            self.shared.lock().seen.n_pings_sent += 1;
            ws::push_frame(&mut self.out, ws::FINAL | ws::PING, b"relay");
        }
    }

    /// Takes what the subscriber has sent, without waiting for more.
    fn receive(&mut self, conduct: &Conduct) -> io::Result<ControlFlow<()>> {
        let mut buffer = [0; 4096];
        let mut has_ended = false;
        while !has_ended && self.stream.is_readable()? {
            match self.stream.read(&mut buffer) {
                Ok(length) if length > 0 => self.input.extend(&buffer[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                // What came before the end, or the reset, counts.
                _ => has_ended = true,
            }
        }
        while let Some((opcode, payload)) = self.input.next() {
            match opcode {
                ws::PING => {
                    self.shared.lock().seen.n_pings += 1;
                    if conduct.answers_pings {
                        ws::push_frame(&mut self.out, ws::FINAL | ws::PONG, &payload);
                    }
                }
                ws::PONG if payload == b"relay" => self.shared.lock().seen.n_pongs += 1,
                ws::CLOSE => return self.closed(conduct, &payload),
                _ => {}
            }
        }
        if has_ended {
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The subscriber's close frame: the answer to the relay's, or to be answered.
    fn closed(&mut self, conduct: &Conduct, payload: &[u8]) -> io::Result<ControlFlow<()>> {
        if !self.is_closing {
            let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
            let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
            self.shared.lock().seen.closes.push((code, reason));
            if !conduct.answers_close {
                self.is_closing = true; // sends no more events, and leaves the end to the subscriber
                return Ok(ControlFlow::Continue(()));
            }
            ws::push_frame(&mut self.out, ws::FINAL | ws::CLOSE, payload);
            self.flush()?;
        }
        self.stream.end()?;
        Ok(ControlFlow::Break(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.stream.flush()?;
        self.out.clear();
        Ok(())
    }

    /// Waits until the subscriber has sent something (if that matters), there are events, or the time is over.
    fn wait(&mut self, for_input: bool, limit: Duration) -> io::Result<()> {
        let socket = if for_input { self.stream.tcp().as_raw_fd() } else { -1 };
        poll(&[socket, self.wakes.as_raw_fd()], limit)?;
        let mut wakes = [0; 4096];
        match self.wakes.read(&mut wakes) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

/// How long a connection may sleep without being late for something of its own.
fn sleep(conduct: &Conduct) -> Duration {
    let mut sleep = MAX_SLEEP;
    if conduct.rate.is_some() {
        sleep = Duration::from_millis(1);
    }
    conduct.ping_every.map_or(sleep, |interval| sleep.min(interval))
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn is_readable(&self) -> io::Result<bool> {
        poll(&[self.tcp().as_raw_fd()], Duration::ZERO)
    }

    /// Ends the sending side, and waits until the other end has closed, so that everything arrives.
    fn end(&mut self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.tcp().shutdown(Shutdown::Write)?;
        self.tcp().set_read_timeout(Some(PATIENCE))?;
        io::copy(&mut self.tcp(), &mut io::sink()).map(drop)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Whether one of the files can be read within the time.
fn poll(files: &[i32], limit: Duration) -> io::Result<bool> {
    let mut polled: Vec<libc::pollfd> = files
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: poll writes to the structures that it is given, whose number is theirs.
    match unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, limit) } {
        -1 => match io::Error::last_os_error() {
            error if error.kind() == ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
        n_ready => Ok(n_ready > 0),
    }
}

/// As relays write it.
fn text_of_time(millis: u64) -> String {
    let time = DateTime::from_timestamp_millis(millis as i64).expect("a time that a calendar has");
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
