//! Whole streams, as the network sends them: all entries are counted, all counters are correct, and repeats change
//! nothing.

use std::path::Path;

use serde_json::Value;

use crate::generator::{Event, Events, file};
use crate::sdk_dialect;
use crate::support::skip::report;
use crate::support::{Stack, assert_same};

/// Names a file of recorded events (JSON lines, plain or .gz) to run the same tests over.
const REAL_EVENTS: &str = "FIREHOSE_REAL_EVENTS";

/// Applies the events, checks what can be checked of any stream, has them delivered again, and checks that the rows
/// are the same.
fn check(name: &str, events: impl IntoIterator<Item = Event>) {
    let stack = Stack::new(name);
    let sent = stack.push_events(events);
    stack.drain();
    stack.assert_all_acknowledged();
    stack.assert_counted(sent);
    stack.assert_counters_equal_rows();
    let first = stack.snapshot();

    stack.redeliver();
    stack.drain();
    stack.assert_all_acknowledged();
    stack.assert_counted(sent.times(2));
    stack.assert_counters_equal_rows();
    assert_same(&first, &stack.snapshot());
}

fn in_second_dialect(event: &Event) -> Event {
    let data = sdk_dialect::convert(&event.kind, &event.data).expect("JSON");
    Event { data, ..event.clone() }
}

/// The recorded events, where the environment names them.
fn real_events() -> Option<Vec<Event>> {
    let Some(path) = std::env::var_os(REAL_EVENTS).filter(|path| !path.is_empty()) else {
        // They are people's words, and no part of the project.
        report("recorded events", format!("{REAL_EVENTS} names no file of them"));
        return None;
    };
    let events = file::read(Path::new(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(events.map(|event| event.expect("a line with an event")).collect())
}

#[test]
fn a_made_up_stream_is_applied_whole_and_again_without_a_change() {
    check("made_up", Events::new(1, 5000));
}

#[test]
fn a_generated_stream_in_the_second_dialect_is_applied_and_idempotent() {
    check(
        "made_up_sdk",
        Events::new(2, 5000).map(|event| in_second_dialect(&event)),
    );
}

#[test]
fn a_made_up_stream_reaches_every_table_that_the_network_fills() {
    let stack = Stack::new("every_table");
    stack.push_events(Events::new(3, 20_000));
    stack.drain();
    stack.assert_all_acknowledged();
    let sizes = stack.snapshot().sizes();
    let never = ["bookmarks", "labels", "label_events", "thread_contexts"];
    let empty: Vec<_> = sizes
        .iter()
        .filter(|(table, n)| **n == 0 && !never.contains(table))
        .collect();
    assert!(empty.is_empty(), "no row in {empty:?}; rows: {sizes:?}");
}

#[test]
fn one_worker_thread_and_many_make_the_same_rows() {
    let events: Vec<Event> = Events::new(4, 5000).collect();
    let [one, many] = ["1", "8"].map(|n_workers| {
        let stack = Stack::new("worker_threads");
        stack.push_events(events.clone());
        stack.drain_with(&[("PARALLEL_CONSUMERS", n_workers)]);
        stack.assert_all_acknowledged();
        stack.snapshot()
    });
    assert_same(&one, &many);
}

#[test]
fn entries_one_at_a_time_and_in_batches_make_the_same_rows() {
    let events: Vec<Event> = Events::new(5, 1500).collect();
    let batched = Stack::new("batched");
    batched.push_events(events.clone());
    batched.drain();
    let single = Stack::new("one_at_a_time");
    for events in events.chunks(50) {
        single.push_events(events.iter().cloned());
        single.drain_with(&[("PARALLEL_CONSUMERS", "1"), ("BATCH_SIZE", "1")]);
    }
    batched.assert_all_acknowledged();
    single.assert_all_acknowledged();
    assert_same(&batched.snapshot(), &single.snapshot());
}

#[test]
fn both_dialects_of_a_made_up_stream_make_the_same_rows() {
    check_dialects("dialects", &Events::new(6, 5000).collect::<Vec<_>>());
}

#[test]
fn real_events_are_applied_whole_and_again_without_a_change() {
    if let Some(events) = real_events() {
        check("real", events);
    }
}

#[test]
fn real_events_in_the_second_dialect_are_applied_whole_and_again_without_a_change() {
    if let Some(events) = real_events() {
        check("real_sdk", events.iter().map(in_second_dialect));
    }
}

#[test]
fn both_dialects_of_real_events_make_the_same_rows() {
    if let Some(events) = real_events() {
        check_dialects("real_dialects", &events);
    }
}

/// The rows of both dialects are the same, but for a `$type` that the lexicon lets be absent, and the records that the
/// SDK has no model for.
fn check_dialects(name: &str, events: &[Event]) {
    let rows_of = |events: Vec<Event>| {
        let stack = Stack::new(name);
        stack.push_events(events);
        stack.drain();
        stack.assert_all_acknowledged();
        stack.snapshot().map(&["generic_records"], without_types)
    };
    let events: Vec<Event> = events.iter().filter(|event| has_model(event)).cloned().collect();
    assert_same(
        &rows_of(events.clone()),
        &rows_of(events.iter().map(in_second_dialect).collect()),
    );
}

/// Whether no record of the event is lost on the way to the second dialect.
fn has_model(event: &Event) -> bool {
    let n_records = |data: &str| {
        let data: Value = serde_json::from_str(data).expect("JSON");
        data["ops"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|op| !op["record"].is_null())
            .count()
    };
    n_records(&event.data) == n_records(&in_second_dialect(event).data)
}

fn without_types(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("$type");
            members.values_mut().for_each(without_types);
        }
        Value::Array(items) => items.iter_mut().for_each(without_types),
        _ => {}
    }
}
