//! Thread `http`: serves `/metrics`, `/healthz`, `/readyz` and the page for people if METRICS_ADDR is set.
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
use crate::service::answer::{Answer, Document, OK};
use crate::service::connections::Connections;

/// How long the listener waits for a connection before it checks for a stop.
const TICK: Duration = Duration::from_millis(500);

/// How long a request and its answer may take together.
const LIMIT: Duration = Duration::from_secs(2);

/// How long the system keeps what a client does not read.
const UNREAD_LIMIT: Duration = Duration::from_secs(10);

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

/// What people are shown, at other paths.
pub trait Documents: Send + Sync {
    fn document(&self, path: &str, query: &str) -> Option<Document>;
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
    documents: Box<dyn Documents>,
    health: Mutex<Health>,
}

struct Health {
    /// The threads without a heartbeat at the last check.
    missing: Vec<String>,
    /// When a check last found no thread missing.
    sound_at: Instant,
}

impl Http {
    fn new(address: &str, pages: impl Pages + 'static, documents: impl Documents + 'static, heartbeats: Watch) -> Http {
        let health = Health {
            missing: Vec::new(),
            sound_at: Instant::now(),
        };
        Http {
            address: address.to_owned(),
            site: Arc::new(Site {
                pages: Box::new(pages),
                documents: Box::new(documents),
                health: Mutex::new(health),
            }),
            heartbeats,
        }
    }

    /// Starts the thread. `address` is METRICS_ADDR.
    ///
    /// # Errors
    ///
    /// The system refuses the thread.
    pub fn spawn(
        threads: &mut Threads,
        address: &str,
        pages: impl Pages + 'static,
        documents: impl Documents + 'static,
        stop: &Stop,
    ) -> anyhow::Result<()> {
        let http = Http::new(address, pages, documents, threads.heartbeats.watch());
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
                    log::info!("the page is at http://{}/, and metrics are at /metrics", self.address);
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
        // What the system still has to send when the connection is closed, it would otherwise keep for minutes.
        if let Err(error) = SockRef::from(peer.peer).set_tcp_user_timeout(Some(UNREAD_LIMIT)) {
            log::debug!("failed to limit the time for which an answer may stay unread: {error}");
        }
        let answered = request_line(&mut peer).and_then(|line| self.answer(&line, &mut peer));
        if let Err(error) = answered {
            log::debug!("failed to answer a request to METRICS_ADDR: {error}");
        }
    }

    /// Writes the response to a request that begins with this line.
    fn answer(&self, line: &str, peer: &mut impl Write) -> io::Result<()> {
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let answer = match method {
            "GET" | "HEAD" => self.page(path, query),
            "" => Answer::text("400 Bad Request", "this is not an HTTP request, or it is too long"),
            _ => Answer::text("405 Method Not Allowed", "only GET and HEAD are allowed"),
        };
        peer.write_all(answer.head().as_bytes())?;
        if method != "HEAD" {
            peer.write_all(answer.document.text.as_bytes())?;
        }
        Ok(())
    }

    fn page(&self, path: &str, query: &str) -> Answer {
        match path {
            "/metrics" => match self.pages.metrics() {
                Ok(text) => Answer::new(OK, CONTENT_TYPE, text),
                Err(error) => {
                    let text = format!("failed to encode the metrics: {error}");
                    Answer::text("500 Internal Server Error", &text)
                }
            },
            "/healthz" => verdict(self.health()),
            "/readyz" => verdict(self.pages.readiness()),
            _ => match self.documents.document(path, query) {
                Some(document) => Answer { status: OK, document },
                None => Answer::text(
                    "404 Not Found",
                    "here are / for people, /status.json, /history.json, /metrics, /healthz and /readyz",
                ),
            },
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
        Ok(()) => Answer::text(OK, "ok"),
        Err(reason) => Answer::text("503 Service Unavailable", &reason),
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
