//! Waiting between tries, and saying so once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::shutdown::Stop;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that double from 50 ms to 5 s, each cut by a random part of up to half, so that processes that failed together do
/// not try again together. They begin anew once nothing has failed for a while.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
    waited_at: Option<Instant>,
}

impl Backoff {
    /// Waits before the next try; whether a stop was requested meanwhile.
    pub fn wait(&mut self, stop: &Stop) -> bool {
        // A try may itself take as long as its time limits allow.
        if self.waited_at.is_some_and(|at| at.elapsed() > 6 * LONGEST) {
            self.reset();
        }
        let full = (FIRST * 2u32.saturating_pow(self.failures)).min(LONGEST);
        self.failures = self.failures.saturating_add(1).min(16);
        let is_stopped = stop.wait(full.mul_f64(1.0 - fastrand::f64() / 2.0));
        self.waited_at = Some(Instant::now());
        is_stopped
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Whether a server serves: one line when the first of those who need it has to wait for it, one when the last no longer
/// has to.
pub struct Outage {
    server: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: usize,
    since: Option<Instant>,
    /// Somebody who waited was served, and nobody has failed since.
    has_served: bool,
    /// When somebody who had waited was served last.
    served_at: Option<Instant>,
    /// What was said last about why.
    reason: String,
    /// Why, as far as somebody has to mend it.
    said: BTreeSet<String>,
}

impl Outage {
    pub fn new(server: &'static str) -> Arc<Outage> {
        Arc::new(Outage {
            server,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the server is waited for, while it is.
    pub fn reason(&self) -> Option<String> {
        let state = self.state();
        (state.waiting > 0).then(|| state.reason.clone())
    }

    /// Takes back one who waited, and may have been served; how long the outage was if it is over.
    fn leave(&self, is_served: bool) -> Option<Duration> {
        let mut state = self.state();
        if is_served {
            state.has_served = true;
            state.served_at = Some(Instant::now());
        }
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting > 0 {
            return None;
        }
        state.said.clear();
        let since = state.since.take()?;
        state.has_served.then(|| since.elapsed())
    }
}

/// Reasons said in one outage at most: some servers put into them what differs from row to row.
const MAX_SAID: usize = 20;

/// One of those who need a server.
pub struct Party {
    outage: Arc<Outage>,
    is_waiting: bool,
}

impl Party {
    pub fn new(outage: &Arc<Outage>) -> Party {
        Party {
            outage: Arc::clone(outage),
            is_waiting: false,
        }
    }

    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// When somebody who had waited for the server was served last.
    pub fn served_at(&self) -> Option<Instant> {
        self.outage.state().served_at
    }

    /// The server could not be reached, or does not serve at the moment.
    pub fn down(&mut self, reason: &str) {
        self.down_since(reason, Instant::now());
    }

    /// The same, found out some time after it began.
    pub fn down_since(&mut self, reason: &str, since: Instant) {
        let is_first = self.join(reason, since);
        if is_first {
            log::warn!("waiting for {}: {reason}; nothing is lost", self.outage.server);
        } else {
            log::debug!("still waiting for {}: {reason}", self.outage.server);
        }
    }

    /// The server will not serve before somebody mends what the reason says: said even if an outage has been said.
    pub fn blocked(&mut self, reason: &str) {
        self.join(reason, Instant::now());
        let is_new = {
            let mut state = self.outage.state();
            reason.clone_into(&mut state.reason);
            state.said.len() < MAX_SAID && state.said.insert(reason.to_owned())
        };
        if is_new {
            log::error!("{reason}; waiting until it is mended, nothing is lost");
        }
    }

    /// Whether nobody was waiting.
    fn join(&mut self, reason: &str, since: Instant) -> bool {
        let mut state = self.outage.state();
        if !self.is_waiting {
            self.is_waiting = true;
            state.waiting += 1;
        }
        state.has_served = false;
        let is_first = state.since.is_none();
        if is_first {
            reason.clone_into(&mut state.reason);
        }
        state.since.get_or_insert(since);
        is_first
    }

    /// The server has served.
    pub fn up(&mut self) {
        self.leave(true);
    }

    fn leave(&mut self, is_served: bool) {
        if std::mem::take(&mut self.is_waiting)
            && let Some(time) = self.outage.leave(is_served)
        {
            log::info!("{} is back after {:.1} s", self.outage.server, time.as_secs_f64());
        }
    }
}

impl Drop for Party {
    /// Who is gone waits no longer, but has not seen the server serve either: that it is back is for others to tell.
    fn drop(&mut self) {
        self.leave(false);
    }
}

/// What a server refuses though it is there: one line when it begins to, one when it does no longer.
#[derive(Default)]
pub struct Refusal {
    said: Option<(String, Instant)>,
}

impl Refusal {
    /// `line` says what is refused, why, what becomes of it meanwhile, and what to do.
    pub fn say(&mut self, line: String) {
        if self.said.as_ref().is_some_and(|(said, _)| *said == line) {
            log::debug!("still: {line}");
            return;
        }
        log::warn!("{line}");
        let since = self.said.take().map_or_else(Instant::now, |(_, since)| since);
        self.said = Some((line, since));
    }

    pub fn end(&mut self, what: &str) {
        if let Some((_, since)) = self.said.take() {
            log::info!("{what} again after {:.1} s", since.elapsed().as_secs_f64());
        }
    }
}
