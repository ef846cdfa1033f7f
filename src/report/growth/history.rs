//! The history of a group's database: how large it was, and how much the group had read by then.
//!
//! Owns the form in which Redis keeps it, how much of it is kept, and what it says about the growth. Pure.
//!
//! Invariant: all samples of a history are comparable. One of another database, of a group that was created again, or
//! with other settings begins a new history, and so does one that counts fewer events than the last.

use std::fmt;
use std::time::Duration;

/// The time between two samples.
pub const INTERVAL: Duration = Duration::from_secs(3600);

/// Older samples are dropped: the history is about how the database grows now.
pub const KEPT: Duration = Duration::from_secs(14 * 86_400);

/// What a rate is computed from, at least. A database grows in steps: indexes split, and autovacuum finds space.
pub const SHORTEST: Duration = INTERVAL;
pub const FEWEST: u64 = 100_000;

/// The database is not said to shrink by less than this share of its size: autovacuum cuts empty ends off tables.
const NOTICED_PERCENT: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub bytes: u64,
    /// The number of entries that the group had read.
    pub events: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// What makes the samples comparable, as one line.
    of: String,
    samples: Vec<Sample>,
}

/// How much the database grew between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    pub from: Sample,
    pub to: Sample,
}

impl History {
    /// How long it is until the next sample; `None` if it is due.
    pub fn rest(&self, now_ms: u64) -> Option<Duration> {
        let since = Duration::from_millis(now_ms.saturating_sub(self.samples.last()?.at_ms));
        INTERVAL.checked_sub(since).filter(|rest| !rest.is_zero())
    }

    /// Adds a sample, which is `of` what makes it comparable.
    pub fn add(&mut self, of: &str, sample: Sample) {
        let follows = |last: &Sample| last.events <= sample.events && last.at_ms <= sample.at_ms;
        if self.of != of || !self.samples.last().is_some_and(follows) {
            of.clone_into(&mut self.of);
            self.samples.clear();
        }
        self.samples.push(sample);
        let oldest = sample.at_ms.saturating_sub(KEPT.as_millis() as u64);
        self.samples.retain(|sample| sample.at_ms >= oldest);
    }

    /// The growth since the database last shrank, as after VACUUM FULL; `None` without a sample. Whether that is enough
    /// for a rate, it says itself.
    pub fn growth(&self) -> Option<Growth> {
        let shrinks = |pair: &[Sample]| pair[1].bytes < pair[0].bytes - pair[0].bytes * NOTICED_PERCENT / 100;
        let shrank = self.samples.windows(2).rposition(shrinks);
        let first = shrank.map_or(0, |at| at + 1);
        Some(Growth {
            from: *self.samples.get(first)?,
            to: *self.samples.last()?,
        })
    }

    /// Parses what `Display` writes.
    pub fn parse(text: &str) -> Option<History> {
        let mut lines = text.lines();
        let of = lines.next()?.to_owned();
        let samples: Option<Vec<Sample>> = lines.map(Sample::parse).collect();
        Some(History { of, samples: samples? })
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Sample> {
        let mut numbers = line.split(' ').map(str::parse);
        let mut number = || numbers.next()?.ok();
        Some(Sample {
            at_ms: number()?,
            bytes: number()?,
            events: number()?,
        })
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.of)?;
        for Sample { at_ms, bytes, events } in &self.samples {
            write!(f, "\n{at_ms} {bytes} {events}")?;
        }
        Ok(())
    }
}

impl Growth {
    pub fn events(&self) -> u64 {
        self.to.events - self.from.events
    }

    pub fn time(&self) -> Duration {
        Duration::from_millis(self.to.at_ms - self.from.at_ms)
    }

    /// Whether it is long enough for a rate.
    pub fn is_enough(&self) -> bool {
        self.time() >= SHORTEST && self.events() >= FEWEST
    }

    /// Negative if the database has shrunk.
    pub fn bytes(&self) -> i64 {
        self.to.bytes as i64 - self.from.bytes as i64
    }

    pub fn per_million_events(&self) -> f64 {
        self.bytes() as f64 / self.events() as f64 * 1e6
    }

    pub fn per_day(&self) -> f64 {
        self.bytes() as f64 / self.time().as_secs_f64() * 86_400.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn sample(hour: u64, bytes: u64, events: u64) -> Sample {
        Sample {
            at_ms: 1_700_000_000_000 + hour * HOUR,
            bytes,
            events,
        }
    }

    /// A history of these samples, after a way through Redis.
    fn history(samples: &[(&str, Sample)]) -> History {
        let mut history = History::default();
        for (of, sample) in samples {
            history.add(of, *sample);
            history = History::parse(&history.to_string()).unwrap();
        }
        history
    }

    #[test]
    fn growth_is_per_event_and_per_day() {
        let growth = history(&[
            ("a", sample(0, 1000, 0)),
            ("a", sample(1, 900_000, 50_000)),
            ("a", sample(2, 2_001_000, 1_000_000)),
        ]);
        let growth = growth.growth().unwrap();
        assert!(growth.is_enough());
        assert_eq!((growth.per_million_events(), growth.per_day()), (2e6, 24e6));
    }

    #[test]
    fn a_short_history_is_not_enough() {
        assert_eq!(History::default().growth(), None);
        for last in [sample(0, 9, 200_000), sample(1, 9, 99_999)] {
            let growth = history(&[("a", sample(0, 1, 0)), ("a", last)]).growth().unwrap();
            assert!(!growth.is_enough(), "{growth:?}");
        }
    }

    #[test]
    fn what_is_not_comparable_begins_anew() {
        let begun = [("a", sample(0, 1, 100)), ("a", sample(1, 2, 200))];
        for (of, next) in [
            ("b", sample(2, 3, 300)),
            ("a", sample(2, 3, 199)),
            ("a", sample(0, 3, 300)),
        ] {
            let growth = history(&[begun[0], begun[1], (of, next)]).growth().unwrap();
            assert_eq!(growth.from, next);
        }
    }

    #[test]
    fn growth_is_counted_from_the_last_time_the_database_shrank() {
        let growth = history(&[
            ("a", sample(0, 10_000, 0)),
            ("a", sample(1, 5_000, 10)),
            ("a", sample(2, 6_000, 20)),
            ("a", sample(3, 5_990, 30)),
        ]);
        assert_eq!(growth.growth().unwrap().from, sample(1, 5_000, 10));
    }

    #[test]
    fn the_next_sample_is_due_after_an_hour_and_old_ones_are_dropped() {
        let mut kept = history(&[("a", sample(0, 1, 0))]);
        assert_eq!(History::default().rest(1), None);
        let now = sample(0, 1, 0).at_ms;
        assert_eq!(kept.rest(now + 1000), Some(INTERVAL - Duration::from_secs(1)));
        assert_eq!(kept.rest(now + HOUR), None);
        for hour in 1..1000 {
            kept.add("a", sample(hour, 1, hour));
        }
        assert_eq!(kept.samples.len(), 14 * 24 + 1);
        assert!(kept.to_string().len() < 20_000);
    }
}
