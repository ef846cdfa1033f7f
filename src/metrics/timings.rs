//! Measurements per batch, as Prometheus histograms.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::histogram::Histogram;

/// The histograms. Each has its own lock, which a batch takes once.
#[derive(Debug)]
pub struct Timings {
    pub batch_entries: Histogram,
    pub transaction_seconds: Histogram,
    pub commit_freshness_seconds: Histogram,
}

impl Default for Timings {
    fn default() -> Self {
        Timings {
            batch_entries: Histogram::new([1.0, 5.0, 20.0, 100.0, 500.0, 1000.0, 2000.0, 5000.0]),
            transaction_seconds: Histogram::new([0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 20.0]),
            commit_freshness_seconds: Histogram::new([0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0]),
        }
    }
}

impl Timings {
    /// Records a committed batch. `newest_ms` is the time of its newest entry in milliseconds since 1970.
    pub fn batch(&self, entries: usize, newest_ms: u64) {
        self.batch_entries.observe(entries as f64);
        let newest = Duration::from_millis(newest_ms);
        self.commit_freshness_seconds.observe(since(newest).as_secs_f64());
    }

    pub fn transaction(&self, took: Duration) {
        self.transaction_seconds.observe(took.as_secs_f64());
    }
}

/// The time elapsed since `time`, which counts from 1970. Zero if it is in the future because clocks differ.
fn since(time: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(time)
}
