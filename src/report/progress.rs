//! The worker's progress, as the service manager and `status` show it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use crate::metrics::{Metrics, Totals};
use crate::postgres::db::Db;
use crate::redis::link::Redis;
use crate::runtime::rates::Rates;
use crate::service::notify::{Progress, Ready};

/// The progress of the start, shared by all threads.
#[derive(Clone, Default)]
pub struct Start {
    reached: Arc<Reached>,
    pub ready: Ready,
}

#[derive(Default)]
struct Reached {
    holds_name: AtomicBool,
    runs: AtomicBool,
}

impl Start {
    /// Records that this process holds the consumer name.
    pub fn name_is_held(&self) {
        self.reached.holds_name.store(true, Relaxed);
    }

    /// Records that all threads are running, and reports readiness.
    pub fn runs(&self) {
        self.reached.runs.store(true, Relaxed);
        self.ready.report();
    }

    /// What keeps the worker from applying entries: a server with the reason, or a step of the start. `None` if
    /// nothing.
    pub fn awaits(&self, redis: &Redis, db: &Db) -> Option<String> {
        let outage = [("redis", &redis.outage), ("postgresql", &db.outage)]
            .into_iter()
            .find_map(|(server, outage)| Some(format!("{server}: {}", outage.reason()?)));
        if outage.is_some() || self.reached.runs.load(Relaxed) {
            return outage;
        }
        let step = match self.reached.holds_name.load(Relaxed) {
            false => "the consumer name",
            true => "postgresql's tables",
        };
        Some(step.to_owned())
    }
}

/// What the service manager shows of the worker.
pub struct WorkerProgress {
    start: Start,
    redis: Redis,
    db: Db,
    metrics: Arc<Metrics>,
    rates: Rates,
}

impl WorkerProgress {
    pub fn new(start: &Start, redis: &Redis, db: &Db, metrics: Arc<Metrics>) -> WorkerProgress {
        WorkerProgress {
            start: start.clone(),
            redis: redis.clone(),
            db: db.clone(),
            metrics,
            rates: Rates::default(),
        }
    }
}

impl Progress for WorkerProgress {
    fn awaits(&self) -> Option<String> {
        self.start.awaits(&self.redis, &self.db)
    }

    fn pace(&mut self, time: Duration) -> String {
        let totals = self.metrics.totals();
        self.rates.add(Instant::now(), totals.events);
        format!("{:.0} events/s, {}", self.rates.over(time), freshness(&totals))
    }

    fn totals(&self) -> String {
        let totals = self.metrics.totals();
        format!(
            "{} events, {} errors, {} lost",
            totals.events,
            totals.errors,
            totals.losses.entries()
        )
    }

    fn rest(&self) -> &'static str {
        "finishing the entries that were read"
    }
}

fn freshness(totals: &Totals) -> String {
    match totals.newest_committed {
        None => "nothing applied yet".to_owned(),
        Some(time) => {
            let age = SystemTime::now().duration_since(time).unwrap_or_default();
            format!("newest entry {:.1} s old", age.as_secs_f64())
        }
    }
}
