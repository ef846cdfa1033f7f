//! Other producers beside the consumer.

use crate::support::consumer::{CURSOR, Line, STATUS, wait_for_log};
use crate::support::stack::EVENTS;
use crate::support::wait::wait_until;

/// A status as the AppView's producers write it.
const FOREIGN: &str = r#"{"connected":true,"url":"wss://bsky.network","currentCursor":"50"}"#;

fn append_as_a_peer(line: &Line, seq: u64) {
    let event = &line.relay.entries_after(seq - 1)[0];
    let mut add = redis::cmd("XADD");
    add.arg(EVENTS).arg("*").arg("type").arg(&event.kind);
    line.query::<String>(add.arg("data").arg(&event.data).arg("seq").arg(&event.seq));
}

#[test]
fn the_consumer_stands_by_while_another_producer_lives_and_then_takes_over_without_a_gap() {
    let line = Line::new();
    line.append(1, 200);
    for seq in 1..=60 {
        append_as_a_peer(&line, seq);
    }
    // It saves its cursor every few seconds: late.
    line.query::<()>(redis::cmd("SET").arg(CURSOR).arg(50));
    line.query::<()>(redis::cmd("SETEX").arg(STATUS).arg(2).arg(FOREIGN));
    let consumer = line.consumer().spawn();
    wait_for_log(&consumer, "standby: another producer writes to firehose:events");
    assert_eq!(line.length(), 60);
    append_as_a_peer(&line, 61);
    line.wait_until_read();
    wait_for_log(&consumer, "taking over from another producer");
    line.assert_exact();
}

#[test]
fn a_cursor_that_is_ahead_of_the_stream_loses_nothing() {
    let line = Line::new();
    line.append(1, 100);
    for seq in 1..=30 {
        append_as_a_peer(&line, seq);
    }
    // Its producer was killed between the cursor and the entries.
    line.query::<()>(redis::cmd("SET").arg(CURSOR).arg(80));
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    line.assert_exact();
}

#[test]
fn a_position_of_a_producer_without_a_cursor_is_the_streams() {
    let line = Line::new();
    line.append(1, 100);
    for seq in 1..=30 {
        append_as_a_peer(&line, seq);
    }
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    line.assert_exact();
}

#[test]
fn a_producer_that_moves_the_cursor_makes_the_consumer_stand_by() {
    let line = Line::new();
    line.append(1, 100);
    let consumer = line.consumer().spawn();
    line.wait_until_read();
    line.query::<()>(redis::cmd("SET").arg(CURSOR).arg(100));
    line.append(2, 20);
    wait_for_log(&consumer, "another program has written it");
    wait_for_log(&consumer, "standby: another producer writes to firehose:events");
    // It was one write, so that the consumer goes on soon.
    line.wait_until_read();
    line.assert_exact();
}

#[test]
fn a_cursor_and_entries_that_the_consumer_leaves_let_a_peer_continue() {
    let line = Line::new();
    line.append(1, 100);
    let mut consumer = line.consumer().spawn();
    line.wait_until_read();
    consumer.signal(libc::SIGTERM);
    consumer.wait_exit(std::time::Duration::from_secs(20));
    assert_eq!(line.cursor().as_deref(), Some("100"));
    wait_until("the status says that it has ended", || {
        line.status().is_none_or(|status| status["connected"] == false)
    });
    // The peer goes on from there, and the consumer comes back after it.
    line.append(2, 50);
    for seq in 101..=130 {
        append_as_a_peer(&line, seq);
    }
    line.query::<()>(redis::cmd("SET").arg(CURSOR).arg(125));
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    line.assert_exact();
}
