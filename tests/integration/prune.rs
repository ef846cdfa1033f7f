//! The command `prune` deletes what is old and concerns no local account, with or without running workers, and leaves every
//! count right.

mod figures;
mod histories;
mod interrupted;
mod late;
mod load;
mod oracle;
mod rules;

use std::time::Duration;

use serde_json::Value;

use crate::records::Record;
use crate::support::stack::shown;
use crate::support::{Output, Stack, WorkerBuilder};

/// Far longer than a prune takes to end once it has a reason to.
const EXIT_LIMIT: Duration = Duration::from_secs(60);

/// The columns that tell the age of rows.
const TIMES: [(&str, &str); 13] = [
    ("posts", "indexed_at"),
    ("likes", "indexed_at"),
    ("reposts", "indexed_at"),
    ("bookmarks", "indexed_at"),
    ("quotes", "indexed_at"),
    ("feed_items", "indexed_at"),
    ("notifications", "indexed_at"),
    ("generic_records", "indexed_at"),
    ("post_aggregations", "created_at"),
    ("post_viewer_states", "created_at"),
    ("thread_contexts", "created_at"),
    ("thread_gates", "updated_at"),
    ("post_gates", "created_at"),
];

/// Creates records and applies them.
fn apply<'r>(stack: &Stack, records: impl IntoIterator<Item = &'r Record>) {
    for record in records {
        record.create(stack);
    }
    stack.drain();
}

/// Makes all rows older.
fn age(stack: &Stack, interval: &str) {
    for (table, column) in TIMES {
        stack.sql(&format!(
            "UPDATE {table} SET {column} = {column} - '{interval}'::interval"
        ));
    }
    // The second part of an entry's ID that a test chose is no time.
    stack.sql(&format!(
        "UPDATE firehose_worker.rivals SET entry_ms = entry_ms - extract(epoch FROM '{interval}'::interval) * 1000"
    ));
}

/// The AppView's tables from which prune deletes rows.
const TABLES: [&str; 13] = [
    "posts",
    "likes",
    "reposts",
    "bookmarks",
    "quotes",
    "feed_items",
    "notifications",
    "post_aggregations",
    "post_viewer_states",
    "thread_contexts",
    "thread_gates",
    "post_gates",
    "generic_records",
];

/// The command for rows older than a week, in an AppView that serves `local`.
fn command(stack: &Stack, local: &str, args: &[&str]) -> WorkerBuilder {
    let command = stack.worker().env("LOCAL_DIDS", local).arg("prune");
    let command = command.arg("--older-than").arg("7d");
    let command = match args.contains(&"--pause-ms") {
        true => command,
        false => command.arg("--pause-ms=0"),
    };
    args.iter().fold(command, |command, arg| command.arg(arg))
}

fn run(command: WorkerBuilder) -> Output {
    let output = command.run_to_exit();
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output.log));
    output
}

/// Prunes and answers the report.
fn prune(stack: &Stack, local: &str, args: &[&str]) -> Value {
    report(&run(command(stack, local, args).arg("--json")))
}

fn report(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
}

/// All counts are the numbers of rows, and a repair finds nothing wrong.
#[track_caller]
fn assert_exact(stack: &Stack) {
    stack.assert_counters_equal_rows();
    let report = report(&run(stack.worker().arg("repair").arg("--dry-run").arg("--json")));
    let steps = report.as_object().expect("a report");
    let wrong: Vec<_> = steps
        .iter()
        .filter(|(_, step)| step["wrong"].as_u64().is_some_and(|wrong| wrong > 0))
        .collect();
    assert!(wrong.is_empty(), "a repair finds wrong: {wrong:#?}");
}

/// The dashboard's row totals are the numbers of rows, from the moment when this was called first.
fn count_rows(stack: &Stack) {
    for table in COUNTED {
        redis::cmd("HSET")
            .arg(&["db:record_counts", table, &stack.count(table).to_string()])
            .exec(&mut stack.redis())
            .expect("HSET");
    }
}

/// The tables whose rows the dashboard shows and a prune deletes.
const COUNTED: [&str; 5] = ["posts", "likes", "reposts", "feed_items", "post_aggregations"];

#[track_caller]
fn assert_rows_counted(stack: &Stack) {
    let counted = COUNTED.map(|table| (table, stack.metric("db:record_counts", table)));
    let rows = COUNTED.map(|table| (table, stack.count(table)));
    assert_eq!(counted, rows, "db:record_counts against the rows");
}

/// The keys of a table's rows.
fn keys(stack: &Stack, table: &str, column: &str) -> Vec<String> {
    let rows = stack.query(&format!("SELECT {column} AS key FROM {table} ORDER BY 1"));
    rows.iter()
        .map(|row| row["key"].as_str().expect("a key").to_owned())
        .collect()
}
