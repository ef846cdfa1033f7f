//! Threads `worker-N`: batch → decode → apply.
//!
//! Owns what is done about a batch that cannot be applied: transient faults and those that an operator must mend are
//! waited for; one that the data is to blame for is halved until each op at fault is alone, which becomes a dead letter,
//! unless it is one of too many: then what refuses them is to blame. An entry that may be what ended the process is tried
//! alone, as `poison` counts. Hands entries to `ack` only after their effect has committed, or with their dead letters.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Sender;
use postgres::error::SqlState;

use crate::ack::{DeadLetter, Done, Kind, Outcome};
use crate::apply::{self, Memory, Switches};
use crate::batch::Batches;
use crate::constraint;
use crate::db::Db;
use crate::decode::{self, EntryError, RawCommit};
use crate::entry::{Entry, EntryId};
use crate::fault::{ApplyError, Fault};
use crate::holder::Lease;
use crate::in_flight::InFlight;
use crate::metrics::Metrics;
use crate::poison::Trials;
use crate::retry::Backoff;
use crate::rows::{self, Change, Ignored, Op, Source, Table};
use crate::shutdown::Stop;
use crate::turns;

/// How long a worker waits for an entry before it looks again whether anybody is left to send one.
const TURN: Duration = Duration::from_millis(500);

pub struct Worker {
    pub batches: Batches,
    pub done: Sender<Done>,
    pub db: Db,
    pub memory: Memory,
    pub switches: Switches,
    pub trials: Trials,
    pub lease: Lease,
    pub in_flight: Arc<InFlight>,
    pub metrics: Arc<Metrics>,
    pub stop: Stop,
    /// Between tries of batches that are refused as a whole.
    pub patience: Backoff,
    /// Ops that were refused, one batch after the other, since one was applied.
    pub streak: usize,
}

/// Why a batch is not applied yet.
enum Unfinished {
    /// A stop was requested; its entries stay pending.
    GivenUp,
    /// Everything in it is refused for a reason that may be the ops' or may not: only neighbours that pass can tell.
    Alone,
}

/// Rows that vanish this often were not deleted by somebody else: then the op is at fault, or the worker. As much for
/// errors of which nobody knows whether they pass.
const PATIENT_TRIES: u32 = 5;

/// Deadlocks, ended sessions and the like pass by the next try; they are worth a line if they do not.
const QUIET_TRIES: u32 = 2;

/// A batch that takes too long this often is tried in halves.
const SLOW_TRIES: u32 = 3;

/// Ops that one reason must refuse, beside most of their batch, before that reason is to blame and not they. Batches of a
/// quiet stream are small: so many without one that is applied between them count as one.
const MANY: usize = 10;

/// An op that cannot be applied, and why.
struct Refused<'o> {
    op: &'o Op<'o>,
    error: ApplyError,
}

/// What one entry has come to so far.
struct Progress {
    kind: Kind,
    dead: Vec<DeadLetter>,
    /// Why ops of it need not be applied; counted once it is done with, however often it was tried.
    ignored: Vec<Ignored>,
}

impl Worker {
    /// Works until the reader has gone and the channel is empty, or a stop finds a batch that cannot be applied.
    pub fn run(mut self) -> anyhow::Result<()> {
        while let Some(mut entries) = self.batches.next(TURN) {
            turns::take();
            while !entries.is_empty() {
                let suspect = entries.last().filter(|last| self.batches.is_alone(last));
                let stepped = match suspect.map(|suspect| suspect.id) {
                    Some(suspect) => self.try_suspect(suspect, &mut entries),
                    None => self.step(&entries),
                };
                match stepped {
                    Ok(()) => break,
                    Err(Unfinished::Alone) => self.batches.add_to(&mut entries),
                    Err(Unfinished::GivenUp) => {
                        self.give_up(entries);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Applies a batch whose last entry may be what ended the process, or sets that apart if it did so too often. Others are
    /// with it only if they were refused alone, so that the process is known to survive them.
    fn try_suspect(&mut self, suspect: EntryId, entries: &mut Vec<Entry>) -> Result<(), Unfinished> {
        self.wait_for_connection()?;
        if let Err(reason) = self.trials.begin(suspect) {
            if let Some(suspect) = entries.pop() {
                let dead = Outcome::Dead(vec![DeadLetter::entry(&suspect, reason)]);
                self.hand_on(&suspect, dead);
            }
            return self.step(entries);
        }
        let stepped = self.step(entries);
        self.trials.end(stepped.is_ok());
        stepped
    }

    /// Applies one batch and hands it on.
    fn step(&mut self, entries: &[Entry]) -> Result<(), Unfinished> {
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
            self.metrics.timings.batch(entries.len(), newest);
        }
        for (entry, progress) in entries.iter().zip(progress) {
            for reason in progress.ignored {
                log::debug!("entry {}: ignored an op: {}", entry.id, reason.name());
                self.metrics.ignored(reason, 1);
            }
            let outcome = match progress.dead.is_empty() {
                true => Outcome::Applied(progress.kind),
                false => Outcome::Dead(progress.dead),
            };
            self.hand_on(entry, outcome);
        }
        Ok(())
    }

    fn hand_on(&self, entry: &Entry, outcome: Outcome) {
        // The acker outlives the workers; if it is gone all the same, the entry stays pending.
        let _ = turns::send(&self.done, Done { id: entry.id, outcome });
    }

    /// Reads an entry into ops; what cannot be read becomes a dead letter.
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
            ignored: Vec::new(),
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
        let mut commit = None;
        for outcome in rows::outcomes(event, source) {
            match outcome {
                rows::Outcome::Op(op) if self.is_switched_off(&op) => progress.ignored.push(Ignored::SwitchedOff),
                rows::Outcome::Op(op) => ops.push(op),
                rows::Outcome::Ignored(reason) => progress.ignored.push(reason),
                rows::Outcome::Bad { index, error } => {
                    // Read once, were all of its ops bad.
                    let commit = commit.get_or_insert_with(|| text.as_deref().ok().and_then(RawCommit::new));
                    let letter = DeadLetter::op(entry, commit.as_ref(), index, "", error.to_string());
                    progress.dead.push(letter);
                }
            }
        }
        progress
    }

    fn is_switched_off(&self, op: &Op) -> bool {
        op.table == Table::GenericRecords && !self.switches.generic_records && matches!(op.change, Change::Put(_))
    }

    /// Applies ops, trying for as long as it takes; those that can never be applied become dead letters.
    fn apply(&mut self, ops: &[&Op], entries: &[Entry], progress: &mut [Progress]) -> Result<(), Unfinished> {
        loop {
            let mut refused = Vec::new();
            self.isolate(ops, ops.len(), &mut refused)?;
            let Some(last) = refused.last() else {
                self.db.served();
                self.streak = 0;
                return Ok(());
            };
            let is_whole = refused.len() == ops.len();
            let is_alone = is_whole && last.error.fault() == Fault::Odd;
            if !is_alone && !self.is_too_many(&refused, ops.len()) {
                self.db.served();
                self.streak = if is_whole { self.streak + refused.len() } else { 0 };
                for Refused { op, error } in refused {
                    bury(op, &error, entries, progress);
                }
                return Ok(());
            }
            let extent = if is_whole { "all" } else { "most" };
            let reason = last.error.describe();
            self.db.is_blocked(&format!("{extent} of a batch is refused: {reason}"));
            // All of them are tried again: the effects of later ops of a repo must come after those of earlier ones.
            if self.stop.is_requested() || self.patience.wait(&self.stop) {
                return Err(Unfinished::GivenUp);
            }
            if is_whole {
                return Err(Unfinished::Alone);
            }
        }
    }

    /// Applies ops but for those that are at fault, or until they are too many of `all`.
    fn isolate<'o>(
        &mut self,
        ops: &[&'o Op<'o>],
        all: usize,
        refused: &mut Vec<Refused<'o>>,
    ) -> Result<(), Unfinished> {
        if ops.is_empty() || self.is_too_many(refused, all) {
            return Ok(());
        }
        // Whether an error passes is found out with the whole, and again with each op that would be set apart.
        let patience = match ops.len() {
            1 => PATIENT_TRIES,
            number if number == all => PATIENT_TRIES,
            _ => 0,
        };
        let Some(error) = self.try_until_settled(ops, patience)? else {
            return Ok(());
        };
        if let [op] = ops {
            refused.push(Refused { op, error });
            return Ok(());
        }
        let (first, second) = ops.split_at(ops.len() / 2);
        self.isolate(first, all, refused)?;
        self.isolate(second, all, refused)
    }

    /// Whether one reason refuses so much of a batch of `all` ops that it is none of theirs.
    fn is_too_many(&self, refused: &[Refused], all: usize) -> bool {
        let Some(last) = refused.last() else { return false };
        let same = refused
            .iter()
            .filter(|other| other.error.sqlstate() == last.error.sqlstate())
            .count();
        let before = if same == all { self.streak } else { 0 };
        same + before >= MANY && same > all / 2
    }

    /// Tries until the ops are applied (`None`) or are refused in a way that trying again does not change.
    fn try_until_settled(&mut self, ops: &[&Op], patience: u32) -> Result<Option<ApplyError>, Unfinished> {
        let mut backoff = Backoff::default();
        let mut reason = None;
        for tries in 1.. {
            if !self.lease.wait(&self.stop) {
                return Err(Unfinished::GivenUp);
            }
            turns::take();
            let Err(error) = self.try_once(ops) else { break };
            let is_settled = match error.fault() {
                Fault::Data if is_met(&error) => tries > patience,
                Fault::Data => !self.is_mendable(&error, tries),
                Fault::Odd => tries > patience,
                Fault::Transient if error.is_ours() => tries > patience,
                Fault::Transient => is_canceled(&error) && ops.len() > 1 && tries > SLOW_TRIES,
                Fault::Operator => false,
            };
            if is_settled {
                return Ok(Some(error));
            }
            reason = error.sqlstate().is_some().then(|| error.describe()).or(reason);
            self.say(&error, tries, reason.as_deref());
            self.trials.suspend();
            if self.stop.is_requested() || backoff.wait(&self.stop) {
                return Err(Unfinished::GivenUp);
            }
            if self.trials.is_on() {
                self.wait_for_connection()?;
                self.trials.resume();
            }
        }
        Ok(None)
    }

    /// A try alone that could not begin is none: ten restarts in an outage must condemn nobody.
    fn wait_for_connection(&self) -> Result<(), Unfinished> {
        let mut backoff = Backoff::default();
        while self.db.with(|_| Ok(())).is_err() {
            if self.stop.is_requested() || backoff.wait(&self.stop) {
                return Err(Unfinished::GivenUp);
            }
        }
        Ok(())
    }

    fn try_once(&mut self, ops: &[&Op]) -> Result<(), ApplyError> {
        let result = self.db.with(|client| {
            let started_at = Instant::now();
            let applied = apply::apply(client, ops, self.switches, &mut self.memory);
            self.metrics.timings.transaction(started_at.elapsed());
            applied
        });
        self.metrics.record_counts(&self.memory.take_users_made());
        let applied = result?;
        self.metrics.record_counts(&applied.record_counts);
        self.metrics.ignored(Ignored::OptOut, applied.opted_out as u64);
        Ok(())
    }

    /// Whether a row was refused for what is not in it: a user who was known and is gone, or a constraint on columns that
    /// the worker does not write.
    fn is_mendable(&mut self, error: &ApplyError, tries: u32) -> bool {
        let Some(refusal) = error.db_error() else {
            return false;
        };
        if refusal.code() == &SqlState::FOREIGN_KEY_VIOLATION && tries == 1 {
            self.memory.forget_users();
            return true;
        }
        let is_not_ours = self.db.with(|client| constraint::is_not_ours(client, refusal));
        // Without an answer the next try asks again.
        is_not_ours.unwrap_or(true)
    }

    /// Says why a batch waits, once for all workers and until all of them go on. `reason` is what the server said last: a
    /// connection that it closed after that tells less.
    fn say(&mut self, error: &ApplyError, tries: u32, reason: Option<&str>) {
        let description = reason.map_or_else(|| error.describe(), str::to_owned);
        log::debug!("try {tries} failed: {}", error.describe());
        match error.fault() {
            // What keeps a connection from being made has been said by the pool, and who comes and goes by `members`; that
            // nobody renews the lease while Redis is away is no news either.
            _ if matches!(
                error,
                ApplyError::Connect(_) | ApplyError::NameLapsed | ApplyError::Joined | ApplyError::Removed
            ) => {}
            Fault::Data if tries == 1 || is_met(error) => {}
            Fault::Data => self.db.is_blocked(&format!(
                "{description}; the worker does not write the columns of that constraint: give them a default, or drop it"
            )),
            Fault::Operator => self.db.is_blocked(&description),
            // Whether it stays with one op is found out before long.
            Fault::Odd => {}
            _ if tries <= QUIET_TRIES && !error.is_slow_to_pass() => {}
            _ => self.db.did_not_serve(&description),
        }
    }

    /// Lets go of what a stop left unapplied: it stays pending for the next start.
    fn give_up(self, entries: Vec<Entry>) {
        let rest = self.batches.rest();
        log::warn!(
            "{} entries could not be applied before the stop; they stay pending",
            entries.len() + rest.len()
        );
        self.in_flight.remove(entries.iter().chain(&rest).map(|entry| entry.id));
    }
}

/// Whether a row came in the way: one that was not there when the worker looked, as when another program writes too, or
/// one that a key of somebody else's forbids.
fn is_met(error: &ApplyError) -> bool {
    error.sqlstate() == Some(&SqlState::UNIQUE_VIOLATION)
}

fn is_canceled(error: &ApplyError) -> bool {
    error.sqlstate() == Some(&SqlState::QUERY_CANCELED)
}

fn bury(op: &Op, error: &ApplyError, entries: &[Entry], progress: &mut [Progress]) {
    let entry = &entries[op.entry];
    let text = decode::text(entry).unwrap_or_default();
    let commit = RawCommit::new(&text);
    let letter = DeadLetter::op(entry, commit.as_ref(), op.position.op, &op.path, error.describe());
    progress[op.entry].dead.push(letter);
}
