//! Thread `acker`: applied entries → XACK, dead letters → their stream.
//!
//! Owns the order of acknowledgements. An entry arrives here after its effect has committed, or with its dead letters,
//! which are stored in one MULTI with its acknowledgement. Dead letters that Redis refuses are kept and sent again
//! later. Acknowledgements whose connection broke are not sent again: their entries are released and read again, since
//! Redis may have returned to an earlier state (`group::session`).
//!
//! Invariant: acknowledgements are sent in the order in which entries arrive, in the session in which they were read,
//! and none overtakes that of an earlier entry of its DID. An entry is counted once, by the process whose XACK removed
//! it, as `xack` proves.

pub mod xack;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redis::{Cmd, RedisError, RedisResult};

use crate::ack::xack::{Acks, Count};
use crate::dead_letter::{DEAD_LETTERS, DeadLetter};
use crate::entry::EntryId;
use crate::group::session::Session;
use crate::in_flight::InFlight;
use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::outcome::{Done, Outcome};
use crate::redis::exactly_once;
use crate::redis::link::{self, Link, Redis};
use crate::runtime::heartbeat;
use crate::runtime::retry::{Backoff, Refusal};
use crate::runtime::shutdown::Stop;
use crate::settings::config::Config;

/// Maximum number of acknowledgements per command.
const MAX_ACKS: usize = 5000;

/// How often refused dead letters are sent again.
const TICK: Duration = Duration::from_millis(500);

pub struct Acker {
    link: Link,
    acks: Acks,
    stream: String,
    dead_letter_maxlen: usize,
    inbox: Receiver<Done>,
    shared: Shared,
    waiting: Waiting,
    offered_at: Instant,
    /// Entries released unacknowledged since the session ended.
    left: usize,
    ack_refusal: Refusal,
    dead_letter_refusal: Refusal,
}

/// What the acker shares with other threads.
pub struct Shared {
    pub in_flight: Arc<InFlight>,
    pub session: Session,
    pub metrics: Arc<Metrics>,
    pub stop: Stop,
    pub lease: Lease,
}

/// Dead letters that Redis refused, and the later entries of their repos. All of these entries stay pending.
#[derive(Default)]
struct Waiting {
    dones: Vec<Done>,
    repos: HashSet<u64>,
}

impl Waiting {
    fn has_before(&self, done: &Done) -> bool {
        done.repo.is_some_and(|repo| self.repos.contains(&repo))
    }

    fn push(&mut self, done: Done) {
        self.repos.extend(done.repo);
        self.dones.push(done);
    }
}

impl Acker {
    pub fn new(redis: &Redis, config: &Config, inbox: Receiver<Done>, shared: Shared) -> Acker {
        Acker {
            link: redis.link(Duration::ZERO),
            acks: Acks::new(config),
            stream: config.stream.clone(),
            dead_letter_maxlen: config.dead_letter_maxlen,
            inbox,
            shared,
            waiting: Waiting::default(),
            offered_at: Instant::now(),
            left: 0,
            ack_refusal: Refusal::default(),
            dead_letter_refusal: Refusal::default(),
        }
    }

    /// Acknowledges until the workers have ended and everything is sent, or until a stop during an outage of Redis.
    pub fn run(mut self) -> anyhow::Result<()> {
        loop {
            let received = self.inbox.recv_timeout(TICK);
            // The next session cannot begin while entries of the last one are here, so everything that arrives belongs
            // to this one.
            if let Some(link) = self.shared.session.take_link() {
                self.link = link;
                self.left = 0;
            }
            let is_last = match received {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(self.inbox.try_iter().take(MAX_ACKS - 1));
                    self.acknowledge(batch);
                    self.open_ahead();
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            heartbeat::beat();
            if is_last || self.offered_at.elapsed() >= TICK {
                self.offer_again();
            }
            if is_last {
                break;
            }
        }
        let left = self.left + self.waiting.dones.len();
        if left > 0 {
            log::warn!("{left} finished entries could not be acknowledged before the stop; they stay pending");
        }
        Ok(())
    }

    /// Prepares the next request if none waits, so that a lone entry is acknowledged in one round trip.
    fn open_ahead(&mut self) {
        if !self.inbox.is_empty() || self.shared.session.is_over() {
            return;
        }
        if let Err(error) = self.acks.open_ahead(&mut self.link) {
            log::debug!("failed to prepare an acknowledgement: {}", link::describe(&error));
            // The next request would use another connection.
            if !self.link.is_connected() {
                self.shared.session.end();
            }
        }
    }

    fn offer_again(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.acknowledge(waiting.dones);
        if self.waiting.dones.is_empty() {
            self.dead_letter_refusal.end("redis accepts dead letters");
        }
        self.offered_at = Instant::now();
    }

    /// Sends a batch in order: each dead letter alone, and everything between two of them in one command. Entries wait
    /// behind a refused dead letter of their repo.
    fn acknowledge(&mut self, batch: Vec<Done>) {
        let mut plain = Vec::with_capacity(batch.len());
        for done in batch {
            if matches!(done.outcome, Outcome::Dropped) {
                let batch = [done];
                self.release(&batch, xack::all_of_batch(&batch));
            } else if self.shared.session.is_over() {
                self.let_go(&[done]);
            } else if self.waiting.has_before(&done) {
                self.waiting.push(done);
            } else if matches!(done.outcome, Outcome::Dead(_)) {
                self.send(std::mem::take(&mut plain));
                self.store_dead_letters(done);
            } else {
                plain.push(done);
            }
        }
        self.send(plain);
    }

    fn send(&mut self, batch: Vec<Done>) {
        if batch.is_empty() {
            return;
        }
        match self.send_until_taken(&batch).or_else(|| self.taken_after_all(&batch)) {
            Some(counts) => self.release(&batch, counts),
            None => self.let_go(&batch),
        }
    }

    /// Sends until Redis accepts. Returns how many entries were removed, or `None` if the session ends first.
    fn send_until_taken<'b>(&mut self, batch: &'b [Done]) -> Option<Vec<Count<'b>>> {
        let mut backoff = Backoff::default();
        while !self.shared.session.is_over() {
            let Acker { link, acks, shared, .. } = self;
            match ask(link, shared, |link| acks.send(link, batch, &shared.in_flight))? {
                Ok(counts) => {
                    self.ack_refusal.end("redis accepts acknowledgements");
                    return Some(counts);
                }
                Err(error) => self.ack_refusal.say(format!(
                    "redis refuses acknowledgements: {}; the entries stay pending, nothing is lost{}",
                    link::describe(&error),
                    link::hint(&error, &format!("~{} +xack", self.stream))
                )),
            }
            if backoff.wait(&self.shared.stop).is_err() {
                // Later entries must not overtake this batch.
                self.shared.session.end();
            }
        }
        None
    }

    /// Whether the last request of an ended session was carried out although no answer arrived. Nothing is sent again.
    fn taken_after_all<'b>(&mut self, batch: &'b [Done]) -> Option<Vec<Count<'b>>> {
        let Shared { lease, stop, .. } = &self.shared;
        let mut backoff = Backoff::default();
        // A broken connection is noticed only when it is used, so the first retry does not wait.
        for tries in 1.. {
            match self.acks.were_taken_off(&mut self.link, batch) {
                Ok(were_taken_off) => return were_taken_off.then(|| xack::all_of_batch(batch)),
                Err(error) if self.link.waits_out(&error) => {}
                Err(error) => {
                    log::debug!(
                        "failed to check whether an acknowledgement was carried out: {}",
                        link::describe(&error)
                    );
                    return None;
                }
            }
            if tries > 1 && backoff.wait(stop).and_then(|()| lease.wait(stop)).is_err() {
                break;
            }
        }
        None
    }

    /// Stores an entry's dead letters together with its acknowledgement.
    fn store_dead_letters(&mut self, done: Done) {
        let Outcome::Dead(letters) = &done.outcome else {
            return;
        };
        let maxlen = self.dead_letter_maxlen;
        let store = |deliveries| -> Vec<Cmd> {
            let store = |letter: &DeadLetter| letter.store(done.id, deliveries, maxlen);
            letters.iter().map(store).collect()
        };
        let Acker { link, acks, shared, .. } = self;
        let stored = ask(link, shared, |link| {
            ensure_takes_letters(link)?;
            acks.store_dead_letters(link, &done, store)
        });
        match stored {
            Some(Ok(is_ours)) => self.dead_letters_stored(done, is_ours),
            Some(Err(error)) => {
                let rules = format!("~{DEAD_LETTERS} +xadd ~{} +xack {}", self.stream, exactly_once::RULE);
                let hint = match link::code(&error) {
                    "WRONGTYPE" => {
                        format!("; {DEAD_LETTERS} is not a stream: rename the key, which another program created")
                    }
                    _ => link::hint(&error, &rules),
                };
                self.dead_letter_refusal.say(format!(
                    "redis refuses dead letters: {}; their entries stay pending, nothing is lost{hint}",
                    link::describe(&error)
                ));
                self.waiting.push(done);
            }
            None => {
                let batch = vec![done];
                match self.taken_after_all(&batch).is_some() {
                    true => batch.into_iter().for_each(|done| self.dead_letters_stored(done, true)),
                    false => self.let_go(&batch),
                }
            }
        }
    }

    fn log_letter(&self, id: EntryId, error: &str) {
        let repeats = &self.shared.metrics.repeats;
        if repeats.is_first("dead letters", error, format_args!("of entry {id}")) {
            log::warn!("entry {id} is a dead letter: {error}");
        }
    }

    /// Finishes an entry whose dead letters are stored, or that another process has finished.
    fn dead_letters_stored(&self, done: Done, is_ours: bool) {
        let Outcome::Dead(letters) = &done.outcome else { return };
        if !is_ours {
            log::debug!("another process is done with entry {}", done.id);
            return self.release(&[done], Vec::new());
        }
        for letter in letters {
            self.log_letter(done.id, &letter.cause.text);
        }
        let batch = [done];
        self.release(&batch, xack::all_of_batch(&batch));
    }

    /// Releases acknowledged entries, and counts those that this process's XACK removed.
    fn release(&self, batch: &[Done], counts: Vec<Count>) {
        self.shared.in_flight.remove(batch.iter().map(|done| done.id));
        for (outcome, number) in counts {
            self.shared.metrics.acknowledged(outcome, number);
        }
        self.shared.metrics.readiness.progress_made();
    }

    /// Releases finished entries without an acknowledgement. They are pending and will be read again.
    fn let_go(&mut self, batch: &[Done]) {
        self.left += batch.len();
        self.shared.in_flight.remove(batch.iter().map(|done| done.id));
    }
}

/// Fails if the dead letters' key holds something other than a stream: EXEC would continue after the refused XADD and
/// acknowledge the entry.
fn ensure_takes_letters(link: &mut Link) -> RedisResult<()> {
    match link.query::<u64>(redis::cmd("XLEN").arg(DEAD_LETTERS)) {
        Err(error) if !link::is_refused(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Sends a request in the current session. Returns `None` if the session is over; it also ends when an answer does not
/// arrive. Nothing is sent while another process may hold the consumer name, since that process acknowledges and counts
/// the same entries.
fn ask<T>(
    link: &mut Link,
    shared: &Shared,
    send: impl FnOnce(&mut Link) -> RedisResult<T>,
) -> Option<Result<T, RedisError>> {
    if shared.lease.wait(&shared.stop).is_err() {
        shared.session.end();
    }
    if shared.session.is_over() {
        return None;
    }
    let error = match send(link) {
        Ok(answer) => return Some(Ok(answer)),
        Err(error) => error,
    };
    let is_outage = link.waits_out(&error);
    // The next request would use another connection.
    if !link.is_connected() {
        shared.session.end();
    }
    if is_outage {
        log::debug!("acknowledging failed: {}", link::describe(&error));
        return None;
    }
    Some(Err(error))
}
