//! The progress of a prune, stored in each transaction that deletes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::report::Report;
use super::{STEPS, Slice, Step};
use crate::apply::prune::Pruned;
use crate::micros::Micros;

/// The end of the last finished slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub step: String,
    /// Microseconds since 1970, for steps in the order of time.
    pub at: i64,
    pub uri: String,
}

impl Place {
    pub fn first(step: &Step) -> Place {
        Place {
            step: step.name.to_owned(),
            // PostgreSQL's first timestamps are later.
            at: FIRST,
            uri: String::new(),
        }
    }
}

/// The year 0, before which nothing was indexed.
const FIRST: i64 = -62_167_219_200_000_000;

/// The step of a prune that has finished, and whose counts Redis does not have yet.
const FINISHED: &str = "finished";

/// Changes of row totals that are being sent to the dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// Larger than those before.
    pub number: i64,
    pub counts: BTreeMap<String, i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// In seconds.
    pub age: u64,
    /// In microseconds since 1970.
    pub limit: i64,
    pub place: Place,
    pub report: Report,
    /// Changes of row totals that have not been sent.
    counts: BTreeMap<String, i64>,
    pub sending: Option<Sending>,
    last_number: i64,
    /// Whether a process has begun with it.
    begun: bool,
}

impl State {
    pub fn new(age: Duration, limit: Micros, is_dry_run: bool) -> State {
        State {
            age: age.as_secs(),
            limit: limit.0,
            place: Place::first(&STEPS[0]),
            report: Report::new(is_dry_run, age, limit),
            counts: BTreeMap::new(),
            sending: None,
            last_number: 0,
            begun: false,
        }
    }

    /// Reads a stored state; `None` if another version has stored it.
    pub fn read(text: &str) -> Option<State> {
        serde_json::from_str(text).ok()
    }

    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("names, texts and numbers are JSON")
    }

    /// Whether an unfinished prune of this age can be continued.
    pub fn is_of(&self, age: Duration) -> bool {
        self.begun && self.age == age.as_secs() && STEPS.iter().any(|step| step.name == self.place.step)
    }

    pub fn is_finished(&self) -> bool {
        self.place.step == FINISHED
    }

    pub fn limit_text(&self) -> String {
        super::report::time(Micros(self.limit))
    }

    /// Begins from the first step, and keeps the counts that were not sent.
    pub fn restart(&mut self, age: Duration, limit: Micros) {
        *self = State {
            counts: std::mem::take(&mut self.counts),
            sending: self.sending.take(),
            last_number: self.last_number,
            begun: true,
            ..State::new(age, limit, false)
        };
    }

    /// Adds what a transaction has deleted, and the slice whose last transaction it was.
    pub fn add(&mut self, step: &Step, pruned: &Pruned, end: Option<&Slice>) {
        self.report.add(step, pruned, end);
        for (field, count) in pruned.record_counts.by_field() {
            if count != 0 {
                *self.counts.entry(field.to_owned()).or_default() += count;
            }
        }
        if let Some(slice) = end {
            self.place = slice.last.clone();
        }
    }

    pub fn finish(&mut self) {
        self.report.finish();
        self.place.step = FINISHED.to_owned();
    }

    pub fn has_counts(&self) -> bool {
        self.counts.values().any(|count| *count != 0)
    }

    /// Begins to send all counts. `now` is in milliseconds since 1970.
    pub fn send(&mut self, now: i64) {
        if self.sending.is_none() {
            self.last_number = now.max(self.last_number + 1);
            self.sending = Some(Sending {
                number: self.last_number,
                counts: std::mem::take(&mut self.counts),
            });
        }
    }

    pub fn sent(&mut self) {
        self.sending = None;
    }
}
