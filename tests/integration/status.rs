//! `status`: the figures are those of the stream and its workers, with a worker and without.

use std::time::Duration;

use redis::cmd;
use serde_json::{Value, json};

use crate::generator::Events;
use crate::support::entries::{did, follow};
use crate::support::stack::{EVENTS, shown};
use crate::support::worker::{Worker, WorkerBuilder};
use crate::support::{RedisServer, Stack, wait_until};

mod consumer;

fn status(worker: WorkerBuilder) -> Value {
    let output = worker.arg("status").arg("--json").run_to_exit();
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output.log));
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", output.stdout))
}

/// The one of that name.
fn worker<'v>(status: &'v Value, consumer: &str) -> &'v Value {
    let workers = status["workers"].as_array().expect("workers");
    let found = workers.iter().find(|worker| worker["consumer"] == consumer);
    found.unwrap_or_else(|| panic!("no {consumer} in {status:#}"))
}

fn stop(mut worker: Worker) {
    worker.signal(libc::SIGTERM);
    let status = worker.wait_exit(Duration::from_secs(60));
    assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
}

#[test]
fn without_a_worker_the_figures_are_those_of_the_stream() {
    let stack = Stack::new("status_alone");
    let empty = status(stack.worker());
    assert_eq!(empty["backlog"], Value::Null, "{empty:#}");
    assert_eq!(empty["producer"], Value::Null);

    stack.create_group();
    stack.push_events(Events::new(3, 50));
    stack.read_and_abandon("gone", 7);
    for words in [
        &[
            "SET",
            "firehose:status",
            r#"{"connected":true,"url":"wss://relay","currentCursor":"42"}"#,
        ][..],
        &[
            "HSET",
            "firehose:metrics",
            "totalEvents",
            "9",
            "#commit",
            "8",
            "errors",
            "1",
        ],
        &["XADD", "firehose:dead-letters", "*", "type", "commit"],
        &[
            "HSET",
            "firehose:worker:losses:firehose-processors",
            "unread_trimmed",
            "5",
            "seen",
            "1 2 3",
        ],
    ] {
        cmd(words[0]).arg(&words[1..]).exec(&mut stack.redis()).expect("redis");
    }
    let figures = status(stack.worker());
    let n = stack.stream_len();
    assert_eq!(figures["length"], n);
    assert_eq!(figures["backlog"], n - 7, "{figures:#}");
    assert_eq!(figures["pending"], 7);
    assert_eq!(figures["dead_letters"], 1);
    assert_eq!(figures["losses"], json!({"unread_trimmed": 5}));
    assert_eq!(figures["counters"]["totalEvents"], 9);
    assert_eq!(figures["producer"]["current_cursor"], "42");
    assert_eq!(figures["freshness_seconds"], Value::Null);
    assert_eq!(worker(&figures, "gone")["pending"], 7);
    assert_eq!(worker(&figures, "gone")["status"], Value::Null);

    let output = stack.worker().arg("status").run_to_exit();
    for words in [
        "connected, cursor 42",
        "7 pending",
        "9: 8 commit",
        "unread trimmed 5",
        "gone",
    ] {
        assert!(output.stdout.contains(words), "{words} is not in\n{}", output.stdout);
    }
}

#[test]
fn with_workers_each_is_told_with_its_process_and_what_it_has_done() {
    let stack = Stack::new("status_running");
    stack.push_fields(&[("type", b"commit"), ("data", b"{"), ("seq", b"1")]);
    let sent = stack.push_events(Events::new(4, 200));
    // No table for it: ignored.
    stack.create(
        &did("a"),
        "app.bsky.actor.status/self",
        json!({"$type": "app.bsky.actor.status"}),
    );
    let first = stack.worker().env("CONSUMER_ID", "first").spawn();
    let figures = || status(stack.worker().env("CONSUMER_ID", "first"));
    wait_until("the worker has told that all is applied", || {
        let figures = figures();
        let told = &worker(&figures, "first")["status"];
        let is_done = told["events"]["commit"] == sent.commit + 1
            && figures["counters"]["totalEvents"] == sent.total + 1
            && told["events"]["errors"] == 1;
        if is_done { Ok(()) } else { Err(format!("{figures:#}")) }
    });
    let now = figures();
    assert_eq!(now["backlog"], 0);
    assert_eq!(now["catch_up_seconds"], 0.0);
    assert!(now["ignored"]["no_table"].as_u64() >= Some(1), "{now:#}");
    assert_eq!(now["dead_letters_by_reason"], json!({"not_json": 1}), "{now:#}");
    assert!(now["freshness_seconds"].as_f64() >= Some(0.0), "{now:#}");
    let told = worker(&now, "first");
    assert!(
        told["held_by"]
            .as_str()
            .is_some_and(|mark| mark.ends_with(&format!("pid {}", first.pid()))),
        "{told:#}"
    );
    assert_eq!(told["status"]["waiting_for"], Value::Null);

    let second = stack.worker().env("CONSUMER_ID", "second").spawn();
    stack.create(&did("a"), "app.bsky.graph.follow/1", follow(&did("b")));
    wait_until("both are told", || {
        let figures = figures();
        let workers = figures["workers"].as_array().map_or(0, |workers| {
            workers.iter().filter(|worker| worker["status"].is_object()).count()
        });
        if workers == 2 {
            Ok(())
        } else {
            Err(format!("{figures:#}"))
        }
    });
    stop(second);
    stop(first);
    let gone = figures();
    assert_eq!(worker(&gone, "first")["status"], Value::Null, "{gone:#}");
    assert_eq!(worker(&gone, "first")["held_by"], Value::Null);
}

#[test]
fn what_a_worker_waits_for_is_told() {
    let stack = Stack::new("status_waiting");
    let running = stack
        .worker()
        .env("DATABASE_URL", "postgresql://postgres@127.0.0.1:1/none")
        .env("CONSUMER_ID", "me")
        .spawn();
    wait_until("the worker tells that it waits for postgresql", || {
        let figures = status(stack.worker().env("CONSUMER_ID", "me"));
        let waiting = worker(&figures, "me")["status"]["waiting_for"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if waiting.starts_with("postgresql: ") {
            Ok(())
        } else {
            Err(format!("{figures:#}"))
        }
    });
    stop(running);
}

#[test]
fn without_the_right_to_tell_the_worker_runs_all_the_same() {
    let stack = Stack::new("status_no_right");
    cmd("ACL")
        .arg(&[
            "SETUSER",
            "feeder",
            "on",
            ">secret",
            "~firehose:events",
            "~*:metrics",
            "+@all",
        ])
        .exec(&mut stack.redis())
        .expect("ACL SETUSER");
    let url = stack.redis_url().replace("redis://", "redis://feeder:secret@");
    stack.create(&did("a"), "app.bsky.graph.follow/1", follow(&did("b")));
    let worker = stack.worker().env("REDIS_URL", &url).spawn();
    wait_until("the worker does without the key", || {
        if worker.log().contains("`status` shows less of this process") {
            Ok(())
        } else {
            Err(shown(&worker.log()))
        }
    });
    wait_until("the entry is applied", || stack.count("follows") == 1);
    let figures = status(stack.worker().env("REDIS_URL", &url));
    assert_eq!(figures["dead_letters"], Value::Null, "{figures:#}");
    stop(worker);
}

#[test]
fn a_redis_that_is_not_there_is_an_error() {
    let redis = RedisServer::not_started(&[]);
    let output = WorkerBuilder::new()
        .env("REDIS_URL", &redis.url())
        .arg("status")
        .run_to_exit();
    assert_eq!(output.status.code(), Some(1), "{}", output.log);
    assert!(
        output.log.contains("failed to read the status from redis"),
        "{}",
        output.log
    );
}

#[test]
fn watching_draws_again_and_again_and_gives_the_terminal_back() {
    let stack = Stack::new("status_watch");
    let file = stack.worker().arg("status").arg("--watch").spawn();
    // No terminal, so no escapes: a block each time.
    wait_until("it has drawn three times", || {
        file.stdout().matches("freshness").count() >= 3
    });
    assert!(!file.stdout().contains('\x1b'), "{}", file.stdout());
    stop(file);

    let lines = stack.worker().arg("status").arg("--watch").arg("--json").spawn();
    wait_until("it has printed two objects", || lines.stdout().lines().count() >= 2);
    for line in lines.stdout().lines().take(2) {
        let figures: Value = serde_json::from_str(line).expect("an object");
        assert_eq!(figures["stream"], EVENTS);
    }
    stop(lines);
}

#[test]
fn on_a_terminal_the_other_screen_is_drawn_on_and_left() {
    let stack = Stack::new("status_terminal");
    let log = crate::support::scratch::directory("terminal").join("typescript");
    let command = format!(
        "stty cols 60 rows 24; exec {} status --watch",
        env!("CARGO_BIN_EXE_firehose-worker")
    );
    let mut script = std::process::Command::new("script");
    script
        .args(["--quiet", "--flush", "--return", "--command", &command])
        .arg(&log)
        .envs([("TERM", "xterm"), ("LC_ALL", "C.UTF-8"), ("SHELL", "/bin/sh")])
        .env("REDIS_URL", stack.redis_url())
        .env("DATABASE_URL", stack.database_url())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null());
    let mut child = script.spawn().expect("script(1) of util-linux");
    let typed = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    wait_until("it draws in place, with a plot", || {
        let typed = typed();
        if typed.matches("\x1b[H").count() >= 3 && typed.contains("events/s, at most") {
            Ok(())
        } else {
            Err(typed)
        }
    });
    // Ctrl-C, as typed.
    use std::io::Write;
    child
        .stdin
        .as_mut()
        .expect("its stdin")
        .write_all(b"\x03")
        .expect("a byte");
    wait_until("it has ended", || child.try_wait().expect("script").is_some());
    let typed = typed();
    assert!(typed.contains("\x1b[?1049h\x1b[?25l"), "{typed}");
    let frames: Vec<&str> = typed.split("\x1b[H").skip(1).collect();
    assert!(typed.contains("\x1b[?25h\x1b[?1049l"), "{typed}");
    for line in frames[0].split("\r\n") {
        assert!(line.trim_end_matches("\x1b[K").chars().count() <= 70, "{line}");
    }
}
