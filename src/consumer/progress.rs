//! The consumer's progress, as the service manager shows it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::counts::Counts;
use super::intake::now_ms;
use super::peers::Noticed;
use super::term::Terms;
use crate::redis::link::Redis;
use crate::runtime::rates::Rates;
use crate::runtime::retry::Outage;
use crate::service::notify::Progress;

pub struct ConsumerProgress {
    pub redis: Redis,
    pub relay: Arc<Outage>,
    pub terms: Terms,
    pub noticed: Noticed,
    pub counts: Arc<Counts>,
    pub rates: Rates,
}

impl Progress for ConsumerProgress {
    fn awaits(&self) -> Option<String> {
        if let Some(reason) = self.redis.outage.reason() {
            return Some(format!("redis: {reason}"));
        }
        if self.counts.is_paused.load(Relaxed) {
            return Some("the group to read its backlog".to_owned());
        }
        if !self.terms.is_any() {
            let what = match self.noticed.is_set() {
                true => "another producer to end",
                false => "the cursor, which another process holds",
            };
            return Some(what.to_owned());
        }
        self.relay.reason().map(|reason| format!("the relay: {reason}"))
    }

    fn pace(&mut self, time: Duration) -> String {
        self.rates.add(Instant::now(), self.counts.committed.entries());
        let lag = match self.counts.lag(now_ms()) {
            None => "nothing appended yet".to_owned(),
            Some(lag) => format!("newest event {:.1} s old", lag.as_secs_f64()),
        };
        format!("{:.0} events/s, {lag}", self.rates.over(time))
    }

    fn totals(&self) -> String {
        let committed = &self.counts.committed;
        format!("{} entries, {} set aside", committed.entries(), committed.set_aside())
    }

    fn rest(&self) -> &'static str {
        "appending the events that were read"
    }
}
