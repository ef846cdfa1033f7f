//! Thread `acker`: applied entries → XACK, dead letters → their stream.
//!
//! Owns the only XACK in the program. An entry comes here after its effect has committed, or with its dead letters, which
//! are stored in one MULTI with its acknowledgement. Acknowledgements that could not be sent are kept and sent again.
//!
//! Invariant: acknowledgements are sent in the order in which the entries came here, so none overtakes that of an earlier
//! entry of its DID. An entry is counted once, when its acknowledgement is confirmed.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redis::{RedisError, RedisResult, Value};

use crate::config::Config;
use crate::decode;
use crate::entry::{Entry, EntryId};
use crate::in_flight::InFlight;
use crate::link::{self, Link, Redis};
use crate::metrics::Metrics;
use crate::retry::Backoff;
use crate::shutdown::Stop;

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

/// An entry, or one op of it, that can never be applied.
pub struct DeadLetter {
    kind: Vec<u8>,
    data: Vec<u8>,
    seq: Vec<u8>,
    error: String,
    /// Path of the op that `data` was cut down to.
    op: Option<String>,
}

impl DeadLetter {
    pub fn entry(entry: &Entry, error: String) -> DeadLetter {
        DeadLetter {
            kind: entry.kind.clone().unwrap_or_default(),
            data: entry.data.clone().unwrap_or_default(),
            seq: entry.seq.clone().unwrap_or_default(),
            error,
            op: None,
        }
    }

    /// The op number `index` of a commit whose data is `text`; of an event that has no ops, the whole.
    pub fn op(entry: &Entry, text: &str, index: u32, path: &str, error: String) -> DeadLetter {
        match decode::commit_with_one_op(text, index as usize) {
            None => DeadLetter::entry(entry, error),
            Some(data) => DeadLetter {
                data: data.into_bytes(),
                op: Some(path.to_owned()),
                ..DeadLetter::entry(entry, error)
            },
        }
    }
}

/// Acknowledgements sent in one command at most.
const MAX_ACKS: usize = 5000;

/// How long to wait for an entry before dead letters that Redis refused are offered again.
const TURN: Duration = Duration::from_millis(500);

pub struct Acker {
    link: Link,
    stream: String,
    group: String,
    dead_letter_maxlen: usize,
    inbox: Receiver<Done>,
    in_flight: Arc<InFlight>,
    metrics: Arc<Metrics>,
    stop: Stop,
    /// Dead letters that Redis refused; their entries stay pending.
    refused: Vec<Done>,
}

const DEAD_LETTERS: &str = "firehose:dead-letters";

impl Acker {
    pub fn new(
        redis: &Redis,
        config: &Config,
        inbox: Receiver<Done>,
        in_flight: Arc<InFlight>,
        metrics: Arc<Metrics>,
        stop: Stop,
    ) -> Acker {
        Acker {
            link: redis.link(Duration::ZERO),
            stream: config.stream.clone(),
            group: config.group.clone(),
            dead_letter_maxlen: config.dead_letter_maxlen,
            inbox,
            in_flight,
            metrics,
            stop,
            refused: Vec::new(),
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
            for done in std::mem::take(&mut self.refused) {
                self.bury(done);
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
        match self.insist(|link| link.query::<u64>(&ack)) {
            // Fewer than were sent is no error: those were acknowledged by a try whose answer was lost, or the group is
            // gone, which the reader finds out.
            Some(Ok(acknowledged)) if acknowledged < batch.len() as u64 => {
                log::debug!(
                    "redis knew {acknowledged} of {} acknowledged entries as pending",
                    batch.len()
                );
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => log::error!(
                "failed to acknowledge {} entries: {}",
                batch.len(),
                link::describe(&error)
            ),
            None => {
                log::warn!(
                    "{} applied entries could not be acknowledged before the stop",
                    batch.len()
                );
                return;
            }
        }
        self.settled(&batch);
    }

    /// Stores an entry's dead letters together with its acknowledgement.
    fn bury(&mut self, done: Done) {
        let Outcome::Dead(letters) = &done.outcome else {
            return;
        };
        let deliveries = self.deliveries(done.id);
        let mut transaction = redis::pipe();
        transaction.atomic();
        for letter in letters {
            let mut add = redis::cmd("XADD");
            add.arg(DEAD_LETTERS)
                .arg("MAXLEN")
                .arg("~")
                .arg(self.dead_letter_maxlen)
                .arg("*");
            add.arg("type")
                .arg(&letter.kind)
                .arg("data")
                .arg(&letter.data)
                .arg("seq")
                .arg(&letter.seq);
            add.arg("origId")
                .arg(done.id.to_string())
                .arg("deliveries")
                .arg(deliveries);
            add.arg("error").arg(&letter.error);
            if let Some(op) = &letter.op {
                add.arg("op").arg(op);
            }
            transaction.add_command(add);
        }
        transaction
            .cmd("XACK")
            .arg(&self.stream)
            .arg(&self.group)
            .arg(done.id.to_string());
        match self.insist(|link| link.query_pipeline::<Value>(&transaction)) {
            Some(Ok(_)) => {
                for letter in letters {
                    log::warn!("entry {} is a dead letter: {}", done.id, letter.error);
                }
                self.settled(&[done]);
            }
            Some(Err(error)) => {
                log::debug!(
                    "entry {}: redis refused its dead letter: {}",
                    done.id,
                    link::describe(&error)
                );
                self.refused.push(done);
            }
            None => log::warn!("entry {}: its dead letter could not be stored before the stop", done.id),
        }
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
        let answer = self.insist(|link| link.query::<Vec<(String, String, u64, u64)>>(&pending));
        match answer {
            Some(Ok(entries)) => entries.first().map_or(1, |(_, _, _, deliveries)| *deliveries),
            _ => 1,
        }
    }

    /// Tries until Redis answers; `None` if a stop is requested while it does not.
    fn insist<T>(&mut self, mut send: impl FnMut(&mut Link) -> RedisResult<T>) -> Option<Result<T, RedisError>> {
        let mut backoff = Backoff::default();
        loop {
            match send(&mut self.link) {
                Ok(answer) => return Some(Ok(answer)),
                Err(error) if link::is_unready(&error) => self.link.unserved(&error),
                Err(error) if link::is_connection_error(&error) => {
                    log::debug!("sending again: {}", link::describe(&error));
                }
                Err(error) => return Some(Err(error)),
            }
            if self.stop.is_requested() || backoff.wait(&self.stop) {
                return None;
            }
        }
    }

    fn settled(&self, batch: &[Done]) {
        for done in batch {
            self.metrics.acknowledged(&done.outcome);
        }
        self.in_flight.remove(batch.iter().map(|done| done.id));
    }
}
