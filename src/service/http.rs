//! Thread `http`: serves `/metrics`, `/healthz` and `/readyz` if METRICS_ADDR is set.
//!
//! Owns the listener, and the parsing of requests: only their head is read, up to a limit of size and time. The pages
//! change nothing and contain no secrets. Still the address should be local or in a private network, because every
//! client is answered.
//!
//! Invariant: nothing that a peer sends, or fails to send, keeps others from an answer or stops this thread. Each
//! connection has a thread and a time limit of its own. This rules out the server crates: tiny_http allocates as many
//! bytes for a body as its head announces, and waits for them without a limit; oxhttp and touche cannot be stopped, and
//! their threads are never joined.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use socket2::SockRef;

use crate::logging::shown;
use crate::runtime::heartbeat::{self, Watch};
use crate::runtime::retry::{Backoff, Refusal};
use crate::runtime::shutdown::{Stop, Stopped};
use crate::runtime::threads::Threads;
use crate::service::connections::Connections;

/// How long the listener waits for a connection before it checks for a stop.
const TICK: Duration = Duration::from_millis(500);

/// How long a request and its answer may take together.
const LIMIT: Duration = Duration::from_secs(2);

/// The largest accepted head of a request, in bytes. Clients of these pages send far fewer.
const MAX_HEAD: u64 = 8 << 10;

/// A thread without a heartbeat for this long is stuck: a reply of PostgreSQL is given up after 35 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the process shows of itself.
pub trait Pages: Send + Sync {
    /// The metrics in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// They could not be encoded.
    fn metrics(&self) -> Result<String, fmt::Error>;

    /// Whether the process makes progress. The error states why it does not.
    fn readiness(&self) -> Result<(), String>;
}

pub struct Http {
    /// `host:port`
    address: String,
    site: Arc<Site>,
    heartbeats: Watch,
}

/// The pages and the health of the threads.
struct Site {
    pages: Box<dyn Pages>,
    health: Mutex<Health>,
}

struct Health {
    /// The threads without a heartbeat at the last check.
    missing: Vec<String>,
    /// When a check last found no thread missing.
    sound_at: Instant,
}

/// Status, content type, text.
type Answer = (&'static str, &'static str, String);

const TEXT: &str = "text/plain; charset=utf-8";

impl Http {
    fn new(address: &str, pages: impl Pages + 'static, heartbeats: Watch) -> Http {
        let health = Health {
            missing: Vec::new(),
            sound_at: Instant::now(),
        };
        Http {
            address: address.to_owned(),
            site: Arc::new(Site {
                pages: Box::new(pages),
                health: Mutex::new(health),
            }),
            heartbeats,
        }
    }

    /// Starts the thread if METRICS_ADDR, the `address`, is set.
    ///
    /// # Errors
    ///
    /// The system refuses the thread.
    pub fn spawn(
        threads: &mut Threads,
        address: Option<&str>,
        pages: impl Pages + 'static,
        stop: &Stop,
    ) -> anyhow::Result<()> {
        let Some(address) = address else { return Ok(()) };
        let http = Http::new(address, pages, threads.heartbeats.watch());
        threads.spawn_beside("http", stop, move |stop| http.run(stop))
    }

    /// Serves until `stop`, then closes the open connections.
    fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        let Ok(listener) = self.listen(stop) else {
            return Ok(());
        };
        let mut connections = Connections::default();
        while !stop.is_requested() {
            let accepted = listener.accept();
            heartbeat::beat();
            self.check_threads();
            match accepted {
                Ok((peer, _)) => {
                    let site = Arc::clone(&self.site);
                    connections.open(peer, move |peer| site.serve(peer));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    log::debug!("failed to accept a connection to METRICS_ADDR: {error}");
                    stop.wait(TICK);
                }
            }
        }
        Ok(())
    }

    /// Listens as soon as the address is free. If another process holds it, the worker still applies entries meanwhile.
    ///
    /// # Errors
    ///
    /// Fails if a stop is requested first.
    fn listen(&self, stop: &Stop) -> Result<TcpListener, Stopped> {
        let mut refusal = Refusal::default();
        let mut backoff = Backoff::default();
        loop {
            match bind(&self.address) {
                Ok(listener) => {
                    log::info!("metrics are at http://{}/metrics", self.address);
                    return Ok(listener);
                }
                Err(error) => refusal.say(format!(
                    "cannot listen on METRICS_ADDR={}: {error}; retrying, entries are still processed; use a different address \
                     for each process, or leave METRICS_ADDR empty",
                    self.address
                )),
            }
            backoff.wait(stop)?;
        }
    }

    fn check_threads(&mut self) {
        let mut health = self.site.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.missing = self.heartbeats.missing();
        if health.missing.is_empty() {
            health.sound_at = Instant::now();
        }
    }
}

/// A listener whose `accept` blocks for at most `TICK`.
fn bind(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    SockRef::from(&listener).set_read_timeout(Some(TICK))?;
    Ok(listener)
}

impl Site {
    /// Answers one request.
    fn serve(&self, peer: &TcpStream) {
        let mut peer = Limited {
            peer,
            until: Instant::now() + LIMIT,
        };
        let answered = request_line(&mut peer).and_then(|line| peer.write_all(self.answer(&line).as_bytes()));
        if let Err(error) = answered {
            log::debug!("failed to answer a request to METRICS_ADDR: {error}");
        }
    }

    /// The complete response to a request that begins with this line.
    fn answer(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        let (status, kind, text) = match method {
            "GET" | "HEAD" => self.page(path),
            "" => (
                "400 Bad Request",
                TEXT,
                "this is not an HTTP request, or it is too long\n".to_owned(),
            ),
            _ => (
                "405 Method Not Allowed",
                TEXT,
                "only GET and HEAD are allowed\n".to_owned(),
            ),
        };
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nAllow: GET, HEAD\r\n\
             Connection: close\r\n\r\n",
            text.len()
        );
        if method != "HEAD" {
            answer += &text;
        }
        answer
    }

    fn page(&self, path: &str) -> Answer {
        match path {
            "/metrics" => match self.pages.metrics() {
                Ok(text) => ("200 OK", CONTENT_TYPE, text),
                Err(error) => (
                    "500 Internal Server Error",
                    TEXT,
                    format!("failed to encode the metrics: {error}\n"),
                ),
            },
            "/healthz" => verdict(self.health()),
            "/readyz" => verdict(self.pages.readiness()),
            _ => (
                "404 Not Found",
                TEXT,
                "here are /metrics, /healthz and /readyz\n".to_owned(),
            ),
        }
    }

    /// Whether all threads still take heartbeats; those of an idle worker, or one that waits for a server, do.
    fn health(&self) -> Result<(), String> {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let time = health.sound_at.elapsed();
        if time < PATIENCE {
            return Ok(());
        }
        Err(format!(
            "no heartbeat from {} for {} s",
            shown::list(&health.missing),
            time.as_secs()
        ))
    }
}

fn verdict(result: Result<(), String>) -> Answer {
    match result {
        Ok(()) => ("200 OK", TEXT, "ok\n".to_owned()),
        Err(reason) => ("503 Service Unavailable", TEXT, format!("{reason}\n")),
    }
}

/// The first line of a request; empty if the head is incomplete or longer than `MAX_HEAD`. A body is not read.
fn request_line(peer: impl Read) -> io::Result<String> {
    let mut lines = BufReader::new(peer.take(MAX_HEAD)).split(b'\n');
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.trim_ascii().is_empty() {
            return Ok(String::from_utf8_lossy(first.trim_ascii()).into_owned());
        }
    }
    Ok(String::new())
}

/// A connection that fails at a deadline, even if it keeps transferring a little.
struct Limited<'p> {
    peer: &'p TcpStream,
    until: Instant,
}

impl Limited<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.peer.set_read_timeout(self.left()?)?;
        self.peer.read(buffer)
    }
}

impl Write for Limited<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.peer.set_write_timeout(self.left()?)?;
        self.peer.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.peer.flush()
    }
}
