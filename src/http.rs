//! Thread `http`: `/metrics`, `/healthz` and `/readyz`, where METRICS_ADDR asks for them.
//!
//! Owns the listener. Changes nothing and knows no secrets; still it is meant for the machine itself or a network of one's
//! own, since it answers whoever asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tiny_http::{Header, Method, Request, Response, Server};

use crate::exposition::{CONTENT_TYPE, Exposition};
use crate::metrics::Metrics;
use crate::shutdown::Stop;
use crate::turns::{self, Watch};

/// How long the listener waits for a request before it looks for a stop.
const TURN: Duration = Duration::from_millis(500);

/// A thread that has taken no turn for so long hangs: a statement ends after 60 s.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Http {
    server: Server,
    exposition: Exposition,
    metrics: Arc<Metrics>,
    turns: Watch,
    /// The threads that had taken no turn when they were last looked at.
    missing: Vec<String>,
    /// When none was missing last.
    sound_at: Instant,
}

type Answer = (u16, &'static str, String);

const TEXT: &str = "text/plain; charset=utf-8";

impl Http {
    /// Listens on `address`, `host:port`.
    ///
    /// # Errors
    ///
    /// The address is taken, or not this machine's.
    pub fn listen(address: &str, exposition: Exposition, metrics: Arc<Metrics>, turns: Watch) -> anyhow::Result<Http> {
        let server = Server::http(address)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("failed to listen on METRICS_ADDR={address}"))?;
        log::info!("metrics are at http://{}/metrics", server.server_addr());
        Ok(Http {
            server,
            exposition,
            metrics,
            turns,
            missing: Vec::new(),
            sound_at: Instant::now(),
        })
    }

    /// Answers until `stop`.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        while !stop.is_requested() {
            let request = self.server.recv_timeout(TURN);
            turns::take();
            self.missing = self.turns.missing();
            if self.missing.is_empty() {
                self.sound_at = Instant::now();
            }
            match request {
                Ok(Some(request)) => self.answer(request),
                Ok(None) => {}
                Err(error) => {
                    log::debug!("a connection to METRICS_ADDR could not be taken: {error}");
                    stop.wait(TURN);
                }
            }
        }
        Ok(())
    }

    fn answer(&self, request: Request) {
        let path = request.url().split('?').next().unwrap_or_default();
        let (status, kind, text) = match (request.method(), path) {
            (Method::Get | Method::Head, path) => self.page(path),
            _ => (405, TEXT, "only GET is answered\n".to_owned()),
        };
        let mut response = Response::from_string(text).with_status_code(status);
        if let Ok(header) = Header::from_bytes("Content-Type", kind) {
            response.add_header(header);
        }
        // Who has hung up wants no answer.
        let _ = request.respond(response);
    }

    fn page(&self, path: &str) -> Answer {
        match path {
            "/metrics" => match self.exposition.text() {
                Ok(text) => (200, CONTENT_TYPE, text),
                Err(error) => (500, TEXT, format!("the metrics cannot be written: {error}\n")),
            },
            "/healthz" => verdict(self.health()),
            "/readyz" => verdict(self.metrics.progress.check()),
            _ => (404, TEXT, "here are /metrics, /healthz and /readyz\n".to_owned()),
        }
    }

    /// Whether all threads still take turns; those of an idle worker, or one that waits for a server, do.
    fn health(&self) -> Result<(), String> {
        let time = self.sound_at.elapsed();
        if time < PATIENCE {
            return Ok(());
        }
        Err(format!(
            "no sign of {} for {} s",
            self.missing.join(", "),
            time.as_secs()
        ))
    }
}

fn verdict(result: Result<(), String>) -> Answer {
    match result {
        Ok(()) => (200, TEXT, "ok\n".to_owned()),
        Err(reason) => (503, TEXT, format!("{reason}\n")),
    }
}
