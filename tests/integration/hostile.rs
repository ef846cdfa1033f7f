//! Untrusted text in records, names and errors reaches no terminal without escapes.

use redis::cmd;
use serde_json::{Value, json};

use crate::support::entries::{did, like};
use crate::support::manager::Manager;
use crate::support::stack::{EVENTS, shown};
use crate::support::wait::equal;
use crate::support::worker::{Output, WorkerBuilder};
use crate::support::{Stack, wait_until};

/// Clears the screen, sets colours in C0 and C1, hides and turns text, and forges a line of a report.
const HOSTILE: &str = "hostile\u{1b}[2J\u{1b}]0;t\u{7}\u{7f}\u{9b}31m\u{ad}\u{61c}\u{200b}\u{200f}\u{202e}\u{2028}\u{2066}\
    \u{fe0f}\u{feff}\u{fff9}\u{e0041}\u{e007f}\u{e0100}\r\nok    forged";

fn is_forbidden(character: char) -> bool {
    let is_invisible = matches!(u32::from(character),
        0xad | 0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfe00..=0xfe0f | 0xfeff
        | 0xfff9..=0xfffb | 0xe0000..=0xe0fff);
    is_invisible || (character.is_control() && character != '\n')
}

#[track_caller]
fn assert_harmless(what: &str, text: &str) {
    let found: Vec<char> = text.chars().filter(|character| is_forbidden(*character)).collect();
    assert!(found.is_empty(), "{what} has {found:?}: {text:?}");
    let forged = text.lines().find(|line| line.trim_start().starts_with("ok    forged"));
    assert_eq!(forged, None, "{what} has a forged line: {text}");
}

/// Runs a command, whose output must have the hostile text and be harmless.
#[track_caller]
fn run(worker: WorkerBuilder, arguments: &[&str]) -> Output {
    let output = arguments
        .iter()
        .fold(worker, |worker, argument| worker.arg(argument))
        .run_to_exit();
    let what = arguments.join(" ");
    assert_harmless(&format!("stdout of {what}"), &output.stdout);
    assert_harmless(&format!("stderr of {what}"), &output.log);
    let all = output.stdout.clone() + &output.log;
    assert!(all.contains("hostile"), "the hostile text does not reach {what}: {all}");
    output
}

fn json_of(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", output.stdout))
}

/// A stack with the hostile text in everything that strangers write.
fn hostile_stack() -> Stack {
    let stack = Stack::new("hostile");
    stack.create_group();
    stack.sql(
        "create function refuse() returns trigger language plpgsql as $$ begin
             raise exception 'refused: %', new.text using errcode = '22003';
         end $$;
         create trigger refuse before insert or update on posts for each row execute function refuse()",
    );
    let subject = format!("at://{}/app.bsky.feed.post/{HOSTILE}", did("bob"));
    stack.create(&did("alice"), "app.bsky.feed.like/1", like(&subject));
    let text = json!({"text": HOSTILE, "createdAt": "2026-01-01T00:00:00Z"});
    stack.create(&did("alice"), "app.bsky.feed.post/1", text);
    stack.push_fields(&[
        ("type", b"commit"),
        ("data", HOSTILE.as_bytes()),
        ("seq", HOSTILE.as_bytes()),
    ]);
    stack.push_fields(&[("type", HOSTILE.as_bytes()), ("data", b"{}"), ("seq", b"1")]);
    stack
}

/// What others have left in Redis and the tables.
fn leave_traces(stack: &Stack) {
    stack.sql("update post_aggregations set like_count = 7; delete from post_viewer_states");
    stack.push_fields(&[("type", b"commit"), ("data", b"{}")]);
    stack.read_and_abandon(HOSTILE, 1);
    let producer = json!({"connected": true, "url": HOSTILE, "currentCursor": HOSTILE}).to_string();
    let status = json!({
        "version": HOSTILE, "process": HOSTILE, "started_ms": 1, "told_ms": 2, "threads": 1, "waiting_for": HOSTILE,
        "newest_committed_ms": 1, "events_per_second": 1.0, "events_per_second_over_a_minute": 1.0,
        "events": {HOSTILE: 1}, "ignored": {HOSTILE: 1}, "dead_letters_by_reason": {HOSTILE: 1},
    });
    let letter = [
        "firehose:dead-letters",
        "*",
        HOSTILE,
        HOSTILE,
        "type",
        HOSTILE,
        "op",
        HOSTILE,
        "error",
        HOSTILE,
    ];
    let losses = "firehose:worker:losses:firehose-processors";
    let mut connection = stack.redis();
    for words in [
        &["SET", "firehose:status", &producer][..],
        &[
            "SET",
            &format!("firehose:worker:status:firehose-processors:{HOSTILE}"),
            &status.to_string(),
        ],
        &["HSET", "firehose:metrics", HOSTILE, "1"],
        &["HSET", losses, HOSTILE, "1"],
    ] {
        cmd(words[0])
            .arg(&words[1..])
            .exec(&mut connection)
            .expect("a command of Redis");
    }
    cmd("XADD").arg(&letter).exec(&mut connection).expect("XADD");
}

#[test]
fn no_command_prints_what_a_terminal_obeys_or_a_reader_cannot_see() {
    let stack = hostile_stack();
    let mut worker = stack
        .worker()
        .env("CONSUMER_ID", HOSTILE)
        .env("LOG_LEVEL", "DEBUG")
        .spawn();
    wait_until("two dead letters are stored", || equal(stack.dead_letters().len(), 2));
    wait_until("all is acknowledged", || equal(stack.pending(), 0));
    worker.signal(libc::SIGTERM);
    assert_eq!(
        worker.wait_exit(std::time::Duration::from_secs(60)).code(),
        Some(0),
        "{}",
        shown(&worker.log())
    );
    assert_harmless("the log", &worker.log());
    for words in ["consumer hostile", "refused: hostile"] {
        assert!(worker.log().contains(words), "{words} is not in {}", worker.log());
    }
    leave_traces(&stack);

    let check = json_of(&run(stack.worker(), &["check", "--json"]));
    let found = |check: &Value| {
        check["findings"]
            .to_string()
            .contains(&json!(HOSTILE).to_string()[1..20])
    };
    assert!(found(&check), "{check:#}");
    run(stack.worker(), &["check"]);

    run(stack.worker(), &["status"]);
    let status = json_of(&run(stack.worker(), &["status", "--json"]));
    let consumers: Vec<&Value> = status["workers"]
        .as_array()
        .expect("workers")
        .iter()
        .map(|w| &w["consumer"])
        .collect();
    assert!(consumers.contains(&&json!(HOSTILE)), "{status:#}");

    run(stack.worker(), &["dead-letters", "list"]);
    let list = run(stack.worker(), &["dead-letters", "list", "--json"]).stdout;
    let letters: Vec<Value> = list
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!((letters.len(), &letters[0]["error"]), (3, &json!(HOSTILE)), "{list}");
    for letter in &letters {
        run(
            stack.worker(),
            &["dead-letters", "show", letter["id"].as_str().expect("an ID")],
        );
    }

    run(stack.worker(), &["repair", "--dry-run"]);
    let report = json_of(&run(stack.worker(), &["repair", "--json"]));
    let example = report["counters"]["examples"][0].as_str().expect("an example");
    assert!(example.contains(HOSTILE), "{report:#}");
}

#[test]
fn errors_and_status_lines_are_harmless_too() {
    let stack = Stack::new("hostile_errors");
    for name in ["BATCH_SIZE", "CLAIM_IDLE_MS", "WRITE_NOTIFICATIONS", "LOG_LEVEL"] {
        let output = run(stack.worker().env(name, HOSTILE), &[]);
        assert_eq!(output.status.code(), Some(2), "{name}: {}", output.log);
    }
    for arguments in [
        &["--env-file", HOSTILE, "check"][..],
        &["dead-letters", "show", HOSTILE],
        &[HOSTILE],
    ] {
        assert_eq!(run(stack.worker(), arguments).status.code(), Some(2));
    }
    // Named by PostgreSQL's error, which check prints and the worker logs and tells the service manager.
    let url = stack
        .database_url()
        .replace("postgres@", &format!("{}@", percent(HOSTILE)));
    run(stack.worker().env("DATABASE_URL", &url), &["check"]);
    run(stack.worker().env("DATABASE_URL", &url), &["check", "--json"]);
    let manager = Manager::new();
    let worker = stack
        .worker()
        .env("DATABASE_URL", &url)
        .env("NOTIFY_SOCKET", manager.address())
        .env("REDIS_STREAM_KEY", &format!("{EVENTS}{HOSTILE}"))
        .spawn();
    wait_until("the worker waits for postgresql", || {
        match manager.status().contains("hostile") && worker.log().contains("waiting for postgresql") {
            true => Ok(()),
            false => Err(format!("{:?}; {}", manager.status(), shown(&worker.log()))),
        }
    });
    assert_harmless("the log", &worker.log());
    assert_harmless("the status lines", &manager.lines().join("\n"));
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn a_list_of_thousands_of_consumers_is_cut_in_log_lines_and_reports() {
    let stack = Stack::new("many_consumers");
    stack.create_group();
    let mut connection = stack.redis();
    let mut pipe = redis::pipe();
    for n in 0..3000 {
        pipe.cmd("XADD").arg(&[EVENTS, "*", "type", "commit"]).ignore();
        let consumer = format!("consumer-{n}");
        pipe.cmd("XREADGROUP")
            .arg(&[
                "GROUP",
                "firehose-processors",
                &consumer,
                "COUNT",
                "1",
                "STREAMS",
                EVENTS,
                ">",
            ])
            .ignore();
    }
    pipe.query::<()>(&mut connection).expect("3,000 consumers");
    let worker = stack.worker().spawn();
    let reason = "waiting for entries of consumers that may be dead";
    wait_until("the others are waited for", || match worker.log().contains(reason) {
        true => Ok(()),
        false => Err(shown(&worker.log())),
    });
    let log = worker.log();
    let line = log.lines().find(|line| line.contains(reason)).unwrap_or_default();
    assert!(line.len() < 1000 && line.contains("and 2990 more"), "{line}");
    for command in ["check", "status"] {
        let output = stack.worker().arg(command).run_to_exit();
        let longest = output.stdout.lines().map(str::len).max();
        assert!(
            output.stdout.lines().count() < 100 && longest < Some(1000),
            "{}",
            output.stdout
        );
    }
}
