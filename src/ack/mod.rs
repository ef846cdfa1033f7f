//! Thread `acker`: applied entries → XACK, dead letters → their stream.
//!
//! Owns the order of acknowledgements. An entry comes here after its effect has committed, or with its dead letters, which
//! are stored in one MULTI with its acknowledgement. What Redis did not take is kept and sent again.
//!
//! Invariant: acknowledgements are sent in the order in which the entries came here, and none overtakes that of an earlier
//! entry of its DID. An entry is counted once, by the process whose acknowledgement took it off, as `xack` proves.

pub mod dead_letter;
pub mod xack;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redis::{Cmd, RedisError, RedisResult};

use crate::ack::dead_letter::{DEAD_LETTERS, DeadLetter};
use crate::ack::xack::{Acks, Count};
use crate::entry::EntryId;
use crate::group::lease::Lease;
use crate::in_flight::InFlight;
use crate::report::metrics::Metrics;
use crate::servers::link::{self, Link, Redis};
use crate::servers::once;
use crate::servers::retry::{Backoff, Refusal};
use crate::settings::config::Config;
use crate::shutdown::Stop;
use crate::turns;

/// An entry that is done with.
pub struct Done {
    pub id: EntryId,
    /// Which entries are of its DID, as `partition` tells them; `None` if it has no order to keep.
    pub repo: Option<u64>,
    pub outcome: Outcome,
}

impl Done {
    /// One that was trimmed from the stream.
    pub fn trimmed(id: EntryId, outcome: Outcome) -> Done {
        Done {
            id,
            repo: None,
            outcome,
        }
    }
}

/// What became of an entry.
pub enum Outcome {
    /// All of it is applied or deliberately ignored.
    Applied(Kind),
    /// Some of it, or all, is set apart.
    Dead(Vec<DeadLetter>),
    /// It was trimmed from the stream before it was read.
    Lost,
    /// The same, and it was taken off when that was found.
    Dropped,
}

/// An entry's type, as the counters tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Commit,
    Identity,
    Account,
    Unknown,
}

impl Kind {
    pub fn of(field: Option<&[u8]>) -> Kind {
        match field {
            Some(b"commit") => Kind::Commit,
            Some(b"identity") => Kind::Identity,
            Some(b"account") => Kind::Account,
            _ => Kind::Unknown,
        }
    }
}

/// Acknowledgements sent in one command at most.
const MAX_ACKS: usize = 5000;

/// How often dead letters that Redis refused are offered again.
const TURN: Duration = Duration::from_millis(500);

pub struct Acker {
    link: Link,
    acks: Acks,
    stream: String,
    dead_letter_maxlen: usize,
    inbox: Receiver<Done>,
    shared: Shared,
    waiting: Waiting,
    /// The entry whose dead letters may have been stored, or may be yet, though Redis refused them since.
    unclear: Option<EntryId>,
    offered_at: Instant,
    /// A stop found Redis away: what comes now must not overtake what could not be sent.
    has_given_up: bool,
    ack_refusal: Refusal,
    dead_letter_refusal: Refusal,
}

/// What the acker shares with other threads.
pub struct Shared {
    pub in_flight: Arc<InFlight>,
    pub metrics: Arc<Metrics>,
    pub stop: Stop,
    pub lease: Lease,
}

/// Dead letters that Redis refused, and what came after them of their repos; their entries stay pending.
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

    /// To be offered before the others, none of which is of its repo and came before it.
    fn push_front(&mut self, done: Done) {
        self.repos.extend(done.repo);
        self.dones.insert(0, done);
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
            unclear: None,
            offered_at: Instant::now(),
            has_given_up: false,
            ack_refusal: Refusal::default(),
            dead_letter_refusal: Refusal::default(),
        }
    }

    /// Acknowledges until the workers have gone and all is sent, or a stop finds Redis away.
    pub fn run(mut self) -> anyhow::Result<()> {
        loop {
            let is_last = match self.inbox.recv_timeout(TURN) {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(self.inbox.try_iter().take(MAX_ACKS - 1));
                    self.acknowledge(batch);
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            turns::take();
            if is_last || self.offered_at.elapsed() >= TURN {
                self.offer_again();
            }
            if is_last {
                break;
            }
        }
        if !self.waiting.dones.is_empty() {
            log::warn!(
                "{} entries that are done with could not be acknowledged before the stop; they stay pending",
                self.waiting.dones.len()
            );
        }
        Ok(())
    }

    fn offer_again(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.acknowledge(waiting.dones);
        if self.waiting.dones.is_empty() {
            self.dead_letter_refusal.end("redis takes dead letters");
        }
        self.offered_at = Instant::now();
    }

    /// Sends a batch in order: dead letters one by one, all between them in one command. What comes after a dead letter of
    /// its repo that Redis does not take waits behind it.
    fn acknowledge(&mut self, batch: Vec<Done>) {
        let mut plain = Vec::with_capacity(batch.len());
        for done in batch {
            if matches!(done.outcome, Outcome::Dropped) {
                let batch = [done];
                self.settled(&batch, xack::all_of_batch(&batch));
            } else if self.has_given_up || self.waiting.has_before(&done) {
                self.waiting.push(done);
            } else if matches!(done.outcome, Outcome::Dead(_)) {
                self.send(std::mem::take(&mut plain));
                self.bury(done);
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
            Some(counts) => self.settled(&batch, counts),
            None => self.give_up(batch),
        }
    }

    /// How many of the entries were taken off; `None` if a stop is requested while Redis does not take them.
    fn send_until_taken<'b>(&mut self, batch: &'b [Done]) -> Option<Vec<Count<'b>>> {
        let mut backoff = Backoff::default();
        while !self.has_given_up {
            let Acker { link, acks, shared, .. } = self;
            match insist(link, shared, |link| acks.send(link, batch, &shared.in_flight))? {
                Ok(counts) => {
                    self.ack_refusal.end("redis takes acknowledgements");
                    return Some(counts);
                }
                Err(error) => self.ack_refusal.say(format!(
                    "redis refuses acknowledgements: {}; the entries stay pending, nothing is lost; allow ~{} +xack",
                    link::describe(&error),
                    self.stream
                )),
            }
            if self.shared.stop.is_requested() || backoff.wait(&self.shared.stop) {
                return None;
            }
        }
        None
    }

    /// At a stop: what was sent last may have been carried out though no answer came.
    fn taken_after_all<'b>(&mut self, batch: &'b [Done]) -> Option<Vec<Count<'b>>> {
        // That a connection is broken shows only when it is used.
        let mut look = || self.acks.were_taken_off(&mut self.link, batch);
        let were_taken_off = look().or_else(|_| look()).unwrap_or(false);
        were_taken_off.then(|| xack::all_of_batch(batch))
    }

    /// Stores an entry's dead letters together with its acknowledgement.
    fn bury(&mut self, done: Done) {
        let Outcome::Dead(letters) = &done.outcome else {
            return;
        };
        if self.has_given_up || self.unclear.is_some_and(|unclear| unclear != done.id) {
            return self.waiting.push(done);
        }
        let maxlen = self.dead_letter_maxlen;
        let store = |deliveries| -> Vec<Cmd> {
            let store = |letter: &DeadLetter| letter.store(done.id, deliveries, maxlen);
            letters.iter().map(store).collect()
        };
        let Acker { link, acks, shared, .. } = self;
        let buried = insist(link, shared, |link| {
            ensure_takes_letters(link)?;
            acks.bury(link, &done, store)
        });
        self.unclear = acks.is_burial_unclear().then_some(done.id);
        match buried {
            Some(Ok(is_ours)) => self.buried(done, is_ours),
            Some(Err(error)) => {
                self.dead_letter_refusal.say(format!(
                    "redis refuses dead letters: {}; their entries stay pending, nothing is lost; it may lack memory, \
                     {DEAD_LETTERS} be no stream, or its user lack the right: allow ~{DEAD_LETTERS} +xadd ~{} +xack {}",
                    link::describe(&error),
                    self.stream,
                    once::RULE
                ));
                match self.unclear {
                    Some(_) => self.waiting.push_front(done),
                    None => self.waiting.push(done),
                }
            }
            None => {
                let batch = vec![done];
                match self.taken_after_all(&batch).is_some() {
                    true => batch.into_iter().for_each(|done| self.buried(done, true)),
                    false => self.give_up(batch),
                }
            }
        }
    }

    /// An entry's dead letters are stored, or another process is done with it.
    fn buried(&self, done: Done, is_ours: bool) {
        let Outcome::Dead(letters) = &done.outcome else { return };
        if !is_ours {
            log::debug!("another process is done with entry {}", done.id);
            return self.settled(&[done], Vec::new());
        }
        for letter in letters {
            log::warn!("entry {} is a dead letter: {}", done.id, letter.error);
        }
        let batch = [done];
        self.settled(&batch, xack::all_of_batch(&batch));
    }

    /// Releases entries, and counts those that were taken off.
    fn settled(&self, batch: &[Done], counts: Vec<Count>) {
        self.shared.in_flight.remove(batch.iter().map(|done| done.id));
        for (outcome, number) in counts {
            self.shared.metrics.acknowledged(outcome, number);
        }
        self.shared.metrics.readiness.progress_made();
    }

    fn give_up(&mut self, batch: Vec<Done>) {
        self.has_given_up = true;
        batch.into_iter().for_each(|done| self.waiting.push(done));
    }
}

/// Fails where something else than a stream has the dead letters' key: EXEC would go on after the refused XADD, and
/// acknowledge the entry.
fn ensure_takes_letters(link: &mut Link) -> RedisResult<()> {
    match link.query::<u64>(redis::cmd("XLEN").arg(DEAD_LETTERS)) {
        Err(error) if !link::is_refused(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Tries until Redis answers; `None` if a stop is requested while it does not. Nothing is sent while another process may
/// hold the consumer name: it acknowledges and counts the same entries.
fn insist<T>(
    link: &mut Link,
    shared: &Shared,
    mut send: impl FnMut(&mut Link) -> RedisResult<T>,
) -> Option<Result<T, RedisError>> {
    let Shared { lease, stop, .. } = shared;
    let mut backoff = Backoff::default();
    loop {
        if !lease.wait(stop) {
            return None;
        }
        match send(link) {
            Ok(answer) => return Some(Ok(answer)),
            Err(error) if link::is_unready(&error) => link.unserved(&error),
            Err(error) if link::is_connection_error(&error) => {
                log::debug!("sending again: {}", link::describe(&error));
            }
            Err(error) => return Some(Err(error)),
        }
        if stop.is_requested() || backoff.wait(stop) {
            return None;
        }
    }
}
