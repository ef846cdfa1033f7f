//! A prune that is stopped, killed, taken over, or loses its servers continues where it was, and counts each row once.

use serde_json::Value;

use super::{
    EXIT_LIMIT, TABLES, age, assert_exact, assert_rows_counted, command, count_rows, oracle, prune, report, run,
};
use crate::generator::Events;
use crate::support::stack::shown;
use crate::support::{PostgresOptions, PostgresServer, Stack, Worker, wait_until};

/// The account that is local in these tests: one that the made-up events are about.
pub(super) fn someone(stack: &Stack) -> String {
    let rows = stack.query("SELECT user_did AS did FROM likes GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1");
    rows[0]["did"].as_str().expect("a DID").to_owned()
}

/// Made-up rows, two weeks old.
pub(super) fn filled(stack: &Stack) -> String {
    stack.push_events(Events::new(41, 4000));
    stack.drain();
    age(stack, "14 days");
    count_rows(stack);
    someone(stack)
}

/// A prune that has stored some progress and pauses before it continues.
fn started(stack: &Stack, local: &str, pause_ms: &str) -> Worker {
    let worker = command(stack, local, &["--json", "--pause-ms", pause_ms]).spawn();
    wait_until("the prune has deleted something", || n_pruned(stack) > 0);
    worker
}

/// The number of rows that the unfinished prune has deleted.
fn n_pruned(stack: &Stack) -> u64 {
    let exists = stack.query("SELECT to_regclass('firehose_worker.progress') IS NOT NULL AS exists");
    if exists[0]["exists"] != true {
        return 0;
    }
    let rows =
        stack.query("SELECT state -> 'report' -> 'rows' AS rows FROM firehose_worker.progress WHERE job = 'prune'");
    let rows = rows.first().and_then(|row| row["rows"].as_object());
    rows.map_or(0, |rows| rows.values().filter_map(Value::as_u64).sum())
}

const FOR_EVER: &str = "3600000";

/// The rows of the tables that a report counts.
fn n_rows(stack: &Stack) -> i64 {
    let tables = TABLES.into_iter().chain(["firehose_worker.rivals"]);
    tables.map(|table| stack.count(table)).sum()
}

/// The finished prune has left what it should, and its report counts every deleted row once.
#[track_caller]
fn assert_complete(stack: &Stack, expected: &oracle::Expected, before: i64, report: &Value) {
    expected.check(stack, "after the last prune");
    let counted: u64 = report["rows"]
        .as_object()
        .expect("rows")
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(
        counted as i64,
        before - n_rows(stack),
        "the report against the rows: {report}"
    );
    assert_eq!(report["finished"], true);
    assert_rows_counted(stack);
    assert_exact(stack);
    assert_eq!(
        stack.count("firehose_worker.progress"),
        0,
        "a finished prune leaves no progress"
    );
}

#[test]
fn a_killed_prune_goes_on_where_it_was_and_counts_each_row_once() {
    let stack = Stack::new("prune_killed");
    let local = filled(&stack);
    let (expected, before) = (oracle::expect(&stack, &local), n_rows(&stack));
    started(&stack, &local, FOR_EVER).kill();
    let output = run(command(&stack, &local, &["--json"]));
    assert!(output.log.contains("continuing an unfinished prune"), "{}", output.log);
    assert_complete(&stack, &expected, before, &report(&output));
}

#[test]
fn a_prune_that_is_killed_again_and_again_ends_as_one_that_is_not() {
    let stack = Stack::new("prune_killed_often");
    let local = filled(&stack);
    let (expected, before) = (oracle::expect(&stack, &local), n_rows(&stack));
    for _ in 0..6 {
        let so_far = n_pruned(&stack);
        let mut worker = command(&stack, &local, &["--pause-ms", "200"]).spawn();
        wait_until("the prune goes on", || n_pruned(&stack) > so_far);
        worker.kill();
    }
    let report = prune(&stack, &local, &[]);
    assert_complete(&stack, &expected, before, &report);
}

#[test]
fn sigterm_stops_a_prune_with_its_report_and_exit_code_0() {
    let stack = Stack::new("prune_stopped");
    let local = filled(&stack);
    let (expected, before) = (oracle::expect(&stack, &local), n_rows(&stack));
    let mut worker = started(&stack, &local, FOR_EVER);
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.wait_exit(EXIT_LIMIT).code(), Some(0), "{}", shown(&worker.log()));
    let stopped: Value = serde_json::from_str(&worker.stdout()).expect("a report");
    assert_eq!(stopped["finished"], false);
    assert!(worker.log().contains("continues from here"), "{}", worker.log());
    assert_rows_counted(&stack);
    assert_complete(&stack, &expected, before, &prune(&stack, &local, &[]));
}

#[test]
fn a_second_prune_takes_over_from_the_first_which_then_stops() {
    let stack = Stack::new("prune_twice");
    let local = filled(&stack);
    let (expected, before) = (oracle::expect(&stack, &local), n_rows(&stack));
    let mut first = started(&stack, &local, "1000");
    let report = prune(&stack, &local, &[]);
    assert_eq!(first.wait_exit(EXIT_LIMIT).code(), Some(1), "{}", shown(&first.log()));
    assert!(
        first.log().contains("another process has taken the job over"),
        "{}",
        first.log()
    );
    assert_complete(&stack, &expected, before, &report);
}

#[test]
fn another_age_starts_the_walk_anew() {
    let stack = Stack::new("prune_other_age");
    let local = filled(&stack);
    started(&stack, &local, FOR_EVER).kill();
    let other = stack.worker().env("LOCAL_DIDS", &local).arg("prune").arg("--json");
    let output = run(other.arg("--older-than").arg("3650d"));
    assert!(!output.log.contains("continuing"), "{}", output.log);
    assert!(
        report(&output)["rows"].as_object().expect("rows").is_empty(),
        "{}",
        output.stdout
    );
    assert_rows_counted(&stack);
    assert_exact(&stack);
}

#[test]
fn a_restart_of_postgresql_is_waited_for() {
    let server = PostgresServer::start(PostgresOptions::default());
    let stack = Stack::with_postgres("prune_restart", server.clone());
    let local = filled(&stack);
    let (expected, before) = (oracle::expect(&stack, &local), n_rows(&stack));
    let mut worker = started(&stack, &local, "300");
    server.stop();
    wait_until("the prune logs that it waits", || {
        worker.log().contains("waiting for postgresql")
    });
    server.restart();
    let so_far = n_pruned(&stack);
    wait_until("the prune continues", || n_pruned(&stack) != so_far || !worker.runs());
    worker.kill();
    assert_complete(&stack, &expected, before, &prune(&stack, &local, &[]));
}

#[test]
fn counts_that_redis_could_not_take_are_sent_by_the_next_prune() {
    let stack = Stack::new("prune_redis_down");
    let local = filled(&stack);
    let without_redis = command(&stack, &local, &["--json"]).env("REDIS_URL", "redis://127.0.0.1:1");
    let output = run(without_redis);
    assert_eq!(report(&output)["finished"], true);
    assert!(
        output.log.contains("the last counts could not be flushed"),
        "{}",
        output.log
    );
    assert_eq!(stack.count("firehose_worker.progress"), 1, "the counts are kept");
    prune(&stack, &local, &[]);
    assert_rows_counted(&stack);
    assert_eq!(stack.count("firehose_worker.progress"), 0);
}
