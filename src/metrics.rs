//! Counters, and the thread `metrics` that adds them to the dashboard's hashes.
//!
//! Owns the atomics that every thread counts in, and what of them Redis has confirmed. Every 500 ms, and once more after
//! the last thread has ended, the differences go out in one MULTI.
//!
//! Invariant: no interval counts twice, and none is lost while the process lives: a flush without an answer is given to
//! `once` again as it was, until it is known to have been carried out.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use redis::{Cmd, RedisResult, Value};

use crate::ack::{Kind, Outcome};
use crate::apply::RecordCounts;
use crate::config::Config;
use crate::entry::EntryId;
use crate::exposition::Timings;
use crate::link::{self, Link, Redis};
use crate::losses;
use crate::once::{self, Once};
use crate::progress::Progress;
use crate::retry::Refusal;
use crate::rows::Ignored;
use crate::shutdown::Stop;

const INTERVAL: Duration = Duration::from_millis(500);

const RECORD_COUNTS: &str = "db:record_counts";

/// What all threads count in. `Relaxed` throughout: each counter stands alone, and the last flush comes after the threads
/// that count were joined.
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
    record_counts: [AtomicI64; RECORD_FIELDS.len()],
    newest_committed_ms: AtomicU64,
    reads: Mutex<Reads>,
    pub timings: Timings,
    pub progress: Progress,
}

/// New entries that the reader was given.
#[derive(Clone, Copy, Default)]
pub struct Reads {
    pub number: u64,
    /// The newest of them.
    pub last: EntryId,
    /// Numbers of two epochs do not compare: an answer between them was lost.
    pub epoch: u64,
}

/// What never became rows.
#[derive(Clone, Copy)]
pub struct LossCounts {
    /// Entries whose body was gone when they were read again.
    pub pending_trimmed: u64,
    /// Entries that were gone before they were read, those that other processes counted not included.
    pub unread_trimmed: u64,
    /// How often the group, or the whole stream, was gone and made again.
    pub groups_recreated: u64,
}

impl LossCounts {
    pub fn entries(&self) -> u64 {
        self.pending_trimmed + self.unread_trimmed
    }
}

const RECORD_FIELDS: [&str; 8] = [
    "users",
    "posts",
    "likes",
    "reposts",
    "follows",
    "blocks",
    "feed_items",
    "post_aggregations",
];

impl Metrics {
    /// Counts an entry whose acknowledgement is confirmed.
    pub fn acknowledged(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Applied(Kind::Commit) => &self.commits,
            Outcome::Applied(Kind::Identity) => &self.identities,
            Outcome::Applied(Kind::Account) => &self.accounts,
            Outcome::Applied(Kind::Unknown) => return,
            Outcome::Dead(_) => &self.errors,
            Outcome::Lost => &self.pending_trimmed,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub fn ignored(&self, reason: Ignored, number: u64) {
        self.ignored[reason as usize].fetch_add(number, Relaxed);
    }

    /// The rows of a transaction that has committed.
    pub fn record_counts(&self, counts: &RecordCounts) {
        let counts = [
            counts.users,
            counts.posts,
            counts.likes,
            counts.reposts,
            counts.follows,
            counts.blocks,
            counts.feed_items,
            counts.post_aggregations,
        ];
        for (counter, count) in self.record_counts.iter().zip(counts) {
            counter.fetch_add(count, Relaxed);
        }
    }

    /// An entry of that time has committed.
    pub fn committed(&self, ms: u64) {
        self.newest_committed_ms.fetch_max(ms, Relaxed);
    }

    /// All there is to show.
    pub fn totals(&self) -> Totals {
        let [events, commits, identities, accounts, errors] = self.snapshot().events;
        let newest = self.newest_committed_ms.load(Relaxed);
        let ignored = |reason: Ignored| (reason.name(), self.ignored[reason as usize].load(Relaxed));
        Totals {
            events,
            by_type: [("commit", commits), ("identity", identities), ("account", accounts)],
            errors,
            losses: self.losses(),
            ignored: Ignored::ALL.map(ignored),
            newest_committed: (newest > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(newest)),
        }
    }

    /// New entries have been read, up to that ID.
    pub fn read(&self, number: usize, last: EntryId) {
        let mut reads = self.lock_reads();
        reads.number += number as u64;
        reads.last = last;
    }

    /// An answer with new entries may have been lost on its way to the reader.
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

    fn snapshot(&self) -> Counts {
        let losses = self.losses();
        let [commits, identities, accounts, errors] =
            [&self.commits, &self.identities, &self.accounts, &self.errors].map(|counter| counter.load(Relaxed));
        Counts {
            events: [commits + identities + accounts, commits, identities, accounts, errors],
            records: std::array::from_fn(|field| self.record_counts[field].load(Relaxed)),
            losses: [losses.pending_trimmed, losses.groups_recreated],
        }
    }

    /// What was ignored, lost and set apart, for the last line in the log.
    fn summary(&self) -> String {
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

/// What was counted since the start.
pub struct Totals {
    /// Entries that were acknowledged, those with errors left out.
    pub events: u64,
    pub by_type: [(&'static str, u64); 3],
    /// Entries of which a part became a dead letter.
    pub errors: u64,
    pub losses: LossCounts,
    /// Ops by the reason for which they were ignored.
    pub ignored: [(&'static str, u64); Ignored::ALL.len()],
    /// The time in the stream ID of the newest entry whose effect has committed.
    pub newest_committed: Option<SystemTime>,
}

const EVENT_FIELDS: [&str; 5] = ["totalEvents", "#commit", "#identity", "#account", "errors"];

/// Those that `losses` does not add itself.
const LOSS_FIELDS: [&str; 2] = ["pending_trimmed", "groups_recreated"];

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    /// In the order of `EVENT_FIELDS`.
    events: [u64; EVENT_FIELDS.len()],
    /// In the order of `RECORD_FIELDS`.
    records: [i64; RECORD_FIELDS.len()],
    /// In the order of `LOSS_FIELDS`.
    losses: [u64; LOSS_FIELDS.len()],
}

impl Counts {
    fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            events: std::array::from_fn(|field| self.events[field] - earlier.events[field]),
            records: std::array::from_fn(|field| self.records[field] - earlier.records[field]),
            losses: std::array::from_fn(|field| self.losses[field] - earlier.losses[field]),
        }
    }
}

/// Adds the counters to the dashboard's hashes.
pub struct Flusher {
    link: Link,
    metrics: Arc<Metrics>,
    keys: Vec<String>,
    losses_key: String,
    once: Once,
    /// What Redis has for sure.
    confirmed: Counts,
    /// What was sent without an answer, and how.
    unclear: Option<(Counts, Vec<Cmd>)>,
    refusal: Refusal,
}

impl Flusher {
    pub fn new(redis: &Redis, config: &Config, metrics: Arc<Metrics>) -> Flusher {
        Flusher {
            link: redis.link(Duration::ZERO),
            metrics,
            keys: config.metrics_keys.clone(),
            losses_key: losses::key(&config.group),
            once: Once::new(format!("firehose:worker:flush:{}:{}", config.group, config.consumer)),
            confirmed: Counts::default(),
            unclear: None,
            refusal: Refusal::default(),
        }
    }

    /// Flushes until `stop`, which is requested after all threads that count have ended; then once more.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        while !stop.wait(INTERVAL) {
            // Kept counts go out with the next flush.
            let _ = self.flush();
        }
        let flushed = self.flush().or_else(|_| self.flush());
        if let Err(error) = flushed {
            let rest = self.metrics.snapshot().since(&self.confirmed).events;
            let rest: Vec<String> = EVENT_FIELDS
                .iter()
                .zip(rest)
                .map(|(field, count)| format!("{field} {count}"))
                .collect();
            log::error!(
                "the last counts could not be flushed to redis ({}): {}",
                link::describe(&error),
                rest.join(", ")
            );
        }
        log::info!("counted {}", self.metrics.summary());
        Ok(())
    }

    /// Flushes what is new; errors are said.
    fn flush(&mut self) -> RedisResult<()> {
        let flushed = self.try_flush();
        match &flushed {
            Ok(()) => self.refusal.end("redis takes the counters"),
            Err(error) if link::is_connection_error(error) => {}
            Err(error) if link::is_unready(error) => self.link.unserved(error),
            Err(error) => self.refusal.say(format!(
                "redis refuses the counters: {}; they are kept and sent again; it may lack memory, or its user the right: \
                 allow {} {} +hincrby",
                link::describe(error),
                once::RULE,
                self.keys.iter().map(|key| format!("~{key}")).collect::<Vec<_>>().join(" ")
            )),
        }
        flushed
    }

    fn try_flush(&mut self) -> RedisResult<()> {
        if let Some((counts, commands)) = self.unclear.clone() {
            self.send(counts, commands)?;
        }
        let counts = self.metrics.snapshot();
        let new = counts.since(&self.confirmed);
        if new == Counts::default() {
            return self.look();
        }
        let has_record_counts = new.records.iter().any(|count| *count != 0) && self.has_record_counts()?;
        let commands = self.commands(&new, has_record_counts);
        self.send(counts, commands)
    }

    fn send(&mut self, counts: Counts, commands: Vec<Cmd>) -> RedisResult<()> {
        match self.once.execute(&mut self.link, commands.clone()) {
            Ok(answers) => {
                self.confirmed = counts;
                self.unclear = None;
                // EXEC goes on where one of its commands fails, as on a field that holds no number.
                for error in answers.into_iter().filter_map(|answer| answer.extract_error().err()) {
                    log::error!(
                        "a count was lost: redis cannot add to one of the fields: {}",
                        link::describe(&error)
                    );
                }
                Ok(())
            }
            Err(error) => {
                if link::is_connection_error(&error) {
                    self.unclear = Some((counts, commands));
                }
                Err(error)
            }
        }
    }

    /// With nothing to send: while Redis is away, looks whether it is back.
    fn look(&mut self) -> RedisResult<()> {
        if !self.link.is_down() {
            return Ok(());
        }
        self.link.query::<Value>(&redis::cmd("PING")).map(drop)
    }

    fn has_record_counts(&mut self) -> RedisResult<bool> {
        let exists = self.link.query(redis::cmd("EXISTS").arg(RECORD_COUNTS));
        let exists = self.link.optional(
            exists,
            "db:record_counts is not kept up to date",
            "~db:record_counts +exists +hincrby",
        )?;
        Ok(exists.unwrap_or(false))
    }

    fn commands(&self, new: &Counts, has_record_counts: bool) -> Vec<Cmd> {
        let mut commands = Vec::new();
        let mut add = |key: &str, field: &str, count: i64| {
            let mut add = redis::cmd("HINCRBY");
            add.arg(key).arg(field).arg(count);
            commands.push(add);
        };
        for key in &self.keys {
            for (field, count) in EVENT_FIELDS.iter().zip(new.events).filter(|(_, count)| *count > 0) {
                add(key, field, count as i64);
            }
        }
        // The dashboard takes its totals from this hash where it has any field: it is never made here.
        if has_record_counts {
            for (field, count) in RECORD_FIELDS.iter().zip(new.records).filter(|(_, count)| *count != 0) {
                add(RECORD_COUNTS, field, count);
            }
        }
        for (field, count) in LOSS_FIELDS.iter().zip(new.losses).filter(|(_, count)| *count > 0) {
            add(&self.losses_key, field, count as i64);
        }
        commands
    }
}
