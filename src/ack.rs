//! Thread `acker`: applied entries → XACK, dead letters → their stream.
//!
//! Owns the only XACK in the program. An entry comes here after its effect has committed, or with its dead letters, which
//! are stored in one MULTI with its acknowledgement. What Redis did not take is kept and sent again.
//!
//! Invariant: acknowledgements are sent in the order in which the entries came here, so none overtakes that of an earlier
//! entry of its DID. An entry is counted once, when its acknowledgement is confirmed, and by the process that has it then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redis::{Cmd, RedisError, RedisResult};

use crate::config::Config;
use crate::dead_letter::{DEAD_LETTERS, DeadLetter};
use crate::entry::EntryId;
use crate::holder::Lease;
use crate::in_flight::InFlight;
use crate::link::{self, Link, Redis};
use crate::metrics::Metrics;
use crate::once::{self, Once};
use crate::retry::{Backoff, Refusal};
use crate::shutdown::Stop;
use crate::turns;

/// An entry that is done with.
pub struct Done {
    pub id: EntryId,
    pub outcome: Outcome,
}

impl Done {
    pub fn lost(id: EntryId) -> Done {
        Done {
            id,
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
    stream: String,
    group: String,
    dead_letter_maxlen: usize,
    inbox: Receiver<Done>,
    in_flight: Arc<InFlight>,
    metrics: Arc<Metrics>,
    stop: Stop,
    lease: Lease,
    /// Dead letters that Redis refused; their entries stay pending.
    refused: Vec<Done>,
    offered_at: Instant,
    ack_refusal: Refusal,
    dead_letter_refusal: Refusal,
}

impl Acker {
    pub fn new(
        redis: &Redis,
        config: &Config,
        inbox: Receiver<Done>,
        in_flight: Arc<InFlight>,
        metrics: Arc<Metrics>,
        stop: Stop,
        lease: Lease,
    ) -> Acker {
        Acker {
            link: redis.link(Duration::ZERO),
            once: Once::new(format!("firehose:worker:buried:{}:{}", config.group, config.consumer)),
            stream: config.stream.clone(),
            group: config.group.clone(),
            dead_letter_maxlen: config.dead_letter_maxlen,
            inbox,
            in_flight,
            metrics,
            stop,
            lease,
            refused: Vec::new(),
            offered_at: Instant::now(),
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
        if !self.refused.is_empty() {
            log::warn!(
                "redis refused {} dead letters; their entries stay pending",
                self.refused.len()
            );
        }
        Ok(())
    }

    fn offer_again(&mut self) {
        for done in std::mem::take(&mut self.refused) {
            self.bury(done);
        }
        if self.refused.is_empty() {
            self.dead_letter_refusal.end("redis takes dead letters");
        }
        self.offered_at = Instant::now();
    }

    /// Sends a batch in order: dead letters one by one, all between them in one command.
    fn acknowledge(&mut self, batch: Vec<Done>) {
        let mut plain = Vec::with_capacity(batch.len());
        for done in batch {
            if matches!(done.outcome, Outcome::Dead(_)) {
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
        let mut ack = redis::cmd("XACK");
        ack.arg(&self.stream).arg(&self.group);
        for done in &batch {
            ack.arg(done.id.to_string());
        }
        let Some(acknowledged) = self.send_ack(&ack) else {
            log::warn!(
                "{} applied entries could not be acknowledged before the stop",
                batch.len()
            );
            return;
        };
        // Fewer than were sent is no error: those were acknowledged by a try whose answer was lost, or the group is gone,
        // which the reader finds out.
        if acknowledged < batch.len() as u64 {
            log::debug!(
                "redis knew {acknowledged} of {} acknowledged entries as pending",
                batch.len()
            );
        }
        self.settled(&batch);
    }

    /// How many of them Redis acknowledges; `None` if a stop is requested while it does not take the command.
    fn send_ack(&mut self, ack: &Cmd) -> Option<u64> {
        let mut backoff = Backoff::default();
        loop {
            match insist(&mut self.link, &self.lease, &self.stop, |link| link.query(ack))? {
                Ok(acknowledged) => {
                    self.ack_refusal.end("redis takes acknowledgements");
                    return Some(acknowledged);
                }
                Err(error) => self.ack_refusal.say(format!(
                    "redis refuses acknowledgements: {}; the entries stay pending, nothing is lost; allow ~{} +xack",
                    link::describe(&error),
                    self.stream
                )),
            }
            if self.stop.is_requested() || backoff.wait(&self.stop) {
                return None;
            }
        }
    }

    /// Stores an entry's dead letters together with its acknowledgement.
    fn bury(&mut self, done: Done) {
        let Outcome::Dead(letters) = &done.outcome else {
            return;
        };
        let commands = self.burial(done.id, letters);
        let once = &mut self.once;
        match insist(&mut self.link, &self.lease, &self.stop, |link| {
            ensure_takes_letters(link)?;
            once.execute(link, commands.clone())
        }) {
            Some(Ok(_)) => {
                for letter in letters {
                    log::warn!("entry {} is a dead letter: {}", done.id, letter.error);
                }
                self.settled(&[done]);
            }
            Some(Err(error)) => {
                self.dead_letter_refusal.say(format!(
                    "redis refuses dead letters: {}; their entries stay pending, nothing is lost; it may lack memory, \
                     {DEAD_LETTERS} be no stream, or its user lack the right: allow ~{DEAD_LETTERS} +xadd ~{} +xack {}",
                    link::describe(&error),
                    self.stream,
                    once::RULE
                ));
                self.refused.push(done);
            }
            None => log::warn!("entry {}: its dead letter could not be stored before the stop", done.id),
        }
    }

    /// The commands that store dead letters of an entry and acknowledge it.
    fn burial(&mut self, id: EntryId, letters: &[DeadLetter]) -> Vec<Cmd> {
        let deliveries = self.deliveries(id);
        let store = |letter: &DeadLetter| letter.store(id, deliveries, self.dead_letter_maxlen);
        let mut commands: Vec<Cmd> = letters.iter().map(store).collect();
        let mut ack = redis::cmd("XACK");
        ack.arg(&self.stream).arg(&self.group).arg(id.to_string());
        commands.push(ack);
        commands
    }

    /// How often Redis has delivered a pending entry.
    fn deliveries(&mut self, id: EntryId) -> u64 {
        let mut pending = redis::cmd("XPENDING");
        pending
            .arg(&self.stream)
            .arg(&self.group)
            .arg(id.to_string())
            .arg(id.to_string())
            .arg(1);
        type Pending = Vec<(String, String, u64, u64)>;
        let cost = "dead letters do not say how often their entry was delivered";
        let answer = insist(&mut self.link, &self.lease, &self.stop, |link| {
            let entries = link.query::<Pending>(&pending);
            link.optional(entries, cost, "+xpending")
        });
        match answer {
            Some(Ok(Some(entries))) => entries.first().map_or(1, |(_, _, _, deliveries)| *deliveries),
            _ => 1,
        }
    }

    fn settled(&self, batch: &[Done]) {
        let taken = self.in_flight.remove(batch.iter().map(|done| done.id));
        for done in batch.iter().filter(|done| !taken.contains(&done.id)) {
            self.metrics.acknowledged(&done.outcome);
        }
        self.metrics.progress.made();
    }
}

/// Fails where something else than a stream has the dead letters' key: EXEC would go on after the refused XADD, and
/// acknowledge the entry.
fn ensure_takes_letters(link: &mut Link) -> RedisResult<()> {
    match link.query::<u64>(redis::cmd("XLEN").arg(DEAD_LETTERS)) {
        Err(error) if link::code(&error) != "NOPERM" => Err(error),
        _ => Ok(()),
    }
}

/// Tries until Redis answers; `None` if a stop is requested while it does not. Nothing is sent while another process may
/// hold the consumer name: it acknowledges and counts the same entries.
fn insist<T>(
    link: &mut Link,
    lease: &Lease,
    stop: &Stop,
    mut send: impl FnMut(&mut Link) -> RedisResult<T>,
) -> Option<Result<T, RedisError>> {
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
