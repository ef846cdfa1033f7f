//! Errors of PostgreSQL, and the ops that cause them.
//!
//! Owns the reaction to an error. Transient errors are retried, and errors that an operator must fix are waited for. If
//! the data of a batch is at fault, `sift` finds the refused ops, and each becomes a dead letter, unless one reason
//! refuses too many ops: then the cause lies outside of them, and the batch waits. A batch that is too large for one
//! transaction is halved, and `portion` remembers the limit. A single op that is too large waits until an operator
//! raises the limit, or becomes a dead letter if the limit is PostgreSQL's own (class 54), which no setting raises.
//!
//! Invariant: however many ops of a batch are refused, the number of transactions grows only with the number of
//! reasons.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use postgres::error::SqlState;

use super::reading::EntryProgress;
use super::{Unfinished, Worker};
use crate::apply;
use crate::dead_letter::{Cause, DeadLetter};
use crate::decode::{self, RawCommit};
use crate::entry::Entry;
use crate::postgres::columns;
use crate::postgres::constraint;
use crate::postgres::fault::{ApplyError, Fault};
use crate::rows::{Ignored, Op};
use crate::runtime::heartbeat;
use crate::runtime::retry::Backoff;

/// How often an attempt is repeated after a row was missing or unexpectedly there, before the op is considered at
/// fault: until then another client may have deleted or written the row. The same for errors that may be transient or
/// not.
const PATIENT_TRIES: u32 = 5;

/// Failed attempts that are not logged: deadlocks, ended sessions and the like usually pass with the next attempt.
const QUIET_TRIES: u32 = 2;

/// How often an attempt whose PostgreSQL session ended is repeated before the batch is tried in halves: the batch may
/// be what ends the session.
const SESSION_TRIES: u32 = 3;

/// The number of ops that one reason must refuse, in addition to most of their batch, before the reason and not the ops
/// is considered at fault. Batches of a quiet stream are small, so refused ops of consecutive batches add up until an
/// op is applied.
const MANY: usize = 10;

/// An op that cannot be applied, and why.
struct Refused<'o> {
    op: &'o Op<'o>,
    error: ApplyError,
}

/// The ops of a batch that have been refused so far.
pub(super) struct Refusals<'s, 'o> {
    batch: &'s [&'o Op<'o>],
    refused: Vec<Refused<'o>>,
    /// The reasons, each with the table, column and constraint that it names.
    known: HashSet<[Option<String>; 4]>,
    /// For each reason, the number of ops refused and their repos.
    by_reason: HashMap<String, (usize, HashSet<&'o str>)>,
    /// The number of repos in the batch, counted at the first refusal.
    n_repos: usize,
}

impl<'s, 'o> Refusals<'s, 'o> {
    fn none_of(batch: &'s [&'o Op<'o>]) -> Self {
        Refusals {
            batch,
            refused: Vec::new(),
            known: HashSet::new(),
            by_reason: HashMap::new(),
            n_repos: 0,
        }
    }

    pub(super) fn push(&mut self, op: &'o Op<'o>, error: ApplyError) {
        self.known.extend(known_reason(&error));
        if self.refused.is_empty() {
            let repos: HashSet<&str> = self.batch.iter().map(|op| op.repo.as_ref()).collect();
            self.n_repos = repos.len();
        }
        let (ops, repos) = self.by_reason.entry(reason(&error).to_owned()).or_default();
        *ops += 1;
        repos.insert(op.repo.as_ref());
        self.refused.push(Refused { op, error });
    }

    /// Whether an op of the batch was refused for the same reason before, after enough attempts.
    pub(super) fn knows(&self, error: &ApplyError) -> bool {
        known_reason(error).is_some_and(|reason| self.known.contains(&reason))
    }

    /// Whether every op is refused.
    fn is_whole(&self) -> bool {
        self.refused.len() == self.batch.len()
    }

    /// Whether one reason refuses so much of the batch, and of so many repos, that the ops are not at fault. A single
    /// repo is not enough, since one author may write thousands of ops that are refused. `streak` is the number of ops
    /// refused before this batch since one was applied.
    pub(super) fn are_too_many(&self, streak: usize) -> bool {
        let Some(last) = self.refused.last() else { return false };
        let Some((ops, repos)) = self.by_reason.get(reason(&last.error)) else {
            return false;
        };
        let before = if *ops == self.batch.len() { streak } else { 0 };
        ops + before >= MANY && *ops > self.batch.len() / 2 && repos.len() > self.n_repos / 2
    }
}

/// The SQLSTATE, by which reasons are counted.
fn reason(error: &ApplyError) -> &str {
    error.sqlstate().map_or("", SqlState::code)
}

/// Identifies a reason that needs no further attempts with a single op. `None` if the server gave no reason.
fn known_reason(error: &ApplyError) -> Option<[Option<String>; 4]> {
    let refusal = error.db_error()?;
    let names = [
        Some(refusal.code().code()),
        refusal.table(),
        refusal.column(),
        refusal.constraint(),
    ];
    Some(names.map(|name| name.map(str::to_owned)))
}

impl Worker {
    /// Applies ops, retrying for as long as it takes. Ops that can never be applied become dead letters.
    pub(super) fn apply(
        &mut self,
        ops: &[&Op],
        entries: &[Entry],
        progress: &mut [EntryProgress],
    ) -> Result<(), Unfinished> {
        loop {
            let mut refusals = Refusals::none_of(ops);
            self.isolate(ops, &mut refusals)?;
            let Some(last) = refusals.refused.last() else {
                self.db.report_up();
                self.streak = 0;
                return Ok(());
            };
            let is_whole = refusals.is_whole();
            let is_alone = is_whole && last.error.fault() == Fault::Unknown;
            if !is_alone && !refusals.are_too_many(self.streak) {
                self.db.report_up();
                self.streak = if is_whole { self.streak + ops.len() } else { 0 };
                refusals
                    .refused
                    .sort_by_key(|refused| (refused.op.entry, refused.op.position));
                store_dead_letters(&refusals.refused, entries, progress);
                return Ok(());
            }
            let extent = if is_whole { "all" } else { "most" };
            let reason = last.error.describe();
            self.db
                .report_blocked(&format!("{extent} of a batch is refused: {reason}"));
            // All ops are tried again: later ops of a repo must take effect after earlier ones.
            self.patience.wait(&self.stop)?;
            if is_whole {
                return Err(Unfinished::AllRefused);
            }
        }
    }

    /// Applies all ops except those at fault, or stops when these are too many.
    fn isolate<'o>(&mut self, ops: &[&'o Op<'o>], refusals: &mut Refusals<'_, 'o>) -> Result<(), Unfinished> {
        if ops.is_empty() {
            return Ok(());
        }
        if ops.len() > self.portion.limit() {
            return self.isolate_halves(ops, refusals);
        }
        // Whether an error is transient is tested with the whole batch, and again with each op that would become a dead
        // letter.
        let patience = match ops.len() {
            1 => PATIENT_TRIES,
            number if number == refusals.batch.len() => PATIENT_TRIES,
            _ => 0,
        };
        let Some(error) = self.retry_until_final(ops, patience)? else {
            self.portion.passed(Instant::now());
            return Ok(());
        };
        if let [op] = ops {
            refusals.push(op, error);
            return Ok(());
        }
        if error.may_be_of_one_op() {
            return self.isolate_sifted(ops, &error, refusals);
        }
        let refused_before = refusals.refused.len();
        self.isolate_halves(ops, refusals)?;
        // If an op was refused, that op may have been the cause.
        if error.is_of_size() && refusals.refused.len() == refused_before {
            self.remember_size(ops.len(), &error);
        }
        Ok(())
    }

    /// Applies ops of which some seem to be at fault.
    fn isolate_sifted<'o>(
        &mut self,
        ops: &[&'o Op<'o>],
        error: &ApplyError,
        refusals: &mut Refusals<'_, 'o>,
    ) -> Result<(), Unfinished> {
        let sifted = self.sift(ops, refusals);
        if let (true, Some(size)) = (error.is_of_size(), sifted.too_large) {
            self.remember_size(size, error);
        }
        if sifted.kept.len() == ops.len() || sifted.n_judged == 0 && !sifted.is_next_refused {
            return self.isolate_halves(ops, refusals);
        }
        self.isolate(&sifted.kept, refusals)?;
        let rest = &ops[sifted.n_judged..];
        let (next, rest) = rest.split_at(usize::from(sifted.is_next_refused));
        let refused_before = refusals.refused.len();
        self.isolate(next, refusals)?;
        if refusals.are_too_many(self.streak) {
            return Ok(());
        }
        if refusals.refused.len() > refused_before {
            self.isolate(rest, refusals)
        } else {
            // An error that the search met with one op may not be that op's fault. Halving guarantees that the search
            // ends.
            self.isolate_halves(rest, refusals)
        }
    }

    fn isolate_halves<'o>(&mut self, ops: &[&'o Op<'o>], refusals: &mut Refusals<'_, 'o>) -> Result<(), Unfinished> {
        let (first, second) = ops.split_at(ops.len() / 2);
        self.isolate(first, refusals)?;
        if refusals.are_too_many(self.streak) {
            return Ok(());
        }
        self.isolate(second, refusals)
    }

    fn remember_size(&mut self, ops: usize, error: &ApplyError) {
        if self.portion.was_too_large(ops, Instant::now()) {
            log::warn!(
                "postgresql refuses {ops} ops in one transaction but accepts fewer: {}; continuing with smaller transactions, \
                 nothing is lost",
                error.describe()
            );
        }
    }

    /// Retries until the ops are applied (`None`) or the error is final.
    fn retry_until_final(&mut self, ops: &[&Op], patience: u32) -> Result<Option<ApplyError>, Unfinished> {
        let mut backoff = Backoff::default();
        let mut reason = None;
        for tries in 1.. {
            self.lease.wait(&self.stop)?;
            heartbeat::beat();
            let Err(error) = self.try_once(ops) else { break };
            if matches!(error, ApplyError::Removed) {
                return Err(Unfinished::Removed);
            }
            let is_final = match error.fault() {
                Fault::Data if error.is_unique_violation() => tries > patience,
                Fault::Data if self.meets_other_types(&error) => false,
                Fault::Data => !self.is_mendable(&error, tries),
                Fault::Unknown => tries > patience,
                Fault::Transient if error.is_ours() => tries > patience,
                Fault::Transient if ops.len() > 1 && error.is_of_size() => true,
                Fault::Transient => ops.len() > 1 && error.ended_session() && tries > SESSION_TRIES,
                Fault::Operator => {
                    self.db.make_missing_own_tables(&error);
                    false
                }
            };
            if is_final {
                return Ok(Some(error));
            }
            reason = error.sqlstate().is_some().then(|| error.describe()).or(reason);
            self.say(&error, tries, reason.as_deref());
            self.attempts.suspend();
            backoff.wait(&self.stop)?;
            if self.attempts.is_on() {
                self.wait_for_connection()?;
                self.attempts.resume();
            }
        }
        Ok(None)
    }

    /// Waits for a connection. An attempt that could not begin must not count against the entry: otherwise ten restarts
    /// during an outage would turn it into a dead letter.
    pub(super) fn wait_for_connection(&self) -> Result<(), Unfinished> {
        let mut backoff = Backoff::default();
        while self.db.with(|_| Ok(())).is_err() {
            backoff.wait(&self.stop)?;
        }
        Ok(())
    }

    fn try_once(&mut self, ops: &[&Op]) -> Result<(), ApplyError> {
        let result = self.db.with(|client| {
            let started_at = Instant::now();
            self.memory.connected(self.db.connections());
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

    /// Whether a row was refused for a reason outside of it that can be fixed: a user who was known and has been
    /// deleted, or a constraint on columns that the worker does not write.
    fn is_mendable(&mut self, error: &ApplyError, tries: u32) -> bool {
        let Some(refusal) = error.db_error() else {
            return false;
        };
        if refusal.code() == &SqlState::FOREIGN_KEY_VIOLATION && tries == 1 {
            self.memory.forget_users();
            return true;
        }
        let is_not_ours = self.db.with(|client| constraint::is_not_ours(client, refusal));
        // If the query fails, the next attempt repeats it.
        is_not_ours.unwrap_or(true)
    }

    /// Whether columns have other types than the worker writes, in which case values that PostgreSQL rejects may be
    /// valid. Reports the columns.
    fn meets_other_types(&mut self, error: &ApplyError) -> bool {
        let is_of_value = error.sqlstate().is_some_and(|state| state.code().starts_with("22"));
        self.has_other_types = false;
        if is_of_value && let Ok(columns) = self.db.with(columns::of_other_types) {
            self.has_other_types = !columns.is_empty();
            columns.iter().for_each(|column| self.db.report_blocked(column));
        }
        self.has_other_types
    }

    /// Logs an error of which it is unknown whether it is transient or caused by one op, since finding that out takes a
    /// while.
    fn log_unknown(&mut self, description: &str) {
        if self.odd.as_deref() != Some(description) {
            log::warn!("{description}; retrying, then in smaller parts to find the op that causes it; nothing is lost");
            self.odd = Some(description.to_owned());
        }
    }

    /// Logs why a batch waits, once for all workers until all of them continue. `reason` is the server's last message,
    /// which is more informative than a connection that it closed afterwards.
    fn say(&mut self, error: &ApplyError, tries: u32, reason: Option<&str>) {
        let description = reason.map_or_else(|| error.describe(), str::to_owned);
        log::debug!("try {tries} failed: {}", error.describe());
        match error.fault() {
            // The pool logs failed connections, and `members` logs changes of the membership. While Redis is down, a
            // lapsed lease is not news.
            _ if matches!(
                error,
                ApplyError::Connect(_)
                    | ApplyError::NameLapsed
                    | ApplyError::Joined
                    | ApplyError::LocalDidsChanged { .. }
                    | ApplyError::Removed
            ) => {}
            Fault::Data if self.has_other_types => {}
            Fault::Data if tries == 1 || error.is_unique_violation() => {}
            Fault::Data => self.db.report_blocked(&format!(
                "{description}; the worker does not write the columns of that constraint: give them a default, or drop it"
            )),
            Fault::Operator => self.db.report_blocked(&description),
            Fault::Unknown => self.log_unknown(&description),
            _ if tries <= QUIET_TRIES && !error.is_slow_to_pass() => {}
            _ => self.db.report_down(&description),
        }
    }
}

/// Turns refused ops, which are in the order of their entries, into dead letters. Each entry is parsed once.
fn store_dead_letters(refused: &[Refused], entries: &[Entry], progress: &mut [EntryProgress]) {
    for of_entry in refused.chunk_by(|one, next| one.op.entry == next.op.entry) {
        let index = of_entry[0].op.entry;
        let entry = &entries[index];
        let text = decode::text(entry).unwrap_or_default();
        let commit = RawCommit::new(&text);
        let letters = of_entry.iter().map(|Refused { op, error }| {
            let name = match reason(error) {
                "" => "refused".to_owned(),
                sqlstate => format!("sqlstate_{sqlstate}"),
            };
            let cause = Cause::new(name, error.describe());
            DeadLetter::op(entry, commit.as_ref(), op.position.op, &op.path, cause)
        });
        progress[index].dead.extend(letters);
    }
}
