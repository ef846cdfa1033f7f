//! Compares the tables with the model, history by history.

use std::collections::BTreeMap;

use serde_json::Value;

use super::history::tag;
use super::model::{ANY, COUNTERS, Model, Open, table};
use crate::records::*;
use crate::support::Snapshot;
use crate::support::snapshot::written_tables;

/// Tables that are not compared row by row.
const OTHERWISE: [&str; 2] = ["verifications", "post_aggregations"];

/// Rows by history and table.
pub(crate) struct Found(BTreeMap<String, BTreeMap<&'static str, Vec<Value>>>);

impl Found {
    /// Sorts rows to their histories by the tag that each has in its keys.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut found: BTreeMap<String, BTreeMap<&'static str, Vec<Value>>> = BTreeMap::new();
        for table in written_tables() {
            for row in snapshot.rows(table) {
                let tag = tag_of(&row.to_string());
                let rows = found.entry(tag).or_default().entry(table).or_default();
                rows.push(row.clone());
            }
        }
        Self(found)
    }

    fn rows(&self, seed: u64, table: &str) -> &[Value] {
        let of_history = self.0.get(&tag(seed));
        of_history
            .and_then(|tables| tables.get(table))
            .map_or(&[], Vec::as_slice)
    }
}

/// The tag in a row. Subjects without an owner have none.
fn tag_of(text: &str) -> String {
    let Some(at) = text.find("did:plc:h") else {
        return String::new();
    };
    let end = text[at..].find('x').map_or(text.len(), |end| at + end + 1);
    text[at..end].to_owned()
}

/// All differences, table by table; empty if there are none.
pub(crate) fn differences(model: &Model, seed: u64, found: &Found) -> String {
    let expected = model.rows();
    let mut text = String::new();
    for table in written_tables().filter(|table| !OTHERWISE.contains(table)) {
        let rows = expected.get(table).map_or(&[][..], Vec::as_slice);
        text.push_str(&difference(table, rows, found.rows(seed, table), model));
    }
    text.push_str(&verification_difference(model, found.rows(seed, table(VERIFICATION))));
    text.push_str(&counter_difference(model, seed, found.rows(seed, "post_aggregations")));
    text
}

fn difference(table: &str, expected: &[Value], found: &[Value], model: &Model) -> String {
    let open = &model.open;
    let is_open = |row: &Value| {
        let text = row.to_string();
        open.effects.keys().any(|uri| text.contains(uri.as_str())) || without(row, open) != *row
    };
    let mut found: Vec<&Value> = found.iter().collect();
    let mut expected: Vec<&Value> = expected.iter().collect();
    let mut text = String::new();
    remove_pairs(&mut expected, &mut found, |one, other| is_same(model, one, other));
    if is_side_effect(table) {
        // Two records have their traces in one viewer state, of which one may be known and the other open.
        remove_pairs(&mut expected, &mut found, |one, other| {
            is_same(model, &without(one, open), &without(other, open))
        });
    }
    for row in expected {
        if !is_side_effect(table) || !is_open(row) {
            text.push_str(&format!("\n  {table} lacks {row}"));
        }
    }
    for row in found {
        if !is_side_effect(table) || !is_open(row) {
            text.push_str(&format!("\n  {table} has   {row}"));
        }
    }
    text
}

/// Removes what is in both.
fn remove_pairs(expected: &mut Vec<&Value>, found: &mut Vec<&Value>, is_same: impl Fn(&Value, &Value) -> bool) {
    expected.retain(|row| match found.iter().position(|found| is_same(row, found)) {
        Some(at) => {
            found.remove(at);
            false
        }
        None => true,
    });
}

/// A row without the values that name open records.
fn without(row: &Value, open: &Open) -> Value {
    let subject = row["post_uri"].as_str().unwrap_or_default();
    let is_left = |uri: &str| open.states.contains(&(subject.to_owned(), uri.to_owned()));
    let is_open = |uri: &str| open.effects.contains_key(uri) || is_left(uri);
    let mut row = row.clone();
    for value in row.as_object_mut().into_iter().flat_map(|row| row.values_mut()) {
        if value.as_str().is_some_and(is_open) {
            *value = Value::Null;
        }
    }
    row
}

fn is_side_effect(table: &str) -> bool {
    matches!(table, "feed_items" | "notifications" | "post_viewer_states")
}

/// Whether the rows are equal in all defined values, and have a possible `indexed_at`.
fn is_same(model: &Model, expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.len() == found.len()
                && expected.iter().all(|(name, value)| match found.get(name) {
                    Some(found) if name == "indexed_at" => model.may_have_come(value, found),
                    found => value == ANY || found == Some(value),
                })
        }
        _ => false,
    }
}

/// Of every pair one row of a live record, and no others.
fn verification_difference(model: &Model, found: &[Value]) -> String {
    let mut found: Vec<&Value> = found.iter().collect();
    let mut text = String::new();
    for (pair, live) in model.verifications() {
        match found
            .iter()
            .position(|found| live.iter().any(|record| is_same(model, &record.row, found)))
        {
            Some(at) => _ = found.remove(at),
            None if live.iter().all(|record| record.may_be_forgotten) => {}
            None => {
                let live: Vec<&Value> = live.iter().map(|record| &record.row).collect();
                text.push_str(&format!("\n  {VERIFICATION} lacks a row of {pair:?}, one of {live:?}"));
            }
        }
    }
    for row in found {
        text.push_str(&format!("\n  {VERIFICATION} has   {row}"));
    }
    text
}

fn counter_difference(model: &Model, seed: u64, found: &[Value]) -> String {
    let mut expected = model.counters();
    for post in model.own_posts() {
        expected.entry(post.clone()).or_default();
    }
    let mut text = String::new();
    let mut compare = |subject: &str, row: &Value, counted: &BTreeMap<&'static str, i64>| {
        for counter in COUNTERS {
            let count = counted.get(counter).copied().unwrap_or_default();
            let is_open = model.open.counters.contains(&(subject.to_owned(), counter));
            if row[counter] != count && !is_open {
                text.push_str(&format!(
                    "\n  post_aggregations: {counter} of {subject} is {}, the rows are {count}",
                    row[counter]
                ));
            }
        }
    };
    for row in found {
        let subject = text_of(row, "post_uri");
        let counted = expected.remove(&subject).unwrap_or_default();
        compare(&subject, row, &counted);
    }
    let own = tag(seed);
    for (subject, counted) in expected {
        // Rows of subjects without an owner cannot be distinguished.
        let is_own = subject.contains(&own);
        let is_open = |counter: &&'static str| model.open.counters.contains(&(subject.clone(), *counter));
        let is_wanted = counted.is_empty() || is_own && !counted.keys().all(is_open);
        if is_wanted {
            text.push_str(&format!("\n  post_aggregations lacks {subject}: {counted:?}"));
        }
    }
    text
}
