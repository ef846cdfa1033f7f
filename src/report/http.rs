//! Thread `http`: `/metrics`, `/healthz` and `/readyz`, where METRICS_ADDR asks for them.
//!
//! Owns the listener, and what is read of a request: its head, up to a limit of size and time. Changes nothing and knows no
//! secrets; still it is meant for the machine itself or a network of one's own, since it answers whoever asks.
//!
//! Invariant: nothing that a peer sends, or does not send, keeps others from an answer or stops this thread. Each connection
//! has a time limit, all of them take turns, and the oldest gives way when there are too many. That is why there is no
//! server crate here: tiny_http takes the room for a body as long as its head says, and waits for it without end; oxhttp and
//! touche cannot be stopped, and start threads that nobody watches.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::report::exposition::{CONTENT_TYPE, Exposition};
use crate::report::metrics::Metrics;
use crate::servers::retry::{Backoff, Refusal};
use crate::shown;
use crate::shutdown::Stop;
use crate::turns::{self, Watch};

/// How long the listener waits for a connection before it looks for a stop.
const TURN: Duration = Duration::from_millis(500);

/// How long a request may take to come, and its answer to go.
const LIMIT: Duration = Duration::from_secs(2);

/// Bytes of a request's head; no client that asks for one of the pages sends nearly as many.
const MAX_HEAD: usize = 8 << 10;

/// Connections at a time, far below the files that a process may open. A client that asks for a page is done at once, so the
/// oldest of so many is one that does not.
const MAX_CONNECTIONS: usize = 128;

/// A thread that has taken no turn for so long hangs: PostgreSQL's answer is given up after 35 s.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Http {
    /// `host:port`
    address: String,
    pages: Arc<Pages>,
    turns: Watch,
}

/// What is answered.
struct Pages {
    exposition: Exposition,
    metrics: Arc<Metrics>,
    health: Mutex<Health>,
}

struct Health {
    /// The threads that had taken no turn when they were last looked at.
    missing: Vec<String>,
    /// When none was missing last.
    sound_at: Instant,
}

/// Status, content type, text.
type Answer = (&'static str, &'static str, String);

const TEXT: &str = "text/plain; charset=utf-8";

impl Http {
    pub fn new(address: &str, exposition: Exposition, metrics: Arc<Metrics>, turns: Watch) -> Http {
        let health = Health {
            missing: Vec::new(),
            sound_at: Instant::now(),
        };
        Http {
            address: address.to_owned(),
            pages: Arc::new(Pages {
                exposition,
                metrics,
                health: Mutex::new(health),
            }),
            turns,
        }
    }

    /// Answers until `stop`.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("failed to prepare METRICS_ADDR")?;
        let Some(listener) = self.listen(stop) else {
            return Ok(());
        };
        runtime.block_on(self.serve(listener, stop))
    }

    /// Listens as soon as the address can be had; `None` if a stop comes before. Another process may have it, and is no
    /// reason to apply nothing.
    fn listen(&self, stop: &Stop) -> Option<std::net::TcpListener> {
        let mut refusal = Refusal::default();
        let mut backoff = Backoff::default();
        loop {
            match std::net::TcpListener::bind(&self.address) {
                Ok(listener) => {
                    log::info!("metrics are at http://{}/metrics", self.address);
                    return Some(listener);
                }
                Err(error) => refusal.say(format!(
                    "cannot listen on METRICS_ADDR={}: {error}; trying on, the worker works without; each process on a \
                     machine needs an address of its own, or METRICS_ADDR empty",
                    self.address
                )),
            }
            if backoff.wait(stop) {
                return None;
            }
        }
    }

    /// Takes connections, each of which is answered by a task of its own. Those that are open at a stop are closed with the
    /// runtime.
    async fn serve(&mut self, listener: std::net::TcpListener, stop: &Stop) -> anyhow::Result<()> {
        listener
            .set_nonblocking(true)
            .context("failed to prepare METRICS_ADDR")?;
        let listener = TcpListener::from_std(listener).context("failed to prepare METRICS_ADDR")?;
        let mut connections: VecDeque<JoinHandle<()>> = VecDeque::new();
        while !stop.is_requested() {
            let accepted = timeout(TURN, listener.accept()).await;
            turns::take();
            self.look_at_threads();
            connections.retain(|connection| !connection.is_finished());
            match accepted {
                Ok(Ok((peer, _))) => {
                    if connections.len() >= MAX_CONNECTIONS
                        && let Some(oldest) = connections.pop_front()
                    {
                        oldest.abort();
                    }
                    connections.push_back(tokio::spawn(answer(peer, Arc::clone(&self.pages))));
                }
                Ok(Err(error)) => {
                    log::debug!("a connection to METRICS_ADDR could not be taken: {error}");
                    tokio::time::sleep(TURN).await;
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn look_at_threads(&mut self) {
        let mut health = self.pages.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.missing = self.turns.missing();
        if health.missing.is_empty() {
            health.sound_at = Instant::now();
        }
    }
}

/// Answers one request, and closes the connection.
async fn answer(mut peer: TcpStream, pages: Arc<Pages>) {
    let answered = timeout(LIMIT, async {
        let line = request_line(&mut peer).await?;
        peer.write_all(pages.answer(&line).as_bytes()).await
    });
    if let Ok(Err(error)) = answered.await {
        log::debug!("a request to METRICS_ADDR was not answered: {error}");
    }
}

/// The first line of a request whose head is whole; empty if it is not, or too long. A body is left unread.
async fn request_line(peer: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while head.len() < MAX_HEAD {
        let number = peer.read(&mut part).await?;
        if number == 0 {
            break;
        }
        head.extend_from_slice(&part[..number]);
        let mut lines = head.split(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        // What follows the last line feed is no whole line yet.
        if lines.rev().skip(1).any(|line| line.trim_ascii().is_empty()) {
            return Ok(String::from_utf8_lossy(first.trim_ascii()).into_owned());
        }
    }
    Ok(String::new())
}

impl Pages {
    /// The whole answer to a request that begins with this line.
    fn answer(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        let (status, kind, text) = match method {
            "GET" | "HEAD" => self.page(path),
            "" => (
                "400 Bad Request",
                TEXT,
                "this is no request, or too long a one\n".to_owned(),
            ),
            _ => ("405 Method Not Allowed", TEXT, "only GET is answered\n".to_owned()),
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
            "/metrics" => match self.exposition.text() {
                Ok(text) => ("200 OK", CONTENT_TYPE, text),
                Err(error) => (
                    "500 Internal Server Error",
                    TEXT,
                    format!("the metrics cannot be written: {error}\n"),
                ),
            },
            "/healthz" => verdict(self.health()),
            "/readyz" => verdict(self.metrics.readiness.check()),
            _ => (
                "404 Not Found",
                TEXT,
                "here are /metrics, /healthz and /readyz\n".to_owned(),
            ),
        }
    }

    /// Whether all threads still take turns; those of an idle worker, or one that waits for a server, do.
    fn health(&self) -> Result<(), String> {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let time = health.sound_at.elapsed();
        if time < PATIENCE {
            return Ok(());
        }
        Err(format!(
            "no sign of {} for {} s",
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
