//! The last hour, as the page plots it.
//!
//! Invariant: there are at most `LENGTH` samples, and each is newer than the one before, even if the clock is set back.

use std::collections::VecDeque;

use serde::{Serialize, Serializer};

use crate::figures::Figures;
use crate::figures::producer::State;

/// An hour of samples, one every 5 seconds.
const LENGTH: usize = 720;

/// What is plotted of the figures of one moment. What is unknown is `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    pub events_per_second: f32,
    pub added_per_second: Option<f32>,
    pub freshness_seconds: Option<f32>,
    pub backlog: Option<u64>,
    pub headroom_seconds: Option<f32>,
    pub is_paused: bool,
}

/// The names of a sample's numbers, in the order in which it is serialized.
pub const FIELDS: [&str; 7] = [
    "time_ms",
    "events_per_second",
    "added_per_second",
    "freshness_seconds",
    "backlog",
    "trim_headroom_seconds",
    "paused",
];

impl Sample {
    /// `None` for figures that Redis has not answered.
    pub fn of(figures: &Figures) -> Option<Sample> {
        let number = |number: f64| (number * 100.0).round() as f32 / 100.0;
        let is_paused = |state| state == State::Paused;
        Some(Sample {
            time_ms: figures.time_ms?,
            events_per_second: number(figures.events_per_second),
            added_per_second: figures.added_per_second.map(number),
            freshness_seconds: figures.freshness_seconds.map(number),
            backlog: figures.backlog,
            headroom_seconds: figures.trim_headroom_seconds.map(number),
            is_paused: figures
                .consumer
                .as_ref()
                .is_some_and(|consumer| is_paused(consumer.state)),
        })
    }
}

impl Serialize for Sample {
    /// Without names, which would be most of the text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (
            self.time_ms,
            self.events_per_second,
            self.added_per_second,
            self.freshness_seconds,
            self.backlog,
            self.headroom_seconds,
            u8::from(self.is_paused),
        )
            .serialize(serializer)
    }
}

#[derive(Default)]
pub struct History(VecDeque<Sample>);

impl History {
    pub fn add(&mut self, sample: Sample) {
        while self.0.back().is_some_and(|last| last.time_ms >= sample.time_ms) {
            self.0.pop_back();
        }
        if self.0.len() == LENGTH {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The samples that are newer than `time_ms`, oldest first.
    pub fn after(&self, time_ms: u64) -> impl ExactSizeIterator<Item = &Sample> {
        let first = self.0.partition_point(|sample| sample.time_ms <= time_ms);
        self.0.range(first..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(time_ms: u64) -> Sample {
        Sample::of(&Figures {
            time_ms: Some(time_ms),
            ..Figures::default()
        })
        .expect("the time is known")
    }

    fn times(history: &History, after: u64) -> Vec<u64> {
        history.after(after).map(|sample| sample.time_ms).collect()
    }

    #[test]
    fn an_hour_is_kept_and_times_grow_whatever_the_clock_does() {
        let mut history = History::default();
        (1..=2000).for_each(|second| history.add(sample(second * 5000)));
        assert_eq!(times(&history, 0).len(), LENGTH);
        assert_eq!(times(&history, 9_990_000), [9_995_000, 10_000_000]);
        assert!(times(&history, 10_000_000).is_empty());
        history.add(sample(9_990_001));
        assert_eq!(times(&history, 9_985_000), [9_990_000, 9_990_001]);
        history.add(sample(1));
        assert_eq!(times(&history, 0), [1]);
    }

    #[test]
    fn a_sample_has_a_number_for_each_field_and_few_bytes() {
        let mut sample = sample(1_790_000_000_000);
        sample.backlog = Some(123_456);
        let text = serde_json::to_string(&sample).expect("JSON");
        assert_eq!(text, "[1790000000000,0.0,null,null,123456,null,0]");
        let numbers: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(numbers.len(), FIELDS.len());
        assert!(std::mem::size_of::<Sample>() <= 64);
    }
}
