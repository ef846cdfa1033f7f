//! The consumer in `status`: connected, paused, as a standby, and gone.

use redis::cmd;
use serde_json::Value;

use super::status;
use crate::relay::frames::Frame;
use crate::support::consumer::{HOLDER, Line, SET_ASIDE, STATUS};
use crate::support::entries::did;
use crate::support::stack::{EVENTS, GROUP};
use crate::support::wait_until;

fn figures(line: &Line) -> Value {
    status(line.consumer().without_args())
}

/// What a person sees.
fn screen(line: &Line) -> String {
    let output = line.consumer().without_args().arg("status").run_to_exit();
    assert_eq!(output.status.code(), Some(0), "{}", output.log);
    output.stdout
}

#[track_caller]
fn wait_for(line: &Line, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let mut found = Value::Null;
    wait_until(what, || {
        found = figures(line);
        match is_it(&found["consumer"]) {
            true => Ok(()),
            false => Err(format!("{found:#}")),
        }
    });
    found
}

#[test]
fn a_connected_consumer_is_told_with_its_process_its_rate_and_what_it_has_set_aside() {
    let line = Line::new();
    line.append(1, 20);
    line.relay.append(Frame::sync(&did("carol")).message());
    let mut consumer = line.consumer().spawn();
    line.wait_until_read();
    let figures = wait_for(&line, "the consumer has reported all", |told| {
        told["state"] == "connected" && told["status"]["set_aside"] == 1
    });
    assert_eq!(figures["producer"]["current_cursor"], "21", "{figures:#}");
    let told = &figures["consumer"];
    let pid = format!(" pid {}", consumer.pid());
    assert!(
        told["held_by"].as_str().is_some_and(|mark| mark.ends_with(&pid)),
        "{told:#}"
    );
    assert_eq!(told["status"]["set_aside_by_reason"]["sync"], 1, "{told:#}");
    assert_eq!(told["status"]["entries"], 20, "{told:#}");
    assert_eq!(told["last_set_aside"]["seq"], "21", "{told:#}");
    assert_eq!(told["last_set_aside"]["did"], did("carol"), "{told:#}");
    let seen = screen(&line);
    for words in [
        "connected, cursor 21, newest event ",
        &line.relay.url(),
        &pid,
        "reconnects 0, pauses 0 (0 s)",
        "1: sync 1; the last ",
        "ago: sync 21 did:plc:",
    ] {
        assert!(seen.contains(words), "{words} is not in\n{seen}");
    }
    line.relay.stop();
    let figures = wait_for(&line, "the consumer has lost the relay", |told| {
        told["state"] == "not_connected"
    });
    assert!(figures["consumer"]["status"].is_object(), "{figures:#}");
    consumer.kill();
    wait_for(&line, "the consumer is gone", Value::is_null);
}

#[test]
fn a_pause_is_told() {
    let line = Line::new();
    let create = ["CREATE", EVENTS, GROUP, "0", "MKSTREAM"];
    line.query::<()>(cmd("XGROUP").arg(&create));
    line.append(1, 5000);
    let _consumer = line.consumer().env("REDIS_MAX_STREAM_LEN", "2000").spawn();
    let figures = wait_for(&line, "the consumer pauses", |told| told["state"] == "paused");
    assert_eq!(figures["consumer"]["status"]["pauses"], 1, "{figures:#}");
    let seen = screen(&line);
    assert!(seen.contains("paused until the group has read more, cursor"), "{seen}");
    assert!(seen.contains("pauses 1"), "{seen}");
}

#[test]
fn a_standby_is_told_beside_the_producer_that_runs() {
    let line = Line::new();
    let foreign = r#"{"connected":true,"url":"wss://their.relay","currentCursor":"42"}"#;
    line.query::<()>(cmd("SET").arg(STATUS).arg(foreign));
    let alone = figures(&line);
    assert_eq!(alone["consumer"], Value::Null, "{alone:#}");
    let consumer = line.consumer().spawn();
    let figures = wait_for(&line, "the consumer stands by", |told| told["state"] == "standby");
    assert_eq!(figures["producer"]["current_cursor"], "42", "{figures:#}");
    let seen = screen(&line);
    let standby = format!("pid {} stands by until that producer has ended", consumer.pid());
    assert!(seen.contains("connected, cursor 42\n"), "{seen}");
    assert!(seen.contains(&standby), "{seen}");
}

#[test]
fn text_of_strangers_about_the_consumer_is_harmless() {
    const HOSTILE: &str = "hostile\u{1b}[2J\u{9b}31m\u{202e}\nok    forged";
    let line = Line::new();
    let report = serde_json::json!({
        "connected": true, "url": HOSTILE, "currentCursor": HOSTILE, "setAside": 1, "setAsideByReason": {HOSTILE: 1},
        "producer": format!("firehose-worker {HOSTILE} vm pid 7"),
    });
    line.query::<()>(cmd("SET").arg(STATUS).arg(report.to_string()));
    line.query::<()>(cmd("SET").arg(HOLDER).arg(HOSTILE));
    let mut add = cmd("XADD");
    add.arg(SET_ASIDE).arg("*").arg("reason").arg(HOSTILE);
    line.query::<()>(add.arg("did").arg(HOSTILE).arg("path").arg(HOSTILE));
    let seen = screen(&line);
    assert!(seen.matches("hostile").count() >= 6, "{seen}");
    let is_bad = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!seen.contains(is_bad), "{seen:?}");
    assert!(!seen.lines().any(|line| line.starts_with("ok ")), "{seen}");
    let figures = figures(&line);
    assert_eq!(figures["consumer"]["last_set_aside"]["did"], HOSTILE, "{figures:#}");
}
