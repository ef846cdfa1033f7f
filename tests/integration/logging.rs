//! The log delays no thread, even if it is not read, and many bad entries do not flood it.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::prometheus::{get, value};
use crate::support::entries::{did, follow, post};
use crate::support::process::free_port;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{Stack, Worker, wait_until};

const STOP_LIMIT: Duration = Duration::from_secs(45);

/// What the smallest pipe holds.
const PIPE_SIZE: i32 = 4096;

/// A pipe of one page.
fn small_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().expect("a pipe");
    // SAFETY: fcntl takes no pointer with this command.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_SIZE) };
    assert_eq!(size, PIPE_SIZE);
    (reader, writer)
}

/// Reads what the pipe contains, once its worker has ended. It must be less than the worker had to log.
#[track_caller]
fn assert_blocked(mut reader: PipeReader) {
    let mut log = String::new();
    reader.read_to_string(&mut log).expect("a log of UTF-8");
    let n_lines = log.lines().filter(|line| line.contains("ignored an op")).count();
    assert!(n_lines < 200, "the log was not blocked: {log}");
}

/// Entries of which each costs a line at level DEBUG, as many bad ones, and a good one.
fn push_wordy(stack: &Stack, number: usize) {
    for n in 0..number {
        stack.push(
            "commit",
            json!({"repo": did("alice"), "ops": [{"action": "delete", "path": "nothing"}]}),
        );
        stack.push_fields(&[("type", b"commit"), ("data", format!("no JSON {n}").as_bytes())]);
    }
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
}

#[track_caller]
fn wait_for_counts(stack: &Stack, events: i64, errors: i64) {
    wait_until("all entries are counted", || {
        let metrics = |field| stack.metric("firehose:metrics", field);
        equal((metrics("totalEvents"), metrics("errors")), (events, errors))
    });
}

#[track_caller]
fn stop(worker: &mut Worker) {
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.wait_exit(STOP_LIMIT).code(), Some(0), "{}", shown(&worker.log()));
}

#[test]
fn an_unread_log_delays_neither_entries_nor_health_nor_the_stop() {
    let stack = Stack::new("log_unread");
    let address = format!("127.0.0.1:{}", free_port());
    let (reader, writer) = small_pipe();
    push_wordy(&stack, 200);
    let worker = stack.worker().env("LOG_LEVEL", "DEBUG").env("METRICS_ADDR", &address);
    let mut worker = worker.spawn_with_stderr(writer);
    wait_for_counts(&stack, 201, 200);
    push_wordy(&stack, 1);
    wait_for_counts(&stack, 203, 201);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(&address, path).map(|(status, _)| status), Some(200), "{path}");
    }
    stop(&mut worker);
    assert_eq!((stack.pending(), stack.count("follows")), (0, 1));
    assert_blocked(reader);
}

#[test]
fn a_second_signal_ends_a_process_with_an_unread_log() {
    let stack = Stack::new("log_unread_twice");
    let mut lock = stack.database.client();
    let mut lock = lock.transaction().expect("a transaction");
    lock.batch_execute("lock table posts").expect("the lock");
    let address = format!("127.0.0.1:{}", free_port());
    let (reader, writer) = small_pipe();
    push_wordy(&stack, 200);
    let worker = stack.worker().env("LOG_LEVEL", "DEBUG").env("METRICS_ADDR", &address);
    let mut worker = worker.spawn_with_stderr(writer);
    wait_for_counts(&stack, 201, 200);
    stack.create(&did("alice"), "app.bsky.feed.post/1", post("behind a lock"));
    wait_until("the post is read", || equal(stack.pending(), 1));
    worker.signal(libc::SIGTERM);
    wait_until("it stops", || equal(get(&address, "/healthz"), None));
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.wait_exit(STOP_LIMIT).code(), Some(143));
    assert_eq!(stack.pending(), 1);
    assert_blocked(reader);
}

#[test]
fn a_log_that_is_read_again_reports_the_number_of_dropped_lines() {
    let stack = Stack::new("log_dropped");
    let (mut reader, writer) = small_pipe();
    push_wordy(&stack, 4000);
    let mut worker = stack.worker().env("LOG_LEVEL", "DEBUG").spawn_with_stderr(writer);
    wait_for_counts(&stack, 4001, 4000);
    let reading = std::thread::Builder::new().spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).expect("a log of UTF-8");
        log
    });
    stop(&mut worker);
    let log = reading.expect("a thread").join().expect("what it has read");
    let line = log.lines().find(|line| line.contains("log lines were dropped"));
    let line = line.unwrap_or_else(|| panic!("the reason is not logged; {}", shown(&log)));
    let number = line.split_whitespace().find_map(|word| word.parse::<usize>().ok());
    let ignored = log.lines().filter(|line| line.contains("ignored an op")).count();
    assert!(
        number.is_some_and(|number| ignored + number >= 4000),
        "{ignored} and {line}"
    );
}

#[test]
fn a_failing_standard_error_neither_ends_the_process_nor_changes_its_exit_code() {
    let stack = Stack::new("log_failing");
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("/dev/full"));
    let broken = || {
        let (_, writer) = small_pipe();
        Stdio::from(writer)
    };
    for (n, stderr) in [&full as &dyn Fn() -> Stdio, &broken].into_iter().enumerate() {
        push_wordy(&stack, 3);
        let worker = stack.worker().arg("--drain").env("LOG_LEVEL", "DEBUG");
        let code = |worker: &mut Worker| worker.wait_exit(STOP_LIMIT).code();
        assert_eq!(code(&mut worker.spawn_with_stderr(stderr())), Some(0), "{n}");
        assert_eq!(stack.dead_letters().len(), 3 * (n + 1));
        let unusable = stack.worker().env("BATCH_SIZE", "none");
        assert_eq!(code(&mut unusable.spawn_with_stderr(stderr())), Some(2), "{n}");
        let unknown = stack.worker().arg("dead-letters").arg("show").arg("1-1");
        assert_eq!(code(&mut unknown.spawn_with_stderr(stderr())), Some(1), "{n}");
    }
}

#[test]
fn a_rust_log_that_cannot_be_parsed_is_one_warning_and_changes_nothing() {
    let stack = Stack::new("log_rust_log");
    let directives = "off,x=\u{1b}[31m\n<0>y";
    let worker = stack.worker().arg("--drain").env("RUST_LOG", directives);
    let output = worker.run_to_exit();
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output.log));
    let warnings = output
        .log
        .lines()
        .filter(|line| line.contains("x=") || line.contains("[31m"));
    let warnings: Vec<&str> = warnings.collect();
    assert!(
        warnings.len() == 1 && warnings[0].contains(" WARN  RUST_LOG is unusable and has no effect: "),
        "{}",
        shown(&output.log)
    );
    assert!(
        !output.log.contains('\u{1b}') && output.log.contains(" INFO  stopped"),
        "{}",
        shown(&output.log)
    );
}

#[test]
fn a_storm_of_bad_entries_is_a_few_lines_that_count_them_all() {
    const N: usize = 600;
    let stack = Stack::new("log_storm");
    for n in 0..N {
        let data = match n % 3 {
            0 => format!("no JSON {n}"),
            1 => format!(r#"{{"repo": "{}", "ops": {n}}}"#, did("alice")),
            _ => format!("{}]", " ".repeat(n)),
        };
        stack.push_fields(&[("type", b"commit"), ("data", data.as_bytes())]);
    }
    let log = stack.drain().log;
    assert_eq!(stack.dead_letters().len(), N);
    let n_whole = log.lines().filter(|line| line.contains("is a dead letter: ")).count();
    let more = log
        .lines()
        .filter(|line| line.contains("more dead letters in the last minute"));
    let more: Vec<usize> = more
        .filter_map(|line| line.split_whitespace().find_map(|word| word.parse().ok()))
        .collect();
    assert!(n_whole < 10 && more.len() < 10, "{}", shown(&log));
    assert_eq!(n_whole + more.iter().sum::<usize>(), N, "{}", shown(&log));
}

#[test]
fn entries_of_an_unknown_type_leave_a_trace_in_log_metrics_and_status() {
    const N: usize = 200;
    let stack = Stack::new("unknown_types");
    let address = format!("127.0.0.1:{}", free_port());
    for n in 0..N {
        let kind = if n == 0 {
            "#commit".to_owned()
        } else {
            format!("type-{n}")
        };
        stack.push_fields(&[("type", kind.as_bytes()), ("data", b"{}"), ("seq", b"1")]);
    }
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    let mut worker = stack.worker().env("METRICS_ADDR", &address).spawn();
    wait_for_counts(&stack, 1, 0);
    wait_until("all is acknowledged", || equal(stack.pending(), 0));
    let series = r#"firehose_worker_ops_ignored_total{reason="unknown_type"}"#;
    wait_until("all are counted as ignored", || {
        let text = get(&address, "/metrics").map(|(_, text)| text).unwrap_or_default();
        equal(value(&text, series).map(str::to_owned), Some(N.to_string()))
    });
    wait_until("status shows them", || {
        let output = stack.worker().arg("status").arg("--json").run_to_exit();
        let status: Value = serde_json::from_str(&output.stdout).expect("JSON");
        equal(status["ignored"]["unknown_type"].clone(), json!(N))
    });
    let metrics = stack.metrics("firehose:metrics");
    assert_eq!(
        (metrics.get("totalEvents"), metrics.get("#commit")),
        (Some(&1), Some(&1)),
        "{metrics:?}"
    );
    stop(&mut worker);
    let log = worker.log();
    let whole = log.lines().filter(|line| line.contains("has the unknown type")).count();
    let more = log
        .lines()
        .filter(|line| line.contains("more entries of an unknown type"));
    let more = more.filter_map(|line| line.split_whitespace().find_map(|word| word.parse::<usize>().ok()));
    assert_eq!((whole, more.sum()), (1, N - 1), "{}", shown(&log));
}
