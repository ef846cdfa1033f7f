//! From start to stop: what the worker waits for, what it refuses, how it ends.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::generator::Events;
use crate::support::entries::{did, follow, like, post, uri};
use crate::support::postgres::Database;
use crate::support::skip::is_full;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::worker::{self, WorkerBuilder};
use crate::support::{PostgresOptions, PostgresServer, RedisServer, Sent, Stack, Worker, scratch, wait_until};

/// The time in which an idle worker has to end after SIGTERM.
const IDLE_STOP_LIMIT: Duration = Duration::from_secs(2);

/// The time in which a busy one has to: its own deadline and some room.
const BUSY_STOP_LIMIT: Duration = Duration::from_secs(45);

/// Waits until the log has a line with all of these words, in any case.
#[track_caller]
fn wait_for_line(worker: &mut Worker, words: &[&str]) {
    wait_until(&format!("the worker logs a line with {words:?}"), || {
        let log = worker.log();
        let has = |line: &str| words.iter().all(|word| line.to_lowercase().contains(word));
        match (log.lines().any(has), worker.runs()) {
            (true, _) => Ok(()),
            (false, true) => Err(shown(&log)),
            (false, false) => panic!("the worker has ended; {}", shown(&log)),
        }
    });
}

#[track_caller]
fn wait_for_total(stack: &Stack, total: i64) {
    wait_until("all events are counted", || {
        equal(stack.metric("cluster:metrics", "totalEvents"), total)
    });
}

#[test]
fn stop_signals_end_an_idle_worker_within_two_seconds_with_all_counts() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        let stack = Stack::new("idle_stop");
        stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
        let mut worker = stack.worker().spawn();
        wait_for_total(&stack, 1);
        let start = Instant::now();
        worker.signal(signal);
        let status = worker.wait_exit(IDLE_STOP_LIMIT);
        assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
        assert!(start.elapsed() < IDLE_STOP_LIMIT);
        assert_eq!(stack.count("follows"), 1);
        assert_eq!(stack.metric("firehose:metrics", "totalEvents"), 1);
    }
}

#[test]
fn signals_without_a_meaning_do_not_end_the_worker() {
    let stack = Stack::new("other_signals");
    let mut worker = stack.worker().spawn();
    wait_for_line(&mut worker, &["created the group"]);
    for (signal, name) in [
        (libc::SIGUSR1, "sigusr1"),
        (libc::SIGUSR2, "sigusr2"),
        (libc::SIGALRM, "sigalrm"),
    ] {
        worker.signal(signal);
        wait_for_line(&mut worker, &[name, "ignored"]);
    }
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    wait_for_total(&stack, 1);
}

#[test]
fn sigterm_under_load_loses_no_count() {
    let n_stops = if is_full() { 10 } else { 3 };
    let stack = Stack::new("busy_stop");
    let mut sent = Sent::default();
    let mut n_stopped_while_busy = 0;
    for n in 0..n_stops {
        // More than is applied until the stop, so that it comes under load.
        sent = sent.plus(stack.push_events(Events::new(11 + n, 12_000)));
        let before = stack.count("likes");
        let mut worker = stack.worker().spawn();
        wait_until("the worker has done something", || stack.count("likes") > before);
        worker.signal(libc::SIGTERM);
        let status = worker.wait_exit(BUSY_STOP_LIMIT);
        assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
        assert_eq!(
            stack.pending(),
            0,
            "what was read is finished at a stop; {}",
            shown(&worker.log())
        );
        n_stopped_while_busy += usize::from(stack.metric("cluster:metrics", "totalEvents") < sent.total);
    }
    assert!(n_stopped_while_busy > 0, "nothing was stopped under load");
    stack.drain();
    stack.assert_all_acknowledged();
    stack.assert_counted(sent);
    stack.assert_counters_equal_rows();
}

#[test]
fn a_second_signal_ends_the_process_at_once_and_leaves_what_it_holds_pending() {
    let stack = Stack::new("second_signal");
    let mut lock = stack.database.client();
    let mut lock = lock.transaction().expect("a transaction");
    lock.batch_execute("lock table posts").expect("the lock");
    stack.create(&did("alice"), "app.bsky.feed.post/1", post("behind a lock"));
    let mut worker = stack.worker().env("CONSUMER_ID", "worker-a").spawn();
    wait_until("the post is read", || equal(stack.pending(), 1));
    worker.signal(libc::SIGTERM);
    wait_for_line(&mut worker, &["sigterm: stopping"]);
    worker.signal(libc::SIGINT);
    let status = worker.wait_exit(IDLE_STOP_LIMIT);
    assert_eq!(status.code(), Some(143), "{}", shown(&worker.log()));
    assert_eq!(stack.pending(), 1);
    lock.rollback().expect("the lock goes");
    stack.drain_with(&[("CONSUMER_ID", "worker-a")]);
    assert_eq!(stack.count("posts"), 1);
    stack.assert_all_acknowledged();
}

#[test]
fn drain_applies_all_that_is_there_and_ends_with_exit_code_0() {
    let stack = Stack::new("drain");
    let (alice, bob) = (did("alice"), did("bob"));
    stack.create(&alice, "app.bsky.feed.post/1", post("hello"));
    stack.create(&bob, "app.bsky.feed.like/1", like(&uri(&alice, "app.bsky.feed.post/1")));
    let output = stack.drain();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        (stack.count("posts"), stack.count("likes")),
        (1, 1),
        "{}",
        shown(&output.log)
    );
    stack.assert_all_acknowledged();
}

#[test]
fn drain_of_a_stream_that_is_not_there_ends_with_exit_code_0() {
    let stack = Stack::new("drain_nothing");
    stack.drain();
    assert_eq!(stack.pending(), 0);
}

#[test]
fn a_worker_started_before_redis_logs_it_and_waits() {
    let redis = RedisServer::not_started(&[]);
    let stack = Stack::of(redis, Database::new(PostgresServer::shared(), "redis_later"));
    let mut worker = stack.worker().spawn();
    wait_for_line(&mut worker, &["redis", "wait"]);
    stack.redis.restart();
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    wait_for_total(&stack, 1);
    assert_eq!(stack.count("follows"), 1);
}

#[test]
fn a_worker_started_before_postgresql_logs_it_and_waits() {
    let server = PostgresServer::start(PostgresOptions::default());
    let stack = Stack::with_postgres("postgres_later", server.clone());
    server.stop();
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    let mut worker = stack.worker().spawn();
    wait_for_line(&mut worker, &["postgres", "wait"]);
    server.restart();
    wait_for_total(&stack, 1);
    assert_eq!(stack.count("follows"), 1);
}

#[test]
fn a_worker_started_before_the_tables_exist_logs_it_and_waits() {
    let stack = Stack::of(
        RedisServer::start(),
        Database::empty(PostgresServer::shared(), "tables_later"),
    );
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    let mut worker = stack.worker().spawn();
    wait_for_line(&mut worker, &["wait", "table"]);
    stack.sql(&worker::schema());
    wait_for_total(&stack, 1);
    assert_eq!(stack.count("follows"), 1);
}

#[test]
fn a_worker_that_waits_for_a_server_can_be_stopped() {
    let redis = RedisServer::not_started(&[]);
    let stack = Stack::of(redis, Database::new(PostgresServer::shared(), "stop_while_waiting"));
    let mut worker = stack.worker().spawn();
    wait_for_line(&mut worker, &["redis", "wait"]);
    worker.signal(libc::SIGTERM);
    assert_eq!(
        worker.wait_exit(IDLE_STOP_LIMIT).code(),
        Some(0),
        "{}",
        shown(&worker.log())
    );
}

#[test]
fn an_unusable_configuration_names_every_fault_at_once_and_exits_2() {
    let faults = [
        ("REDIS_URL", "http://joe:hunter2@127.0.0.1:1"),
        ("DATABASE_URL", "mysql://joe:hunter2@127.0.0.1:1/db"),
        ("PARALLEL_CONSUMERS", "many"),
        ("BATCH_SIZE", "-1"),
        ("DB_POOL_SIZE", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("WRITE_NOTIFICATIONS", "perhaps"),
    ];
    let worker = faults
        .iter()
        .fold(WorkerBuilder::new(), |worker, (name, value)| worker.env(name, value));
    let output = worker.run_to_exit();
    let printed = format!("{}{}", output.log, output.stdout);
    assert_eq!(output.status.code(), Some(2), "{printed}");
    for (name, value) in faults {
        assert!(printed.contains(name), "{name} is not named in:\n{printed}");
        assert!(
            value.contains("hunter2") || printed.contains(value),
            "the value of {name} is not shown in:\n{printed}"
        );
    }
    assert!(!printed.contains("hunter2"), "a password is shown:\n{printed}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let stack = Stack::new("empty_variables");
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    stack.drain_with(&[
        ("PARALLEL_CONSUMERS", ""),
        ("BATCH_SIZE", ""),
        ("REDIS_STREAM_KEY", ""),
        ("LOG_LEVEL", ""),
    ]);
    assert_eq!(stack.count("follows"), 1);
}

/// As in the Python worker's installation.
fn python_environment(stack: &Stack) -> String {
    format!(
        "# Python worker\n\
         REDIS_URL=\"{}?ssl_cert_reqs=none\"\n\
         DATABASE_URL='{}'\n\
         REDIS_STREAM_KEY = firehose:events\n\
         REDIS_CONSUMER_GROUP=firehose-processors\n\
         CONSUMER_ID=\"python-worker\"\n\
         DB_POOL_SIZE=20\n\
         BATCH_SIZE=10\n\
         PARALLEL_CONSUMERS=5\n\
         LOG_LEVEL=info\n",
        stack.redis_url(),
        stack.database_url()
    )
}

#[test]
fn a_move_from_the_python_worker_keeps_settings_pending_entries_and_counts() {
    let stack = Stack::new("python_move");
    let path = |n: usize| format!("app.bsky.feed.post/{n}");
    stack.create_group();
    for n in 0..5 {
        stack.create(&did("alice"), &path(n), post("as it was pending"));
        stack.read_and_abandon(&format!("python-worker-{n}"), 1);
    }
    stack.delete(&did("alice"), &path(0));
    stack.update(&did("alice"), &path(1), post("as it was unread"));
    stack.create(&did("bob"), "app.bsky.feed.like/1", like(&uri(&did("alice"), &path(2))));
    let counts_before = [("totalEvents", 1000), ("#commit", 990), ("errors", 3)];
    redis::cmd("HSET")
        .arg("cluster:metrics")
        .arg(&counts_before)
        .exec(&mut stack.redis())
        .expect("HSET");

    let file = scratch::directory("python_move").join("env");
    fs::write(&file, python_environment(&stack)).expect("the settings");
    let output = WorkerBuilder::new()
        .arg("--drain")
        .arg("--env-file")
        .arg(file.to_str().expect("a path of ASCII"))
        // The default is half a minute.
        .env("CLAIM_IDLE_MS", "1000")
        .run_to_exit();
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output.log));
    assert!(!output.log.contains("WARN"), "{}", shown(&output.log));
    let texts = stack.query("select uri, text from posts order by uri");
    let expected = (1..5).map(|n| {
        let text = if n == 1 {
            "as it was unread"
        } else {
            "as it was pending"
        };
        json!({"uri": uri(&did("alice"), &path(n)), "text": text})
    });
    assert_eq!(texts, expected.collect::<Vec<_>>(), "{}", shown(&output.log));
    assert_eq!(stack.count("likes"), 1);
    stack.assert_all_acknowledged();
    for (field, before) in counts_before {
        let more = if field == "errors" { 0 } else { 8 };
        assert_eq!(stack.metric("cluster:metrics", field), before + more, "{field}");
    }
    assert_eq!(stack.metric("firehose:metrics", "totalEvents"), 8);
}

#[test]
fn passwords_are_never_in_the_log() {
    let redis = RedisServer::start_with(&["--requirepass", "hunter2redis"]);
    let database = Database::new(PostgresServer::shared(), "passwords");
    let redis_url = redis.url().replace("redis://", "redis://:hunter2redis@");
    let database_url = database.url().replace("postgres@", "postgres:hunter2postgres@");
    let run = |redis_url: &str, database_url: &str| {
        let worker = WorkerBuilder::new()
            .env("LOG_LEVEL", "DEBUG")
            .env("RUST_LOG", "trace")
            .arg("--drain");
        worker.env("REDIS_URL", redis_url).env("DATABASE_URL", database_url)
    };
    let output = run(&redis_url, &database_url).run_to_exit();
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output.log));
    assert!(
        !output.log.contains("hunter2"),
        "a password is in the log:\n{}",
        lines_with(&output.log, "hunter2")
    );

    // Nor in the errors: a wrong password, and a server that is not there.
    let mut worker = run(
        &redis_url.replace("hunter2redis", "hunter2wrong"),
        "postgresql://joe:hunter2@127.0.0.1:1/db",
    )
    .spawn();
    wait_for_line(&mut worker, &["wait"]);
    worker.signal(libc::SIGTERM);
    worker.wait_exit(BUSY_STOP_LIMIT);
    assert!(
        !worker.log().contains("hunter2"),
        "a password is in the log:\n{}",
        lines_with(&worker.log(), "hunter2")
    );
}

fn lines_with(log: &str, text: &str) -> String {
    log.lines()
        .filter(|line| line.contains(text))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_schema_applied_twice_changes_nothing() {
    let stack = Stack::new("schema_twice");
    let catalog = "
        select c.relname, c.relkind, c.oid, pg_get_indexdef(c.oid) as indexdef,
               (select json_agg(json_build_array(a.attname, a.atttypid::regtype, a.attnotnull) order by a.attnum)
                  from pg_attribute a where a.attrelid = c.oid and a.attnum > 0) as columns
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') order by c.relname";
    let before = stack.query(catalog);
    assert!(before.len() > 60, "{} tables and indexes", before.len());
    stack.sql(&worker::schema());
    assert_eq!(stack.query(catalog), before);
}
