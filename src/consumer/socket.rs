//! Thread `socket`: reads the relay from the term's position on, over one connection after the other.
//!
//! Owns which relay is read and from where, and the time between two connections. `session` owns what happens over one
//! connection.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::batch::Batch;
use super::begin::{self, Begin};
use super::choice::{Choice, FAILING, Relays};
use super::counts::{Cause, Counts};
use super::intake::{Intake, Progress};
use super::relay::dial::{DialError, Failure, dial};
use super::rewind;
use super::session::{End, Session};
use super::term::{Term, Terms};
use crate::runtime::retry::{Outage, Waiter};
use crate::runtime::shutdown::{Stop, Stopped};
use crate::settings::consumer::{ConsumerConfig, OnFutureCursor, Start};
use crate::settings::relay_url::RelayUrl;

/// Waits between connections: doubling, and shortened at random.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(64);

/// A connection that lasted this long was a good one.
const HEALTHY: Duration = Duration::from_secs(60);

/// How often a waiting thread checks whether it can go on.
const TICK: Duration = Duration::from_millis(100);

/// A cursor that the relay does not know yet is tried so often over so long: the relay may be catching up itself.
const FUTURE_TRIES: u32 = 3;
const FUTURE_TIME: Duration = Duration::from_secs(300);

/// The part of the pipeline that the thread shares with the others.
pub struct Shared {
    pub terms: Terms,
    pub counts: Arc<Counts>,
    pub outage: Arc<Outage>,
    pub relays: Relays,
    pub stop: Stop,
}

pub struct Reader {
    config: ConsumerConfig,
    outbox: Sender<Batch>,
    spent: Receiver<Vec<u8>>,
    intake: Intake,
    shared: Shared,
    waiter: Waiter,
    choice: Choice,
    /// Whether the place in the relay is yet to be found by the time of the events.
    is_lost: bool,
    n_failed: u32,
    future: Option<Future>,
    usual_rate: f64,
}

/// How often and since when the relay has refused the cursor as not yet known.
struct Future {
    since: Instant,
    tries: u32,
}

impl Future {
    /// Whether the relay had enough tries and time to catch up.
    fn is_over(&self, now: Instant) -> bool {
        self.tries >= FUTURE_TRIES && now - self.since >= FUTURE_TIME
    }
}

impl Reader {
    pub fn new(
        config: ConsumerConfig,
        outbox: Sender<Batch>,
        spent: Receiver<Vec<u8>>,
        intake: Intake,
        shared: Shared,
    ) -> Reader {
        Reader {
            waiter: Waiter::new(&shared.outage),
            choice: Choice::new(shared.relays.clone()),
            config,
            outbox,
            spent,
            intake,
            shared,
            is_lost: false,
            n_failed: 0,
            future: None,
            usual_rate: 0.0,
        }
    }

    /// Reads until a stop is requested, or the thread that receives the batches ends.
    ///
    /// # Errors
    ///
    /// The relay does not know the cursor, and the settings want a stop then.
    pub fn run(mut self) -> anyhow::Result<()> {
        let result = self.read_terms();
        self.intake.repeats.report_all();
        match result {
            Err(error) if error.is::<Stopped>() => Ok(()),
            result => result,
        }
    }

    fn read_terms(&mut self) -> anyhow::Result<()> {
        loop {
            let term = self.shared.terms.wait(&self.shared.stop)?;
            let mut at = self.begin(&term);
            while self.shared.terms.is_current(term.number) {
                self.read_once(&term, &mut at)?;
            }
        }
    }

    fn relay(&self) -> &RelayUrl {
        self.choice.relays().current()
    }

    /// Finds where the term begins.
    fn begin(&mut self, term: &Term) -> Progress {
        let authority = self.relay().authority();
        let is_alone = !self.config.is_beside_others;
        let begin = begin::decide(&term.remembered, &authority, self.config.start, is_alone);
        self.is_lost = matches!(begin, Begin::ByTime(_));
        match begin {
            Begin::After(position) => {
                log::info!("continuing with {authority} after seq {}", shown(position.seq));
                Progress::new(position.seq, position.time_ms)
            }
            Begin::TakeOver(position) => {
                log::warn!(
                    "taking over from another producer: continuing with {authority} after seq {}; events that it read and \
                     did not append are lost, and a few may be appended twice",
                    shown(position.seq)
                );
                Progress::new(position.seq, position.time_ms)
            }
            Begin::ByTime(position) => {
                log::warn!("the position is another relay's: looking for it in {authority} by the time of its events");
                Progress::new(position.seq, position.time_ms)
            }
            Begin::Fresh(start) => {
                let seq = match start {
                    Start::Now => None,
                    Start::Oldest => Some(0),
                    Start::Seq(seq) => Some(seq - 1),
                };
                log::warn!(
                    "redis holds no position: beginning with {}, as FIREHOSE_START says",
                    seq.map_or_else(|| "the present".to_owned(), |seq| format!("seq {}", seq + 1))
                );
                Progress::new(seq, 0)
            }
        }
    }

    /// Reads over one connection, and waits before the next.
    fn read_once(&mut self, term: &Term, at: &mut Progress) -> anyhow::Result<()> {
        if self.wait_for_room(term)? {
            return Ok(());
        }
        self.change_relay_if_due();
        if self.is_lost {
            match rewind::find(self.relay(), at.time_ms, &self.shared.stop) {
                Ok(seq) => *at = Progress::new(Some(seq), at.time_ms),
                Err(failure) => return self.not_reached(failure),
            }
            self.is_lost = false;
        }
        let dialed_at = Instant::now();
        let before = at.seq;
        let cursor = at.cursor();
        let socket = match dial(self.relay(), cursor, &self.shared.stop) {
            Ok(socket) => socket,
            Err(failure) => return self.not_reached(failure),
        };
        log::info!("reading {} from seq {}", self.relay().authority(), shown(cursor));
        let authority: Arc<str> = self.relay().authority().into();
        let mut session = Session {
            socket,
            relay: authority,
            term: term.number,
            outbox: &self.outbox,
            spent: &self.spent,
            intake: &mut self.intake,
            terms: &self.shared.terms,
            counts: &self.shared.counts,
            waiter: &mut self.waiter,
            stop: &self.shared.stop,
            relays: &self.shared.relays,
            usual_rate: &mut self.usual_rate,
        };
        let end = session.run(at);
        self.shared.counts.is_connected.store(false, Relaxed);
        let has_progressed = at.seq != before;
        if has_progressed {
            self.future = None;
            self.choice.worked();
        }
        if dialed_at.elapsed() >= HEALTHY {
            self.n_failed = 0;
        }
        self.after(end, at, has_progressed)
    }

    /// Waits while Redis is away. Returns whether the term has ended meanwhile.
    fn wait_for_room(&self, term: &Term) -> Result<bool, Stopped> {
        let shared = &self.shared;
        while shared.terms.is_current(term.number) && self.outbox.is_full() {
            shared.stop.wait(TICK);
            shared.stop.check()?;
        }
        Ok(!shared.terms.is_current(term.number))
    }

    /// Acts on the end of a connection.
    fn after(&mut self, end: End, at: &mut Progress, has_progressed: bool) -> anyhow::Result<()> {
        let authority = self.relay().authority();
        let (cause, reason) = match end {
            End::Stopped => return Err(Stopped.into()),
            End::Lost => return Ok(()),
            End::Own => {
                self.shared.counts.reconnected(Cause::Own);
                return Ok(());
            }
            End::Return => {
                self.return_to_first();
                return Ok(());
            }
            End::Reset => {
                log::error!(
                    "{authority} counts its events anew: seq {} is not its last",
                    shown(at.seq)
                );
                return self.on_future_cursor(at);
            }
            // With a frame passed over, it means that nothing has followed yet.
            End::Error { name, .. } if name == "FutureCursor" && at.n_too_large < 2 => {
                self.shared.counts.reconnected(Cause::Error);
                return self.future_cursor(at);
            }
            End::Error { name, message } => (Cause::Error, format!("it ended the stream: {name} {message}")),
            End::TooLarge => {
                at.n_too_large += 1;
                (Cause::Unreadable, "a frame was larger than 16 MiB".to_owned())
            }
            End::Broken(cause, reason) => (cause, reason),
        };
        self.shared.counts.reconnected(cause);
        if has_progressed {
            log::info!("the connection to {authority} ended: {reason}; reconnecting");
            self.n_failed = 0;
            self.shared.stop.wait(Duration::from_secs(1).mul_f64(fastrand::f64()));
            return Ok(());
        }
        self.waiter.down(&format!("{authority}: {reason}"));
        self.wait_after_failure(Duration::ZERO)
    }

    fn not_reached(&mut self, failure: Failure) -> anyhow::Result<()> {
        let error: DialError = match failure {
            Failure::Stopped(stopped) => return Err(stopped.into()),
            Failure::Dial(error) => error,
        };
        self.shared.counts.reconnected(Cause::Dial);
        self.waiter.down(&format!("{}: {error}", self.relay().authority()));
        self.wait_after_failure(error.wait)
    }

    /// Waits before the next attempt, and at least for `shortest`.
    fn wait_after_failure(&mut self, shortest: Duration) -> anyhow::Result<()> {
        self.choice.failed(Instant::now());
        let full = (FIRST_WAIT * 2u32.saturating_pow(self.n_failed)).min(LONGEST_WAIT);
        self.n_failed = self.n_failed.saturating_add(1).min(16);
        self.shared.stop.wait(full.mul_f64(fastrand::f64()).max(shortest));
        self.shared.stop.check()?;
        Ok(())
    }

    /// Goes on to the next relay if the current one has failed for long.
    fn change_relay_if_due(&mut self) {
        let failed = self.relay().authority();
        if self.choice.go_on(Instant::now()) {
            log::error!(
                "{failed} has failed for {} s: reading {} instead, by the time of the events",
                FAILING.as_secs(),
                self.relay().authority()
            );
            self.changed_relay();
        }
    }

    fn return_to_first(&mut self) {
        self.choice.return_to_first();
        log::info!(
            "{} is well again: reading it, by the time of the events",
            self.relay().authority()
        );
        self.changed_relay();
    }

    fn changed_relay(&mut self) {
        self.is_lost = true;
        self.n_failed = 0;
        self.future = None;
    }

    /// The relay says that the cursor is in the future.
    fn future_cursor(&mut self, at: &mut Progress) -> anyhow::Result<()> {
        let future = self.future.get_or_insert_with(|| Future {
            since: Instant::now(),
            tries: 0,
        });
        future.tries += 1;
        let is_first = future.tries == 1;
        if future.is_over(Instant::now()) {
            self.future = None;
            return self.on_future_cursor(at);
        }
        if is_first {
            log::warn!(
                "{} does not know seq {} yet; trying for {} s, then FIREHOSE_ON_FUTURE_CURSOR decides",
                self.relay().authority(),
                shown(at.seq),
                FUTURE_TIME.as_secs()
            );
        }
        self.shared.stop.wait(FUTURE_TIME / (FUTURE_TRIES - 1));
        self.shared.stop.check()?;
        Ok(())
    }

    fn on_future_cursor(&mut self, at: &mut Progress) -> anyhow::Result<()> {
        match self.config.on_future_cursor {
            OnFutureCursor::Time => self.is_lost = true,
            OnFutureCursor::Oldest => {
                log::warn!("beginning with the oldest event of the relay, as FIREHOSE_ON_FUTURE_CURSOR says");
                *at = Progress::new(Some(0), at.time_ms);
            }
            OnFutureCursor::Now => {
                log::error!("beginning with the present, as FIREHOSE_ON_FUTURE_CURSOR says: events before are lost");
                *at = Progress::new(None, at.time_ms);
            }
            OnFutureCursor::Stop => anyhow::bail!(
                "the relay does not know seq {}, and FIREHOSE_ON_FUTURE_CURSOR=stop; set the cursor in {} or the setting",
                shown(at.seq),
                self.config.cursor_key
            ),
        }
        Ok(())
    }
}

pub fn shown(seq: Option<u64>) -> String {
    seq.map_or_else(|| "now".to_owned(), |seq| seq.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_in_the_future_is_given_up_after_3_tries_over_5_minutes() {
        let since = Instant::now();
        for (tries, seconds, is_over) in [(2, 600, false), (3, 299, false), (3, 300, true), (9, 100, false)] {
            let future = Future { since, tries };
            let now = since + Duration::from_secs(seconds);
            assert_eq!(future.is_over(now), is_over, "{tries} tries, {seconds} s");
        }
    }
}
