//! Counters, and the thread `metrics` that adds them to the dashboard's hashes.
//!
//! Owns the atomics that every thread counts in, and what of them Redis has confirmed. Every 500 ms, and once more after
//! the last thread has ended, the differences go out in one MULTI.
//!
//! Invariant: no interval counts twice, and none is lost while the process lives. Each flush sets its number in a key of
//! ours in the same MULTI; after an unclear answer that key tells whether it was carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use redis::{RedisError, RedisResult, Value};

use crate::ack::{Kind, Outcome};
use crate::apply::RecordCounts;
use crate::config::Config;
use crate::link::{self, Link, Redis};
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
    lost: AtomicU64,
    ignored: [AtomicU64; Ignored::ALL.len()],
    record_counts: [AtomicI64; RECORD_FIELDS.len()],
    newest_committed_ms: AtomicU64,
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
            Outcome::Lost => &self.lost,
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

    fn snapshot(&self) -> Counts {
        let [commits, identities, accounts, errors] =
            [&self.commits, &self.identities, &self.accounts, &self.errors].map(|counter| counter.load(Relaxed));
        Counts {
            events: [commits + identities + accounts, commits, identities, accounts, errors],
            records: std::array::from_fn(|field| self.record_counts[field].load(Relaxed)),
        }
    }

    /// What was ignored, lost and set apart, for the last line in the log.
    fn summary(&self) -> String {
        let [total, .., errors] = self.snapshot().events;
        let ignored: Vec<String> = Ignored::ALL
            .iter()
            .zip(&self.ignored)
            .map(|(reason, count)| (reason.name(), count.load(Relaxed)))
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let ignored = if ignored.is_empty() {
            "none".to_owned()
        } else {
            ignored.join(", ")
        };
        let lost = self.lost.load(Relaxed);
        format!("{total} events, {errors} errors, {lost} entries lost; ops ignored: {ignored}")
    }
}

const EVENT_FIELDS: [&str; 5] = ["totalEvents", "#commit", "#identity", "#account", "errors"];

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    /// In the order of `EVENT_FIELDS`.
    events: [u64; EVENT_FIELDS.len()],
    /// In the order of `RECORD_FIELDS`.
    records: [i64; RECORD_FIELDS.len()],
}

impl Counts {
    fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            events: std::array::from_fn(|field| self.events[field] - earlier.events[field]),
            records: std::array::from_fn(|field| self.records[field] - earlier.records[field]),
        }
    }
}

/// Adds the counters to the dashboard's hashes.
pub struct Flusher {
    link: Link,
    metrics: Arc<Metrics>,
    keys: Vec<String>,
    /// Where the number of the last flush is kept, with the mark of this process.
    number_key: String,
    mark: String,
    number: u64,
    /// What Redis has for sure.
    confirmed: Counts,
    /// What was sent without a clear answer.
    unclear: Option<Counts>,
    /// Why Redis refused the last flush, said once.
    refusal: String,
}

/// The number's key goes by itself once no process has flushed for a day.
const NUMBER_TTL_SECONDS: u64 = 24 * 60 * 60;

impl Flusher {
    pub fn new(redis: &Redis, config: &Config, metrics: Arc<Metrics>) -> Flusher {
        Flusher {
            link: redis.link(Duration::ZERO),
            metrics,
            keys: config.metrics_keys.clone(),
            number_key: format!("firehose:worker:flush:{}:{}", config.group, config.consumer),
            mark: format!("{:x}", fastrand::u64(..)),
            number: 0,
            confirmed: Counts::default(),
            unclear: None,
            refusal: String::new(),
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

    fn flush(&mut self) -> RedisResult<()> {
        self.clear_up()?;
        let counts = self.metrics.snapshot();
        let new = counts.since(&self.confirmed);
        if new == Counts::default() {
            return Ok(());
        }
        let has_record_counts =
            new.records.iter().any(|count| *count != 0) && self.link.query(redis::cmd("EXISTS").arg(RECORD_COUNTS))?;
        self.number += 1;
        let transaction = self.transaction(&new, has_record_counts);
        match self.link.query_pipeline::<Value>(&transaction) {
            Ok(_) => {
                self.confirmed = counts;
                self.refusal.clear();
                Ok(())
            }
            Err(error) => {
                if link::is_connection_error(&error) {
                    self.unclear = Some(counts);
                } else {
                    self.say_refusal(&error);
                }
                Err(error)
            }
        }
    }

    fn transaction(&self, new: &Counts, has_record_counts: bool) -> redis::Pipeline {
        let mut transaction = redis::pipe();
        transaction.atomic();
        for key in &self.keys {
            for (field, count) in EVENT_FIELDS.iter().zip(new.events).filter(|(_, count)| *count > 0) {
                transaction.cmd("HINCRBY").arg(key).arg(field).arg(count);
            }
        }
        for (field, count) in RECORD_FIELDS.iter().zip(new.records).filter(|(_, count)| *count != 0) {
            // The dashboard takes its totals from this hash where it has any field: it is never made here.
            if has_record_counts {
                transaction.cmd("HINCRBY").arg(RECORD_COUNTS).arg(field).arg(count);
            }
        }
        transaction.cmd("SET").arg(&self.number_key).arg(self.marked_number());
        transaction.arg("EX").arg(NUMBER_TTL_SECONDS);
        transaction
    }

    fn marked_number(&self) -> String {
        format!("{}:{}", self.mark, self.number)
    }

    /// Finds out whether a flush without a clear answer was carried out.
    fn clear_up(&mut self) -> RedisResult<()> {
        if let Some(sent) = self.unclear {
            let number: Option<String> = self.link.query(redis::cmd("GET").arg(&self.number_key))?;
            if number == Some(self.marked_number()) {
                self.confirmed = sent;
            }
            self.unclear = None;
        }
        Ok(())
    }

    fn say_refusal(&mut self, error: &RedisError) {
        let refusal = link::describe(error);
        if refusal != self.refusal {
            log::warn!("redis refuses the counters: {refusal}; they are kept and sent again");
            self.refusal = refusal;
        }
    }
}
