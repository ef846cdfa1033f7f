//! Waiting between tries, and saying so once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::shutdown::Stop;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that double from 50 ms to 5 s, each cut by a random part of up to half, so that processes that failed together do
/// not try again together.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Waits before the next try; whether a stop was requested meanwhile.
    pub fn wait(&mut self, stop: &Stop) -> bool {
        let full = (FIRST * 2u32.saturating_pow(self.failures)).min(LONGEST);
        self.failures = self.failures.saturating_add(1).min(16);
        stop.wait(full.mul_f64(1.0 - fastrand::f64() / 2.0))
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Whether a server is there: one line when it goes, one when it is back, whichever threads notice.
pub struct Outage {
    server: &'static str,
    since: Mutex<Option<Instant>>,
}

impl Outage {
    pub fn new(server: &'static str) -> Self {
        Outage {
            server,
            since: Mutex::new(None),
        }
    }

    /// A connection could not be made or used.
    pub fn down(&self, reason: &str) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            *since = Some(Instant::now());
            log::warn!(
                "waiting for {}: {reason}; nothing is acknowledged meanwhile, nothing is lost",
                self.server
            );
        }
    }

    /// A connection works.
    pub fn up(&self) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = since.take() {
            log::info!("{} is back after {:.1} s", self.server, since.elapsed().as_secs_f64());
        }
    }
}
