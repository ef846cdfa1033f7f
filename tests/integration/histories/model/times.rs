//! The expected `indexed_at` of rows, as far as it can be known.
//!
//! A row has the time of the op that created it, or a few milliseconds later if its commit created other rows of its
//! page key. There are several possible times if a row was deleted and created again, since one batch may have folded
//! both ops. The wall clock is known to be between the start and the end of a phase.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::columns::Put;
use super::super::history::{Event, What};
use super::Model;
use crate::records::*;

/// Names the phase by whose clock it is.
const PHASE: &str = "phase";

#[derive(Default)]
pub(super) struct Times {
    /// Whether entries are redelivered: a row that is deleted and created again within them may have the time of any of
    /// these ops, and a row that moves may have that of its last op.
    pub(super) repeats: bool,
    /// When each phase began and ended, in milliseconds since 1970.
    phases: Vec<(i64, i64)>,
    /// The phase at hand.
    phase: usize,
    /// Side effects of the record at hand that are there before its op.
    pub(super) kept: BTreeMap<String, Value>,
    /// Those that were there at some time in this phase.
    gone: BTreeMap<String, Value>,
    /// Puts to posts in this phase, since the last delete.
    puts: BTreeMap<String, Value>,
    /// Rows of generators, packs and labelers that were replaced in this phase.
    replaced: BTreeMap<(&'static str, String), Vec<Value>>,
    /// Users whose rows came in this phase.
    new_users: BTreeSet<String>,
}

/// Any of both.
pub(super) fn either(one: &Value, other: &Value) -> Value {
    let of = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = of(one);
    all.extend(of(other));
    json!(all)
}

pub(super) fn of_event(event: &Event) -> Value {
    json!([[event.ms(), event.ms()]])
}

impl Put<'_> {
    /// The time of a row that the record makes.
    pub(crate) fn time(&self) -> Value {
        let is_moved = matches!(self.collection, LIKE | REPOST | FOLLOW | BLOCK | LISTITEM);
        // Subjects without an owner are liked in other histories in the same millisecond; all events are a second
        // apart.
        let is_nobodys = self.record["subject"]["uri"]
            .as_str()
            .is_some_and(|uri| !uri.contains("did:"));
        let n_others = match &self.event.what {
            What::Commit { .. } if is_moved && is_nobodys => 999,
            What::Commit { ops, .. } if is_moved => ops.len() as u64 - 1,
            _ => 0,
        };
        json!([[self.event.ms(), self.event.ms() + n_others]])
    }
}

impl Times {
    pub(super) fn new(repeats: bool) -> Self {
        Self {
            repeats,
            ..Self::default()
        }
    }

    pub(super) fn now(&self) -> Value {
        json!([{PHASE: self.phase}])
    }

    /// The time of a side effect that is there after an op.
    pub(super) fn of_effect(&self, uri: &str, new: Value) -> Value {
        match (self.kept.get(uri), self.gone.get(uri)) {
            (Some(kept), _) => kept.clone(),
            (None, Some(gone)) => either(gone, &new),
            (None, None) => new,
        }
    }

    pub(super) fn goes(&mut self, uri: &str, times: &Value) {
        let gone = self.gone.entry(uri.to_owned()).or_insert_with(|| json!([]));
        *gone = either(gone, times);
    }

    /// A post is put, applied or refused. Answers the times of all such puts.
    pub(super) fn puts(&mut self, uri: &str, time: &Value) -> Value {
        let puts = self.puts.entry(uri.to_owned()).or_insert_with(|| json!([]));
        *puts = either(puts, time);
        puts.clone()
    }

    /// If a put before the delete is redelivered, it creates a new post. A batch that contains only the result of the
    /// delete may keep the post's side effects.
    pub(super) fn deleted(&mut self, uri: &str) {
        self.kept.clear();
        let Some(puts) = self.puts.remove(uri).filter(|_| self.repeats) else {
            return;
        };
        for effect in [uri.to_owned(), format!("{uri}#quote")] {
            let gone = self.gone.entry(effect).or_insert_with(|| json!([]));
            *gone = either(gone, &puts);
        }
    }

    /// The time of a row that counts as new with every change. If it has its old values again, a batch may have seen no
    /// change.
    pub(super) fn replace(&mut self, key: &(&'static str, String), old: &Value, new: &Value) -> Value {
        let content = |row: &Value| with(row.clone(), json!({"indexed_at": null, "like_count": null}));
        if content(old) == content(new) {
            return old["indexed_at"].clone();
        }
        let now = self.now();
        let replaced = self.replaced.entry(key.clone()).or_default();
        replaced.push(old.clone());
        let again = replaced.iter().filter(|row| content(row) == content(new));
        let seen = again.fold(json!([]), |all, row| either(&all, &row["indexed_at"]));
        either(&seen, &now)
    }

    /// Another op that the user must exist for.
    pub(super) fn wants_user(&mut self, did: &str, row: &mut Value, time: &Value, is_new: bool) {
        if is_new {
            self.new_users.insert(did.to_owned());
        }
        if self.new_users.contains(did) {
            row["indexed_at"] = either(&row["indexed_at"], time);
        }
    }

    pub(super) fn end_phase(&mut self) {
        let phases = std::mem::take(&mut self.phases);
        *self = Times {
            phases,
            phase: self.phase + 1,
            ..Times::new(self.repeats)
        };
    }
}

impl Model {
    /// A phase has been played, between two times in milliseconds since 1970.
    pub(crate) fn took(&mut self, from: i64, to: i64) {
        self.times.phases.push((from, to));
    }

    /// Whether a row may have come at this time, which is as PostgreSQL prints it.
    pub(crate) fn may_have_come(&self, expected: &Value, found: &Value) -> bool {
        let text = found.as_str().expect("indexed_at is a time");
        let time = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").expect("PostgreSQL's form");
        let found = time.and_utc().timestamp_micros();
        let mut alternatives = expected.as_array().expect("times").iter();
        alternatives.any(|time| match time[PHASE].as_u64() {
            Some(phase) => {
                let phases = &self.times.phases;
                let (first, last) = match self.times.repeats {
                    true => (phases[0], phases[phases.len() - 1]),
                    false => (phases[phase as usize], phases[phase as usize]),
                };
                (first.0 * 1000..=last.1 * 1000 + 999).contains(&found)
            }
            None => {
                let ms = |index: usize| time[index].as_i64().expect("a range");
                (ms(0)..=ms(1)).contains(&(found / 1000)) && found % 1000 == 0
            }
        })
    }
}
