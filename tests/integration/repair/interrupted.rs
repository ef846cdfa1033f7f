//! A repair that is stopped, killed, taken over, or loses its server continues where it was.

use serde_json::{Value, json};

use super::{EXIT_LIMIT, command, filled, filled_in, repair, report, run};
use crate::support::stack::shown;
use crate::support::{PostgresOptions, PostgresServer, Stack, Worker, assert_same, wait_until};

/// A repair that has finished its first slice and pauses before the next.
fn started(stack: &Stack, pause_ms: &str) -> Worker {
    let worker = command(stack, &["--json", "--slice", "20", "--pause-ms", pause_ms]).spawn();
    wait_until("the repair has stored that it has done a slice", || {
        place(stack) != first_place()
    });
    worker
}

/// The position of the unfinished repair; null if there is none.
fn place(stack: &Stack) -> Value {
    let rows = stack.query("SELECT state -> 'place' AS place FROM firehose_worker.progress");
    rows.first().map_or_else(first_place, |row| row["place"].clone())
}

fn first_place() -> Value {
    json!({"step": "quotes", "after": [""]})
}

const DAMAGE: &str = "UPDATE post_aggregations SET like_count = like_count + 1; DELETE FROM quotes;
    DELETE FROM post_viewer_states";

const FOR_EVER: &str = "3600000";

#[test]
fn a_killed_repair_goes_on_where_it_was() {
    let stack = filled("repair_killed");
    let good = stack.snapshot();
    stack.sql(DAMAGE);
    let n_posts = stack.count("posts");
    started(&stack, FOR_EVER).kill();
    let output = run(command(&stack, &["--json"]));
    assert!(output.log.contains("continuing an unfinished repair"), "{}", output.log);
    let report = report(&output);
    assert_eq!(
        report["quotes"]["examined"], n_posts,
        "no post is looked at twice: {report}"
    );
    assert_same(&good, &stack.snapshot());
    assert_eq!(
        stack.count("firehose_worker.progress"),
        0,
        "a finished repair leaves no progress"
    );
}

#[test]
fn sigterm_stops_a_repair_with_its_report_and_exit_code_0() {
    let stack = filled("repair_stopped");
    let good = stack.snapshot();
    stack.sql(DAMAGE);
    let mut worker = started(&stack, FOR_EVER);
    worker.signal(libc::SIGTERM);
    let status = worker.wait_exit(EXIT_LIMIT);
    assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
    let report: Value = serde_json::from_str(&worker.stdout()).expect("a report");
    assert_eq!(report["finished"], false);
    assert_eq!(report["quotes"]["examined"], 20);
    assert!(worker.log().contains("continues from here"), "{}", worker.log());
    repair(&stack, &[]);
    assert_same(&good, &stack.snapshot());
}

#[test]
fn a_second_repair_takes_over_from_the_first_which_then_stops() {
    let stack = filled("repair_twice");
    let good = stack.snapshot();
    stack.sql(DAMAGE);
    let mut first = started(&stack, "1000");
    repair(&stack, &[]);
    assert_same(&good, &stack.snapshot());
    let status = first.wait_exit(EXIT_LIMIT);
    assert_eq!(status.code(), Some(1), "{}", shown(&first.log()));
    assert!(
        first.log().contains("another process has taken the job over"),
        "{}",
        first.log()
    );
}

#[test]
fn a_read_only_session_is_left_for_one_that_may_write() {
    let stack = filled("repair_read_only");
    let good = stack.snapshot();
    stack.sql(DAMAGE);
    let worker = started(&stack, "100");
    let mut client = stack.database.server().client("postgres");
    let database = stack.database.name();
    client
        .batch_execute(&format!(
            "alter database {database} set default_transaction_read_only = on;
             select pg_terminate_backend(pid) from pg_stat_activity
             where datname = '{database}' and application_name = 'firehose-worker'"
        ))
        .expect("a database that may not be written");
    wait_until("the repair logs why it waits", || worker.log().contains("25006"));
    // Only new sessions take over the setting.
    client
        .batch_execute(&format!(
            "alter database {database} reset default_transaction_read_only"
        ))
        .expect("a database that may be written");
    let before = place(&stack);
    wait_until("the repair continues", || place(&stack) != before);
    drop(worker);
    repair(&stack, &[]);
    assert_same(&good, &stack.snapshot());
}

#[test]
fn a_restart_of_postgresql_is_waited_for() {
    let server = PostgresServer::start(PostgresOptions::default());
    let stack = filled_in(Stack::with_postgres("repair_restart", server.clone()));
    let good = stack.snapshot();
    stack.sql(DAMAGE);
    let mut worker = started(&stack, "100");
    server.stop();
    wait_until("the repair logs that it waits", || {
        worker.log().contains("waiting for postgresql")
    });
    server.restart();
    let before = place(&stack);
    wait_until("the repair continues", || place(&stack) != before);
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.wait_exit(EXIT_LIMIT).code(), Some(0), "{}", shown(&worker.log()));
    repair(&stack, &[]);
    assert_same(&good, &stack.snapshot());
}
