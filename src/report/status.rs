//! Thread `status`: publishes the worker's state, so that it can be read from another machine.
//!
//! Owns the key that `firehose-worker status` reads, which is written every second, beside the data path. It expires
//! soon after the worker ends. If the user may not write it, the worker runs without it. Also has the database's growth
//! sampled while the worker applies entries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::keys::{self, Group};
use crate::lease::mark;
use crate::metrics::Metrics;
use crate::postgres::db::Db;
use crate::redis::link::{self, Link, Redis};
use crate::report::growth::Sampler;
use crate::report::progress::Start;
use crate::runtime::rates::{self, Rates};
use crate::runtime::shutdown::Stop;
use crate::settings::cli::VERSION;
use crate::settings::config::Config;

const INTERVAL: Duration = Duration::from_secs(1);

/// A worker that has published nothing for this long has ended, or does not reach Redis.
const TTL: Duration = Duration::from_secs(10);

/// The current rate is an average over this time, so that a single batch does not make it jump.
const SHORT: Duration = Duration::from_secs(3);

const LONG: Duration = rates::LONGEST;

/// The state that a worker publishes, as JSON.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Status {
    pub version: String,
    /// Host and process ID.
    pub process: String,
    /// Milliseconds since 1970 by the worker's clock, as all times here.
    pub started_ms: u64,
    pub told_ms: u64,
    pub threads: usize,
    /// Why nothing is being applied, if so.
    pub waiting_for: Option<String>,
    /// The time in the stream ID of the newest committed entry.
    pub newest_committed_ms: Option<u64>,
    pub events_per_second: f64,
    pub events_per_second_over_a_minute: f64,
    /// Entries since the start, by type; `errors` are those with a dead letter.
    pub events: BTreeMap<String, u64>,
    /// Ops since the start that are deliberately not applied, by reason.
    pub ignored: BTreeMap<String, u64>,
    /// Dead letters since the start, by reason.
    pub dead_letters_by_reason: BTreeMap<String, u64>,
}

/// The key of a consumer's status.
pub fn key<'a>(group: impl Into<Group<'a>>, consumer: &str) -> String {
    keys::of_consumer("status", group, consumer)
}

/// Writes the status.
pub struct Publisher {
    link: Link,
    redis: Redis,
    db: Db,
    metrics: Arc<Metrics>,
    key: String,
    process: String,
    started: SystemTime,
    threads: usize,
    start: Start,
    rates: Rates,
    sampler: Sampler,
    is_allowed: bool,
}

impl Publisher {
    pub fn new(redis: &Redis, db: &Db, config: &Config, metrics: Arc<Metrics>, start: Start) -> Publisher {
        Publisher {
            link: redis.link(Duration::ZERO),
            redis: redis.clone(),
            db: db.clone(),
            metrics,
            key: key(config, &config.consumer),
            process: mark::this_process(),
            started: SystemTime::now(),
            threads: config.workers,
            start,
            rates: Rates::default(),
            sampler: Sampler::new(db, config),
            is_allowed: true,
        }
    }

    /// Writes until `stop`, then deletes the key.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        loop {
            self.publish();
            if stop.wait(INTERVAL) || !self.is_allowed {
                break;
            }
        }
        if self.is_allowed {
            // If this fails, the key expires.
            let _ = self.link.query::<()>(redis::cmd("DEL").arg(&self.key));
        }
        Ok(())
    }

    fn publish(&mut self) {
        let status = self.status();
        let Ok(text) = serde_json::to_string(&status) else {
            return;
        };
        let mut set = redis::cmd("SET");
        set.arg(&self.key).arg(text).arg("PX").arg(TTL.as_millis() as u64);
        let written = self.link.query::<()>(&set);
        let cost = "`status` shows less of this process";
        match self.link.optional(written, cost, "~firehose:worker:* +set +del") {
            Ok(written) => self.is_allowed = written.is_some(),
            // The link reports an outage, and the next status is written in a second.
            Err(error) => log::debug!("failed to write the status: {}", link::describe(&error)),
        }
        if status.waiting_for.is_none() {
            self.sampler.sample_if_due(&mut self.link);
        }
    }

    fn status(&mut self) -> Status {
        let totals = self.metrics.totals();
        self.rates.add(Instant::now(), totals.events + totals.errors);
        let named = |counts: &[(&str, u64)]| -> BTreeMap<String, u64> {
            let counts = counts.iter().filter(|(_, count)| *count > 0);
            counts.map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let mut events = named(&totals.by_type);
        events.insert("errors".to_owned(), totals.errors);
        Status {
            version: VERSION.to_owned(),
            process: self.process.clone(),
            started_ms: millis(self.started),
            told_ms: millis(SystemTime::now()),
            threads: self.threads,
            waiting_for: self.start.awaits(&self.redis, &self.db),
            newest_committed_ms: totals.newest_committed.map(millis),
            events_per_second: self.rates.over(SHORT),
            events_per_second_over_a_minute: self.rates.over(LONG),
            events,
            ignored: named(&totals.ignored),
            dead_letters_by_reason: totals.dead_letters,
        }
    }
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
