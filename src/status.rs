//! Thread `status`: what the worker tells of itself, for who looks from elsewhere.
//!
//! Owns the key that `firehose-worker status` reads, written every second beside the data's way. It goes by itself when the
//! worker is gone; without the right to write it, the worker does without.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::cli::VERSION;
use crate::config::Config;
use crate::db::Db;
use crate::holder;
use crate::link::{self, Link, Redis};
use crate::metrics::Metrics;
use crate::notify::Start;
use crate::shutdown::Stop;

const INTERVAL: Duration = Duration::from_secs(1);

/// A worker that has told nothing for so long is gone, or does not reach Redis.
const TTL: Duration = Duration::from_secs(10);

/// The rate at the moment is taken over this time, so that a batch more or less does not show.
const SHORT: Duration = Duration::from_secs(3);

const LONG: Duration = Duration::from_secs(60);

/// What a worker tells.
#[derive(Debug, Deserialize, Serialize)]
pub struct Status {
    pub version: String,
    /// Host and number of the process.
    pub process: String,
    /// Times are milliseconds since 1970, by the worker's clock.
    pub started_ms: u64,
    pub told_ms: u64,
    pub threads: usize,
    /// Why nothing is applied.
    pub waiting_for: Option<String>,
    /// The time in the stream ID of the newest committed entry.
    pub newest_committed_ms: Option<u64>,
    pub events_per_second: f64,
    pub events_per_second_over_a_minute: f64,
    /// Entries since the start, by type, with `errors`.
    pub events: BTreeMap<String, u64>,
    /// Ops since the start that are deliberately not applied, by reason.
    pub ignored: BTreeMap<String, u64>,
}

/// The key of a consumer's status.
pub fn key(group: &str, consumer: &str) -> String {
    format!("firehose:worker:status:{group}:{consumer}")
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
    is_allowed: bool,
}

impl Publisher {
    pub fn new(redis: &Redis, db: &Db, config: &Config, metrics: Arc<Metrics>, start: Start) -> Publisher {
        Publisher {
            link: redis.link(Duration::ZERO),
            redis: redis.clone(),
            db: db.clone(),
            metrics,
            key: key(&config.group, &config.consumer),
            process: holder::this_process(),
            started: SystemTime::now(),
            threads: config.workers,
            start,
            rates: Rates::default(),
            is_allowed: true,
        }
    }

    /// Writes until `stop`; then the status goes, since there is nobody of whom it tells.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        loop {
            self.publish();
            if stop.wait(INTERVAL) || !self.is_allowed {
                break;
            }
        }
        if self.is_allowed {
            // Else it goes with its TTL.
            let _ = self.link.query::<()>(redis::cmd("DEL").arg(&self.key));
        }
        Ok(())
    }

    fn publish(&mut self) {
        let Ok(text) = serde_json::to_string(&self.status()) else {
            return;
        };
        let mut set = redis::cmd("SET");
        set.arg(&self.key).arg(text).arg("PX").arg(TTL.as_millis() as u64);
        let Err(error) = self.link.query::<()>(&set) else {
            return;
        };
        if link::code(&error) == "NOPERM" {
            log::info!(
                "redis does not allow a key for the status: `status` shows less; allow ~firehose:worker:* +set +del"
            );
            self.is_allowed = false;
        } else {
            // An outage is said by the link, and the next status comes in a second.
            log::debug!("failed to write the status: {}", link::describe(&error));
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
        }
    }
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Events per second over a while.
#[derive(Default)]
pub struct Rates(VecDeque<(Instant, u64)>);

impl Rates {
    pub fn add(&mut self, at: Instant, total: u64) {
        // A number that falls is that of another hash or process.
        if self.0.back().is_some_and(|(_, last)| *last > total) {
            self.0.clear();
        }
        self.0.push_back((at, total));
        while self.0.get(1).is_some_and(|(second, _)| at - *second >= LONG) {
            self.0.pop_front();
        }
    }

    pub fn over(&self, time: Duration) -> f64 {
        let Some((now, total)) = self.0.back() else { return 0.0 };
        let first = self
            .0
            .iter()
            .rev()
            .find(|(at, _)| *now - *at >= time)
            .or(self.0.front());
        let Some((at, before)) = first else { return 0.0 };
        let seconds = (*now - *at).as_secs_f64();
        if seconds == 0.0 {
            0.0
        } else {
            (total - before) as f64 / seconds
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_taken_over_the_time_there_is() {
        let start = Instant::now();
        let mut rates = Rates::default();
        assert_eq!(rates.over(SHORT), 0.0);
        for second in 0..=100 {
            let total = if second <= 97 {
                second * 10
            } else {
                970 + (second - 97) * 100
            };
            rates.add(start + Duration::from_secs(second), total);
        }
        assert_eq!(rates.over(SHORT), 100.0);
        assert_eq!(rates.over(LONG), (3.0 * 100.0 + 57.0 * 10.0) / 60.0);
        assert!(rates.0.len() <= 62);
        rates.add(start + Duration::from_secs(101), 5);
        assert_eq!(rates.over(SHORT), 0.0);
    }
}
