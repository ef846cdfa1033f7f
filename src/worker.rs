//! Threads `worker-N`: batch → decode → apply.
//!
//! Owns what is done about a batch that cannot be applied: transient faults and those that an operator must mend are
//! waited for; one that the data is to blame for is halved until the op at fault is alone, which becomes a dead letter.
//! Hands entries to `ack` only after their effect has committed, or with their dead letters.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender};

use crate::ack::{DeadLetter, Done, Kind, Outcome};
use crate::apply::{self, Memory, Switches};
use crate::batch;
use crate::db::Db;
use crate::decode::{self, EntryError};
use crate::entry::Entry;
use crate::fault::{ApplyError, Fault};
use crate::in_flight::InFlight;
use crate::metrics::Metrics;
use crate::retry::Backoff;
use crate::rows::{self, Change, Ignored, Op, Source, Table};
use crate::shutdown::Stop;

/// How long a worker waits for an entry before it looks again whether anybody is left to send one.
const TURN: Duration = Duration::from_millis(500);

pub struct Worker {
    pub inbox: Receiver<Entry>,
    pub done: Sender<Done>,
    pub db: Db,
    pub memory: Memory,
    pub switches: Switches,
    pub max_batch_entries: usize,
    pub in_flight: Arc<InFlight>,
    pub metrics: Arc<Metrics>,
    pub stop: Stop,
}

/// A batch was given up since a stop was requested; its entries stay pending.
struct GivenUp;

/// Rows that vanish this often were not deleted by somebody else: then the op is at fault, or the worker.
const VANISHED_TRIES: u32 = 5;

/// A batch that waits: one line when it begins to, one when it has been applied.
#[derive(Default)]
struct Trouble {
    tries: u32,
    since: Option<Instant>,
    said: String,
}

/// Deadlocks and the like pass by the next try; they are worth a line if they do not.
const QUIET_TRIES: u32 = 2;

impl Trouble {
    fn say(&mut self, error: &ApplyError) {
        self.tries += 1;
        let since = self.since.get_or_insert_with(Instant::now);
        let description = error.describe();
        // What keeps a connection from being made is said once for all workers, by the pool.
        let is_said = matches!(error, ApplyError::Connect(_)) || error.is_disconnect();
        if is_said || description == self.said {
            log::debug!(
                "trying again after {:.1} s: {description}",
                since.elapsed().as_secs_f64()
            );
        } else if error.fault() == Fault::Operator {
            log::error!("{description}; waiting until it is mended, nothing is lost");
            self.said = description;
        } else if self.tries > QUIET_TRIES {
            log::warn!("{description}; trying until it passes, nothing is lost");
            self.said = description;
        }
    }

    fn end(&self) {
        if let (Some(since), false) = (self.since, self.said.is_empty()) {
            log::info!("going on after {:.1} s", since.elapsed().as_secs_f64());
        }
    }
}

/// What one entry has come to so far.
struct Progress {
    kind: Kind,
    dead: Vec<DeadLetter>,
}

impl Worker {
    /// Works until the reader has gone and the channel is empty, or a stop finds a batch that cannot be applied.
    pub fn run(mut self) -> anyhow::Result<()> {
        while let Some(entries) = batch::next(&self.inbox, self.max_batch_entries, TURN) {
            if entries.is_empty() {
                continue;
            }
            if self.step(&entries).is_err() {
                self.give_up(entries);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Applies one batch and hands it on.
    fn step(&mut self, entries: &[Entry]) -> Result<(), GivenUp> {
        let texts: Vec<Result<Cow<str>, EntryError>> = entries.iter().map(decode::text).collect();
        let mut progress = Vec::with_capacity(entries.len());
        let mut ops = Vec::with_capacity(entries.len());
        let now = SystemTime::now();
        for (index, (entry, text)) in entries.iter().zip(&texts).enumerate() {
            let source = Source::new(entry, index, now);
            progress.push(self.decode(entry, text, &source, &mut ops));
        }
        let ops: Vec<&Op> = ops.iter().collect();
        self.apply(&ops, entries, &mut progress)?;
        if let Some(newest) = entries.iter().map(|entry| entry.id.ms).max() {
            self.metrics.committed(newest);
        }
        for (entry, progress) in entries.iter().zip(progress) {
            let outcome = match progress.dead.is_empty() {
                true => Outcome::Applied(progress.kind),
                false => Outcome::Dead(progress.dead),
            };
            // The acker outlives the workers; if it is gone all the same, the entry stays pending.
            let _ = self.done.send(Done { id: entry.id, outcome });
        }
        Ok(())
    }

    /// Reads an entry into ops; what cannot be read becomes a dead letter, what need not be applied is counted.
    fn decode<'a>(
        &self,
        entry: &'a Entry,
        text: &'a Result<Cow<'a, str>, EntryError>,
        source: &Source<'a>,
        ops: &mut Vec<Op<'a>>,
    ) -> Progress {
        let mut progress = Progress {
            kind: Kind::of(entry.kind.as_deref()),
            dead: Vec::new(),
        };
        let event = match text {
            Ok(text) => decode::decode(entry.kind.as_deref(), text),
            // An entry of a type that nobody knows may hold anything.
            Err(_) if progress.kind == Kind::Unknown && entry.kind.is_some() => return progress,
            Err(error) => Err(error.clone()),
        };
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                progress.dead.push(DeadLetter::entry(entry, error.to_string()));
                return progress;
            }
        };
        for outcome in rows::outcomes(event, source) {
            match outcome {
                rows::Outcome::Op(op) if self.is_switched_off(&op) => self.metrics.ignored(Ignored::SwitchedOff, 1),
                rows::Outcome::Op(op) => ops.push(op),
                rows::Outcome::Ignored(reason) => {
                    log::debug!("entry {}: ignored an op: {}", entry.id, reason.name());
                    self.metrics.ignored(reason, 1);
                }
                rows::Outcome::Bad { index, error } => {
                    let letter =
                        DeadLetter::op(entry, text.as_deref().unwrap_or_default(), index, "", error.to_string());
                    progress.dead.push(letter);
                }
            }
        }
        progress
    }

    fn is_switched_off(&self, op: &Op) -> bool {
        op.table == Table::GenericRecords && !self.switches.generic_records && matches!(op.change, Change::Put(_))
    }

    /// Applies ops, trying for as long as it takes; halves them to find one that can never be applied.
    fn apply(&mut self, ops: &[&Op], entries: &[Entry], progress: &mut [Progress]) -> Result<(), GivenUp> {
        if ops.is_empty() {
            return Ok(());
        }
        let Some(error) = self.try_until_settled(ops)? else {
            return Ok(());
        };
        if let [op] = ops {
            let entry = &entries[op.entry];
            log::error!("entry {}: set apart {}: {}", entry.id, op.path, error.describe());
            let text = decode::text(entry).unwrap_or_default();
            let letter = DeadLetter::op(entry, &text, op.position.op, &op.path, error.describe());
            progress[op.entry].dead.push(letter);
            return Ok(());
        }
        let (first, second) = ops.split_at(ops.len() / 2);
        self.apply(first, entries, progress)?;
        self.apply(second, entries, progress)
    }

    /// Tries until the ops are applied (`None`) or the data is at fault.
    fn try_until_settled(&mut self, ops: &[&Op]) -> Result<Option<ApplyError>, GivenUp> {
        let mut backoff = Backoff::default();
        let mut trouble = Trouble::default();
        loop {
            let error = match self.try_once(ops) {
                Ok(()) => {
                    trouble.end();
                    return Ok(None);
                }
                Err(error) => error,
            };
            if error.fault() == Fault::Data || error.is_ours() && trouble.tries >= VANISHED_TRIES {
                return Ok(Some(error));
            }
            trouble.say(&error);
            if self.stop.is_requested() || backoff.wait(&self.stop) {
                return Err(GivenUp);
            }
        }
    }

    fn try_once(&mut self, ops: &[&Op]) -> Result<(), ApplyError> {
        let mut connection = self.db.get()?;
        let applied = apply::apply(&mut connection, ops, self.switches, &mut self.memory)?;
        self.metrics.record_counts(&applied.record_counts);
        self.metrics.ignored(Ignored::OptOut, applied.opted_out as u64);
        Ok(())
    }

    /// Lets go of what a stop left unapplied: it stays pending for the next start.
    fn give_up(self, entries: Vec<Entry>) {
        let rest: Vec<Entry> = self.inbox.try_iter().collect();
        log::warn!(
            "{} entries could not be applied before the stop; they stay pending",
            entries.len() + rest.len()
        );
        self.in_flight.remove(entries.iter().chain(&rest).map(|entry| entry.id));
    }
}
