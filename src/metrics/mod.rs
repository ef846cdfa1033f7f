//! Counters.
//!
//! Owns the atomics in which every thread counts, and the names under which they are published. `flush` owns how much
//! of them Redis holds.

pub mod flush;
pub mod readiness;
pub mod timings;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::entry::EntryId;
use crate::logging::repeats::Repeats;
use crate::metrics::readiness::Readiness;
use crate::outcome::{Kind, Outcome};
use crate::rows::Ignored;
use timings::Timings;

/// The counters of all threads. `Relaxed` is enough throughout: the counters are independent, and the last flush runs
/// after the counting threads were joined.
#[derive(Default)]
pub struct Metrics {
    commits: AtomicU64,
    identities: AtomicU64,
    accounts: AtomicU64,
    errors: AtomicU64,
    pending_trimmed: AtomicU64,
    unread_trimmed: AtomicU64,
    groups_recreated: AtomicU64,
    ignored: [AtomicU64; Ignored::ALL.len()],
    dead_letters: Mutex<BTreeMap<String, u64>>,
    record_counts: [AtomicI64; N_RECORD_FIELDS],
    newest_committed_ms: AtomicU64,
    reads: Mutex<Reads>,
    pub timings: Timings,
    pub readiness: Readiness,
    pub repeats: Repeats,
}

/// Rows actually inserted minus rows actually deleted, as stored in the hash `db:record_counts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    pub users: i64,
    pub posts: i64,
    pub likes: i64,
    pub reposts: i64,
    pub follows: i64,
    pub blocks: i64,
    pub feed_items: i64,
    pub post_aggregations: i64,
}

/// Reasons of dead letters that are counted apart: SQLSTATEs of a trigger may be many.
const MAX_REASONS: usize = 50;

/// The number of fields.
const N_RECORD_FIELDS: usize = 8;

impl RecordCounts {
    /// The counts for the fields of the hash.
    pub fn by_field(&self) -> [Count; N_RECORD_FIELDS] {
        [
            ("users", self.users),
            ("posts", self.posts),
            ("likes", self.likes),
            ("reposts", self.reposts),
            ("follows", self.follows),
            ("blocks", self.blocks),
            ("feed_items", self.feed_items),
            ("post_aggregations", self.post_aggregations),
        ]
    }
}

/// The new entries delivered to the reader.
#[derive(Clone, Copy, Default)]
pub struct Reads {
    pub number: u64,
    /// The newest of these entries.
    pub last: EntryId,
    /// Numbers of different epochs cannot be compared, because a reply between them was lost.
    pub epoch: u64,
}

/// Entries that were lost before they could be applied.
#[derive(Clone, Copy)]
pub struct LossCounts {
    /// Entries whose body had been trimmed when they were read again.
    pub pending_trimmed: u64,
    /// Entries that were trimmed before they were read, excluding those counted by other processes.
    pub unread_trimmed: u64,
    /// How often the group, or the whole stream, was missing and recreated.
    pub groups_recreated: u64,
}

impl LossCounts {
    pub fn entries(&self) -> u64 {
        self.pending_trimmed + self.unread_trimmed
    }
}

impl Metrics {
    /// Counts entries that an acknowledgement removed from the pending entries list.
    pub fn acknowledged(&self, outcome: &Outcome, number: u64) {
        let counter = match outcome {
            Outcome::Applied(Kind::Commit) => &self.commits,
            Outcome::Applied(Kind::Identity) => &self.identities,
            Outcome::Applied(Kind::Account) => &self.accounts,
            Outcome::Applied(Kind::Unknown) => return self.ignored(Ignored::UnknownType, number),
            Outcome::Dead(letters) => {
                letters
                    .iter()
                    .for_each(|letter| self.dead_letters(&letter.cause.name, number));
                &self.errors
            }
            Outcome::Lost | Outcome::Dropped => &self.pending_trimmed,
        };
        counter.fetch_add(number, Relaxed);
    }

    fn dead_letters(&self, reason: &str, number: u64) {
        let mut counts = self.lock_dead_letters();
        let has_room = counts.len() < MAX_REASONS || counts.contains_key(reason);
        let reason = if has_room { reason } else { "other" };
        *counts.entry(reason.to_owned()).or_default() += number;
    }

    fn lock_dead_letters(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.dead_letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn ignored(&self, reason: Ignored, number: u64) {
        self.ignored[reason as usize].fetch_add(number, Relaxed);
    }

    /// Adds the rows of a committed transaction.
    pub fn record_counts(&self, counts: &RecordCounts) {
        for (counter, (_, count)) in self.record_counts.iter().zip(counts.by_field()) {
            counter.fetch_add(count, Relaxed);
        }
    }

    /// Records that an entry of this time has committed.
    pub fn committed(&self, ms: u64) {
        self.newest_committed_ms.fetch_max(ms, Relaxed);
    }

    /// All published counts.
    pub fn totals(&self) -> Totals {
        let [events, commits, identities, accounts, errors] = self.events();
        let newest = self.newest_committed_ms.load(Relaxed);
        let ignored = |reason: Ignored| (reason.name(), self.ignored[reason as usize].load(Relaxed));
        Totals {
            events,
            by_type: [("commit", commits), ("identity", identities), ("account", accounts)],
            errors,
            losses: self.losses(),
            ignored: Ignored::ALL.map(ignored),
            dead_letters: self.lock_dead_letters().clone(),
            newest_committed: (newest > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(newest)),
        }
    }

    /// Records that new entries were read, up to the ID `last`.
    pub fn read(&self, number: usize, last: EntryId) {
        let mut reads = self.lock_reads();
        reads.number += number as u64;
        reads.last = last;
    }

    /// Records that a reply with new entries may have been lost on its way to the reader.
    pub fn read_unknown(&self) {
        self.lock_reads().epoch += 1;
    }

    pub fn reads(&self) -> Reads {
        *self.lock_reads()
    }

    fn lock_reads(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn unread_trimmed(&self, number: u64) {
        self.unread_trimmed.fetch_add(number, Relaxed);
    }

    pub fn groups_recreated(&self) -> u64 {
        self.groups_recreated.load(Relaxed)
    }

    pub fn group_recreated(&self) {
        self.groups_recreated.fetch_add(1, Relaxed);
    }

    pub fn losses(&self) -> LossCounts {
        LossCounts {
            pending_trimmed: self.pending_trimmed.load(Relaxed),
            unread_trimmed: self.unread_trimmed.load(Relaxed),
            groups_recreated: self.groups_recreated.load(Relaxed),
        }
    }

    fn events(&self) -> [u64; EVENT_FIELDS.len()] {
        let [commits, identities, accounts, errors] =
            [&self.commits, &self.identities, &self.accounts, &self.errors].map(|counter| counter.load(Relaxed));
        [commits + identities + accounts, commits, identities, accounts, errors]
    }

    /// The counts for the dashboard's hashes.
    pub fn event_counts(&self) -> Vec<Count> {
        let counts = self.events().map(|count| count as i64);
        EVENT_FIELDS.into_iter().zip(counts).collect()
    }

    /// The counts for the dashboard's hash of row totals.
    pub fn row_counts(&self) -> Vec<Count> {
        let fields = RecordCounts::default().by_field().into_iter();
        let counts = self.record_counts.iter().map(|counter| counter.load(Relaxed));
        fields.map(|(field, _)| field).zip(counts).collect()
    }

    /// The counts for the hash of `losses`.
    pub fn loss_counts(&self) -> Vec<Count> {
        let losses = self.losses();
        let counts = [losses.pending_trimmed, losses.groups_recreated].map(|count| count as i64);
        LOSS_FIELDS.into_iter().zip(counts).collect()
    }

    /// What was processed, ignored and lost, for the last line of the log.
    pub fn summary(&self) -> String {
        let totals = self.totals();
        let ignored: Vec<String> = totals
            .ignored
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let ignored = if ignored.is_empty() {
            "none".to_owned()
        } else {
            ignored.join(", ")
        };
        let (events, errors, lost) = (totals.events, totals.errors, totals.losses.entries());
        format!("{events} events, {errors} errors, {lost} entries lost; ops ignored: {ignored}")
    }
}

/// The counts since the process started.
pub struct Totals {
    /// Acknowledged entries, excluding those with errors.
    pub events: u64,
    pub by_type: [(&'static str, u64); 3],
    /// Entries of which at least a part became a dead letter.
    pub errors: u64,
    pub losses: LossCounts,
    /// Ignored ops, and ignored entries of an unknown type, by reason.
    pub ignored: [(&'static str, u64); Ignored::ALL.len()],
    /// Dead letters by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// The time in the stream ID of the newest entry whose effect has committed.
    pub newest_committed: Option<SystemTime>,
}

const EVENT_FIELDS: [&str; 5] = ["totalEvents", "#commit", "#identity", "#account", "errors"];

/// The fields that `losses` does not write itself.
const LOSS_FIELDS: [&str; 2] = ["pending_trimmed", "groups_recreated"];

/// A field of one of the hashes, and its count since the process started.
pub type Count = (&'static str, i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_of_very_many_reasons_are_counted_as_others() {
        let metrics = Metrics::default();
        for reason in 0..2 * MAX_REASONS {
            metrics.dead_letters(&reason.to_string(), 1);
        }
        metrics.dead_letters("0", 1);
        let counts = metrics.totals().dead_letters;
        assert_eq!(counts.len(), MAX_REASONS + 1, "{counts:?}");
        assert_eq!((counts["0"], counts["other"]), (2, MAX_REASONS as u64), "{counts:?}");
    }
}
