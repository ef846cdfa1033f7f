//! Waiting between attempts, and logging it once per outage.
//!
//! An outage or refusal that recurs is logged individually three times a minute. The others are summed up in one line a
//! minute, unless they last more than five seconds.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::logging::repeats::Repeats;
use crate::runtime::shutdown::{Stop, Stopped};

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that double from 50 ms to 5 s, each shortened at random by up to half, so that processes that failed together
/// do not retry together. They start at 50 ms again once nothing has failed for a while.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
    waited_at: Option<Instant>,
}

impl Backoff {
    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// Fails if a stop is requested.
    pub fn wait(&mut self, stop: &Stop) -> Result<(), Stopped> {
        // Longer than LONGEST, because an attempt may itself take as long as its time limits allow.
        if self.waited_at.is_some_and(|at| at.elapsed() > 6 * LONGEST) {
            self.reset();
        }
        let full = (FIRST * 2u32.saturating_pow(self.failures)).min(LONGEST);
        self.failures = self.failures.saturating_add(1).min(16);
        stop.wait(full.mul_f64(1.0 - fastrand::f64() / 2.0));
        self.waited_at = Some(Instant::now());
        stop.check()
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// How many outages or refusals are logged individually within `QUOTA_TIME`.
const QUOTA: usize = 3;
const QUOTA_TIME: Duration = Duration::from_secs(60);

/// An outage or refusal that lasts this long is always logged individually.
const LONG: Duration = Duration::from_secs(5);

/// When the last outages or refusals that were logged individually began.
#[derive(Default)]
struct Quota([Option<Instant>; QUOTA]);

impl Quota {
    /// Whether an outage or refusal that begins now is logged individually.
    fn take(&mut self, now: Instant) -> bool {
        let is_free = |at: &&mut Option<Instant>| at.is_none_or(|at| now.saturating_duration_since(at) >= QUOTA_TIME);
        self.0.iter_mut().find(is_free).map(|at| *at = Some(now)).is_some()
    }
}

/// The availability of a server. Logs one line when the first waiter starts waiting and one when the last stops.
pub struct Outage {
    server: &'static str,
    state: Mutex<State>,
    /// Outages that are not logged individually.
    pub repeats: Repeats,
}

#[derive(Default)]
struct State {
    waiting: usize,
    since: Option<Instant>,
    quota: Quota,
    /// Whether this outage has been logged individually.
    is_said: bool,
    /// A waiter was served, and no waiter has failed since.
    has_served: bool,
    /// When a waiter was last served.
    served_at: Option<Instant>,
    /// The last reported reason.
    reason: String,
    /// The reasons logged in this outage that only an operator can fix.
    said: BTreeSet<String>,
}

impl Outage {
    pub fn new(server: &'static str) -> Arc<Outage> {
        Arc::new(Outage {
            server,
            state: Mutex::default(),
            repeats: Repeats::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reason of the current outage, if any.
    pub fn reason(&self) -> Option<String> {
        let state = self.state();
        (state.waiting > 0).then(|| state.reason.clone())
    }

    /// Ends the wait of one waiter, which may have been served, and logs the recovery if it was the last.
    fn leave(&self, is_served: bool) {
        let mut state = self.state();
        if is_served {
            state.has_served = true;
            state.served_at = Some(Instant::now());
        }
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting > 0 {
            return;
        }
        state.said.clear();
        let Some(since) = state.since.take() else { return };
        let time = since.elapsed().as_secs_f64();
        if !state.is_said {
            let reason = format!("waiting for {}: {}", self.server, state.reason);
            self.repeats
                .count("outages", &reason, format_args!("over after {time:.1} s"));
            log::debug!("{} is back after {time:.1} s, counted with other outages", self.server);
        } else if state.has_served {
            log::info!("{} is back after {time:.1} s", self.server);
        }
    }
}

/// At most so many reasons are logged per outage: some servers include text that differs from row to row.
const MAX_SAID: usize = 20;

/// A thread's use of a server, which waits while the server is down.
pub struct Waiter {
    outage: Arc<Outage>,
    is_waiting: bool,
}

impl Waiter {
    pub fn new(outage: &Arc<Outage>) -> Waiter {
        Waiter {
            outage: Arc::clone(outage),
            is_waiting: false,
        }
    }

    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// When the server last served a waiter, over any `Waiter` of the same outage.
    pub fn served_at(&self) -> Option<Instant> {
        self.outage.state().served_at
    }

    /// Reports that the server cannot be reached, or cannot serve at the moment.
    pub fn down(&mut self, reason: &str) {
        self.down_since(reason, Instant::now());
    }

    /// Like `down`, for an outage that began at `since`.
    pub fn down_since(&mut self, reason: &str, since: Instant) {
        if self.join(reason, since, false) {
            log::warn!("waiting for {}: {reason}; nothing is lost", self.outage.server);
        } else {
            log::debug!("still waiting for {}: {reason}", self.outage.server);
        }
    }

    /// Reports a `reason` that an operator must fix before the server can serve. Logged even during an outage that has
    /// been logged.
    pub fn blocked(&mut self, reason: &str) {
        self.join(reason, Instant::now(), true);
        let is_new = {
            let mut state = self.outage.state();
            reason.clone_into(&mut state.reason);
            state.said.len() < MAX_SAID && state.said.insert(reason.to_owned())
        };
        if is_new {
            log::error!("{reason}; paused until this is fixed, nothing is lost");
        }
    }

    /// Starts or continues waiting. Whether the caller is to log the outage now; with `is_said` the caller logs in any
    /// case.
    fn join(&mut self, reason: &str, since: Instant, is_said: bool) -> bool {
        let mut state = self.outage.state();
        let state = &mut *state;
        if !self.is_waiting {
            self.is_waiting = true;
            state.waiting += 1;
        }
        state.has_served = false;
        let is_first = state.since.is_none();
        if is_first {
            reason.clone_into(&mut state.reason);
            state.is_said = false;
        }
        let since = *state.since.get_or_insert(since);
        let was_said = state.is_said;
        state.is_said |= is_said || is_first && state.quota.take(since) || since.elapsed() > LONG;
        state.is_said && !was_said
    }

    /// Reports that the server has served.
    pub fn up(&mut self) {
        self.leave(true);
    }

    fn leave(&mut self, is_served: bool) {
        if std::mem::take(&mut self.is_waiting) {
            self.outage.leave(is_served);
        }
    }
}

impl Drop for Waiter {
    /// Ends the wait without reporting recovery.
    fn drop(&mut self) {
        self.leave(false);
    }
}

/// A command that a server refuses although it is up. Logs one line when the refusals begin and one when they end.
#[derive(Default)]
pub struct Refusal {
    refused: Option<Refused>,
    quota: Quota,
    /// Refusals that are not logged individually.
    repeats: Repeats,
}

struct Refused {
    line: String,
    since: Instant,
    is_said: bool,
}

impl Refusal {
    /// Reports a refusal. `line` states what is refused and why, what happens meanwhile, and what to do.
    pub fn say(&mut self, line: String) {
        let now = Instant::now();
        let (since, was_said) = match &self.refused {
            Some(refused) => (refused.since, refused.is_said && refused.line == line),
            None => (now, false),
        };
        let is_other = self.refused.as_ref().is_some_and(|refused| refused.line != line);
        let is_said = was_said || is_other || now - since > LONG || self.quota.take(now);
        if is_said && !was_said {
            log::warn!("{line}");
        } else {
            log::debug!("still: {line}");
        }
        self.refused = Some(Refused { line, since, is_said });
    }

    pub fn end(&mut self, what: &str) {
        self.repeats.report_due();
        let Some(Refused { line, since, is_said }) = self.refused.take() else {
            return;
        };
        let time = since.elapsed().as_secs_f64();
        if is_said {
            log::info!("{what} again after {time:.1} s");
        } else {
            self.repeats
                .count("refusals", &line, format_args!("over after {time:.1} s"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_outages_a_minute_are_logged_individually() {
        let start = Instant::now();
        let mut quota = Quota::default();
        let mut taken = Vec::new();
        for second in 0..130 {
            if quota.take(start + Duration::from_secs(second)) {
                taken.push(second);
            }
        }
        assert_eq!(taken, [0, 1, 2, 60, 61, 62, 120, 121, 122]);
    }

    #[test]
    fn outages_that_are_not_logged_individually_are_counted() {
        let outage = Outage::new("redis");
        let mut waiter = Waiter::new(&outage);
        let said = (0..30).filter(|_| {
            let is_said = waiter.join("connection refused", Instant::now(), false);
            waiter.up();
            is_said
        });
        assert_eq!(said.count(), QUOTA);
        let long_ago = Instant::now().checked_sub(2 * LONG).unwrap();
        assert!(waiter.join("connection refused", long_ago, false), "it has lasted");
        assert!(
            !waiter.join("connection refused", long_ago, false),
            "it has been logged"
        );
        waiter.up();
        let lines = outage.repeats.take_lines(Instant::now(), Duration::ZERO);
        assert_eq!(
            lines,
            [
                "27 more outages in the last minute: waiting for redis: connection refused; the last was over after 0.0 s"
            ]
        );
    }
}
