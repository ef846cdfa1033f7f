//! Thread `acker`: applied entries → XACK, dead letters → their stream.
//!
//! Owns the order of acknowledgements. An entry comes here after its effect has committed, or with its dead letters, which
//! are stored in one MULTI with its acknowledgement. What Redis did not take is kept and sent again.
//!
//! Invariant: acknowledgements are sent in the order in which the entries came here, and none overtakes that of an earlier
//! entry of its DID. An entry is counted once, when its acknowledgement is confirmed, and by the process whose
//! acknowledgement it was.

pub mod dead_letter;
pub mod xack;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redis::{Cmd, RedisError, RedisResult, Value};

use crate::ack::dead_letter::{DEAD_LETTERS, DeadLetter};
use crate::ack::xack::{Acks, Of};
use crate::apply::Member;
use crate::entry::EntryId;
use crate::group::lease::Lease;
use crate::in_flight::{InFlight, Standing};
use crate::report::metrics::Metrics;
use crate::servers::link::{self, Link, Redis};
use crate::servers::once::{self, Once};
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
    pub fn lost(id: EntryId) -> Done {
        Done {
            id,
            repo: None,
            outcome: Outcome::Lost,
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
    once: Once,
    of: Of,
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
    pub member: Member,
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
            once: Once::new(format!("firehose:worker:buried:{}:{}", config.group, config.consumer)),
            of: Of {
                stream: config.stream.clone(),
                group: config.group.clone(),
                claim_idle: config.claim_idle,
            },
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
            if self.has_given_up || self.waiting.has_before(&done) {
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
        match self.send_until_taken(&batch) {
            Some(ours) => self.settled(batch.iter().zip(ours)),
            None => self.give_up(batch),
        }
    }

    /// Which of the entries this process is to count; `None` if a stop is requested while Redis does not take them.
    fn send_until_taken(&mut self, batch: &[Done]) -> Option<Vec<bool>> {
        let mut acks = Acks::of(batch, &self.of, &self.shared);
        let mut backoff = Backoff::default();
        while !self.has_given_up {
            match insist(&mut self.link, &self.shared, |link| acks.send(link))? {
                Ok(ours) => {
                    self.ack_refusal.end("redis takes acknowledgements");
                    return Some(ours);
                }
                Err(error) => self.ack_refusal.say(format!(
                    "redis refuses acknowledgements: {}; the entries stay pending, nothing is lost; allow ~{} +xack",
                    link::describe(&error),
                    self.of.stream
                )),
            }
            if self.shared.stop.is_requested() || backoff.wait(&self.shared.stop) {
                return None;
            }
        }
        None
    }

    /// Stores an entry's dead letters together with its acknowledgement.
    fn bury(&mut self, done: Done) {
        let Outcome::Dead(letters) = &done.outcome else {
            return;
        };
        if self.has_given_up || self.unclear.is_some_and(|unclear| unclear != done.id) {
            return self.waiting.push(done);
        }
        let deliveries = self.deliveries(done.id);
        if deliveries == 0 && !self.is_own(done.id) && self.unclear.is_none() {
            log::debug!("another process is done with entry {}", done.id);
            return self.settled([(&done, false)].into_iter());
        }
        let commands = self.burial(done.id, letters, deliveries.max(1));
        let once = &mut self.once;
        let buried = insist(&mut self.link, &self.shared, |link| {
            ensure_takes_letters(link)?;
            once.execute(link, commands.clone())
        });
        self.unclear = once.is_unclear().then_some(done.id);
        match buried {
            Some(Ok(answers)) => {
                for letter in letters {
                    log::warn!("entry {} is a dead letter: {}", done.id, letter.error);
                }
                let is_ours = answers.last() != Some(&Value::Int(0)) || self.is_own(done.id);
                self.settled([(&done, is_ours)].into_iter());
            }
            Some(Err(error)) => {
                self.dead_letter_refusal.say(format!(
                    "redis refuses dead letters: {}; their entries stay pending, nothing is lost; it may lack memory, \
                     {DEAD_LETTERS} be no stream, or its user lack the right: allow ~{DEAD_LETTERS} +xadd ~{} +xack {}",
                    link::describe(&error),
                    self.of.stream,
                    once::RULE
                ));
                match self.unclear {
                    Some(_) => self.waiting.push_front(done),
                    None => self.waiting.push(done),
                }
            }
            None => self.give_up(vec![done]),
        }
    }

    /// The commands that store dead letters of an entry and acknowledge it.
    fn burial(&self, id: EntryId, letters: &[DeadLetter], deliveries: u64) -> Vec<Cmd> {
        let store = |letter: &DeadLetter| letter.store(id, deliveries, self.dead_letter_maxlen);
        let mut commands: Vec<Cmd> = letters.iter().map(store).collect();
        commands.push(self.of.ack([id].into_iter()));
        commands
    }

    /// How often Redis has delivered a pending entry; 0 if it is pending no more, 1 if that is not known.
    fn deliveries(&mut self, id: EntryId) -> u64 {
        let mut pending = redis::cmd("XPENDING");
        pending
            .arg(&self.of.stream)
            .arg(&self.of.group)
            .arg(id.to_string())
            .arg(id.to_string())
            .arg(1);
        type Pending = Vec<(String, String, u64, u64)>;
        let cost = "dead letters do not say how often their entry was delivered";
        let answer = insist(&mut self.link, &self.shared, |link| {
            let entries = link.query::<Pending>(&pending);
            link.optional(entries, cost, "+xpending")
        });
        match answer {
            Some(Ok(Some(entries))) => entries.first().map_or(0, |(_, _, _, deliveries)| *deliveries),
            _ => 1,
        }
    }

    /// Whether no other process can have had the entry.
    fn is_own(&self, id: EntryId) -> bool {
        let standing = self.shared.in_flight.standing([id].into_iter(), self.of.claim_idle);
        standing == Standing::Own
    }

    /// Releases entries, and counts those that are this process's to count.
    fn settled<'a>(&self, batch: impl Iterator<Item = (&'a Done, bool)> + Clone) {
        self.shared.in_flight.remove(batch.clone().map(|(done, _)| done.id));
        for (done, _) in batch.filter(|(_, is_ours)| *is_ours) {
            self.shared.metrics.acknowledged(&done.outcome);
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
