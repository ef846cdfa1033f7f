//! Other producers beside the consumer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::support::consumer::{CURSOR, Line, STATUS, wait_for_log};
use crate::support::stack::EVENTS;
use crate::support::wait::{equal, wait_until};

/// A status as the AppView's producers write it.
const FOREIGN: &str = r#"{"connected":true,"url":"wss://bsky.network","currentCursor":"50"}"#;

fn append_as_a_peer(line: &Line, seq: u64) {
    let events = line.relay.entries_after(seq - 1);
    let Some(event) = events.first().filter(|event| event.seq == seq.to_string()) else {
        return; // It makes no entry.
    };
    let mut add = redis::cmd("XADD");
    add.arg(EVENTS).arg("*").arg("type").arg(&event.kind);
    line.query::<String>(add.arg("data").arg(&event.data).arg("seq").arg(&event.seq));
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

/// A producer as the AppView's: it begins where the cursor is, holds no lease, saves its cursor late, and looks at nobody.
struct Peer<'a> {
    line: &'a Line,
    is_over: AtomicBool,
}

impl Peer<'_> {
    /// How many events it appends between two saved cursors.
    const LATE: u64 = 40;

    fn run(&self) {
        let cursor = self.line.cursor().and_then(|cursor| cursor.parse().ok());
        let mut seq: u64 = cursor.unwrap_or_default();
        let mut saved = seq;
        while !self.is_over.load(Relaxed) {
            self.line
                .query::<()>(redis::cmd("SETEX").arg(STATUS).arg(2).arg(FOREIGN));
            if self.line.relay.last_seq() == Some(seq) {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            seq += 1;
            append_as_a_peer(self.line, seq);
            if seq >= saved + Self::LATE {
                saved = seq;
                self.line.query::<()>(redis::cmd("SET").arg(CURSOR).arg(seq));
            }
        }
    }
}

#[test]
fn a_cutover_and_the_way_back_lose_nothing_and_double_few_entries() {
    let line = Line::new();
    line.append(1, 500);
    let peer = Peer {
        line: &line,
        is_over: AtomicBool::new(false),
    };
    let consumer = thread::scope(|scope| {
        scope.spawn(|| peer.run());
        let consumer = line.consumer().spawn();
        wait_for_log(&consumer, "standby: another producer writes to firehose:events");
        let n_entries = || line.relay.entries_after(0).len() as u64;
        wait_until("the peer has read all", || line.length() == n_entries());
        line.append(2, 90);
        wait_until("the peer goes on", || line.length() == n_entries());
        // It is killed, while events go on.
        peer.is_over.store(true, Relaxed);
        consumer
    });
    line.append(3, 200);
    line.wait_until_read();
    wait_for_log(&consumer, "taking over from another producer");
    line.assert_exact();
    // The way back: the peer is started, and the consumer makes way for it.
    peer.is_over.store(false, Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| peer.run());
        wait_until("the consumer makes way", || {
            line.append(4, 1);
            consumer.log().matches("standby: another producer writes").count() == 2
        });
        line.append(9, 100);
        let newest = line.relay.last_seq().map(|seq| seq.to_string());
        wait_until("the peer has read all", || {
            equal(line.entries().last().map(|entry| entry.seq.clone()), newest.clone())
        });
        peer.is_over.store(true, Relaxed);
    });
    drop(consumer);
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for entry in line.entries() {
        *times.entry(entry.seq).or_default() += 1;
    }
    let wanted: Vec<String> = line.relay.entries_after(0).into_iter().map(|event| event.seq).collect();
    for seq in &wanted {
        assert!(times.contains_key(seq), "seq {seq} is missing");
    }
    let n_doubled: u32 = times.values().map(|times| times - 1).sum();
    println!("{n_doubled} of {} entries are there twice", wanted.len());
    // Those of the time until the peer saves its cursor.
    assert!(
        u64::from(n_doubled) <= 2 * Peer::LATE,
        "{n_doubled} entries are there twice"
    );
}
