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
use super::counts::{Cause, Counts};
use super::intake::{Intake, Progress};
use super::position::Position;
use super::relay::dial::{Failure, dial};
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

/// A relay that fails for this long is replaced by the next one.
const FAILING: Duration = Duration::from_secs(300);

/// How long another relay is read before the first one is tried again.
const AWAY: Duration = Duration::from_secs(600);

/// A cursor that the relay does not know yet is tried so often over so long: the relay may be catching up itself.
const FUTURE_TRIES: u32 = 3;
const FUTURE_TIME: Duration = Duration::from_secs(300);

/// The part of the pipeline that the thread shares with the others.
pub struct Shared {
    pub terms: Terms,
    pub counts: Arc<Counts>,
    pub outage: Arc<Outage>,
    pub stop: Stop,
}

pub struct Reader {
    config: ConsumerConfig,
    outbox: Sender<Batch>,
    spent: Receiver<Vec<u8>>,
    intake: Intake,
    shared: Shared,
    waiter: Waiter,
    /// The index of the relay that is read.
    relay: usize,
    chosen_at: Instant,
    failing_since: Option<Instant>,
    n_failed: u32,
    future: Option<Future>,
    usual_rate: f64,
}

/// How often and since when the relay has refused the cursor as not yet known.
struct Future {
    since: Instant,
    tries: u32,
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
            config,
            outbox,
            spent,
            intake,
            shared,
            relay: 0,
            chosen_at: Instant::now(),
            failing_since: None,
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
            let mut at = self.begin(&term)?;
            while self.shared.terms.is_current(term.number) {
                self.read_once(&term, &mut at)?;
            }
        }
    }

    fn relay(&self) -> &RelayUrl {
        &self.config.relays[self.relay]
    }

    /// Finds where the term begins.
    fn begin(&mut self, term: &Term) -> anyhow::Result<Progress> {
        let authority = self.relay().authority();
        let is_alone = !self.config.is_beside_others;
        let progress = |position: &Position| Progress::new(position.seq, position.time_ms);
        Ok(
            match begin::decide(&term.remembered, &authority, self.config.start, is_alone) {
                Begin::After(position) => {
                    log::info!("continuing with {authority} after seq {}", shown(position.seq));
                    progress(&position)
                }
                Begin::TakeOver(position) => {
                    log::warn!(
                        "taking over from another producer: continuing with {authority} after seq {}; events that it read and \
                     did not append are lost, and a few may be appended twice",
                        shown(position.seq)
                    );
                    progress(&position)
                }
                Begin::ByTime(position) => {
                    log::warn!(
                        "the position is another relay's: looking for it in {authority} by the time of its events"
                    );
                    let mut at = progress(&position);
                    self.rewind(&mut at)?;
                    at
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
            },
        )
    }

    /// Reads over one connection, and waits before the next.
    fn read_once(&mut self, term: &Term, at: &mut Progress) -> anyhow::Result<()> {
        if self.wait_for_room(term)? {
            return Ok(());
        }
        self.change_relay_if_due(at)?;
        let dialed_at = Instant::now();
        let before = at.seq;
        let cursor = at.cursor();
        let socket = match dial(self.relay(), cursor, &self.shared.stop) {
            Ok(socket) => socket,
            Err(Failure::Stopped(stopped)) => return Err(stopped.into()),
            Err(Failure::Dial(error)) => {
                self.shared.counts.reconnected(Cause::Dial);
                self.waiter.down(&format!("{}: {error}", self.relay().authority()));
                return self.wait_after_failure(error.wait);
            }
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
            return_at: (self.relay > 0).then_some(self.chosen_at + AWAY),
            usual_rate: &mut self.usual_rate,
        };
        let end = session.run(at);
        self.shared.counts.is_connected.store(false, Relaxed);
        let has_progressed = at.seq != before;
        if has_progressed {
            self.future = None;
            self.failing_since = None;
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
                self.choose(0);
                return self.rewind(at);
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

    /// Waits before the next attempt, and at least for `shortest`.
    fn wait_after_failure(&mut self, shortest: Duration) -> anyhow::Result<()> {
        self.failing_since.get_or_insert_with(Instant::now);
        let full = (FIRST_WAIT * 2u32.saturating_pow(self.n_failed)).min(LONGEST_WAIT);
        self.n_failed = self.n_failed.saturating_add(1).min(16);
        self.shared.stop.wait(full.mul_f64(fastrand::f64()).max(shortest));
        self.shared.stop.check()?;
        Ok(())
    }

    /// Goes on to the next relay if the current one has failed for long.
    fn change_relay_if_due(&mut self, at: &mut Progress) -> anyhow::Result<()> {
        let n_relays = self.config.relays.len();
        if n_relays < 2 || self.failing_since.is_none_or(|since| since.elapsed() < FAILING) {
            return Ok(());
        }
        let failed = self.relay().authority();
        self.choose((self.relay + 1) % n_relays);
        log::error!(
            "{failed} has failed for {} s: reading {} instead, by the time of the events",
            FAILING.as_secs(),
            self.relay().authority()
        );
        self.rewind(at)
    }

    fn choose(&mut self, relay: usize) {
        self.relay = relay;
        self.chosen_at = Instant::now();
        self.failing_since = None;
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
        let (tries, time) = (future.tries, future.since.elapsed());
        if tries >= FUTURE_TRIES && time >= FUTURE_TIME {
            self.future = None;
            return self.on_future_cursor(at);
        }
        if tries == 1 {
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
            OnFutureCursor::Time => return self.rewind(at),
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

    /// Finds the position by the time of the events.
    fn rewind(&mut self, at: &mut Progress) -> anyhow::Result<()> {
        let relay = &self.config.relays[self.relay];
        let seq = rewind::find(relay, at.time_ms, &mut self.waiter, &self.shared.stop)?;
        *at = Progress::new(seq, at.time_ms);
        Ok(())
    }
}

pub fn shown(seq: Option<u64>) -> String {
    seq.map_or_else(|| "now".to_owned(), |seq| seq.to_string())
}
