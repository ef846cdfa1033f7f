//! Frames that are not what they should be, and filters.

use std::collections::BTreeMap;

use ipld_core::ipld;
use serde_json::json;

use crate::relay::frames::Frame;
use crate::relay::{Message, encode};
use crate::support::consumer::{Line, wait_for_log};
use crate::support::entries::{did, post};
use crate::support::{WorkerBuilder, wait_until};

fn commit(name: &str, rkey: &str) -> Frame {
    let path = format!("app.bsky.feed.post/{rkey}");
    Frame::commit(
        &did(name),
        &[json!({"action": "create", "path": path, "record": post(rkey)})],
    )
}

#[test]
fn an_unreadable_frame_is_set_aside_and_the_next_event_is_appended() {
    let line = Line::new();
    let _consumer = line.consumer().spawn();
    line.relay.append(commit("alice", "one").message());
    line.relay.append(Message::raw(vec![0xff; 40]));
    line.relay.append(commit("alice", "two").message());
    line.wait_until_read();
    line.assert_exact();
    assert_eq!(line.set_aside(), BTreeMap::from([("unreadable_frame".to_owned(), 1)]));
    let list = WorkerBuilder::new()
        .env("REDIS_URL", &line.redis.url())
        .arg("set-aside")
        .arg("list")
        .run_to_exit();
    assert!(list.stdout.contains("unreadable_frame"), "{}", list.stdout);
    let id = list
        .stdout
        .lines()
        .nth(1)
        .and_then(|row| row.split(' ').next())
        .expect("an ID");
    let show = WorkerBuilder::new()
        .env("REDIS_URL", &line.redis.url())
        .arg("set-aside")
        .arg("show")
        .arg(id)
        .run_to_exit();
    assert!(show.stdout.contains("frame, in base64\n/////"), "{}", show.stdout);
}

#[test]
fn a_damaged_frame_with_a_great_seq_does_not_make_later_events_look_old() {
    let line = Line::new();
    line.relay.append(commit("alice", "one").message());
    // The member `repo` is missing.
    let mut damaged = encode::dag_cbor(&ipld!({"op": 1, "t": "#commit"}));
    damaged.extend(encode::dag_cbor(&ipld!({"seq": 9_007_199_254_740_991_i64, "ops": []})));
    line.relay.append(Message::raw(damaged));
    line.relay.append(commit("alice", "two").message());
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    line.assert_exact();
    assert_eq!(line.set_aside(), BTreeMap::from([("unreadable_frame".to_owned(), 1)]));
}

#[test]
fn an_op_whose_record_is_missing_is_set_aside_and_its_neighbours_are_appended() {
    let line = Line::new();
    let ops = ["a", "b", "c"]
        .map(|rkey| json!({"action": "create", "path": format!("app.bsky.feed.post/{rkey}"), "record": post(rkey)}));
    let mut frame = Frame::commit(&did("alice"), &ops);
    // The commit object comes first.
    frame.blocks.remove(2);
    line.relay.append(frame.message());
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    let entries = line.entries();
    let data: serde_json::Value = serde_json::from_str(&entries[0].data).expect("JSON");
    let paths: Vec<&str> = data["ops"]
        .as_array()
        .expect("ops")
        .iter()
        .filter_map(|op| op["path"].as_str())
        .collect();
    assert_eq!(paths, ["app.bsky.feed.post/a", "app.bsky.feed.post/c"]);
    assert_eq!(line.set_aside(), BTreeMap::from([("missing_block".to_owned(), 1)]));
}

#[test]
fn messages_that_make_no_entry_move_the_cursor() {
    let line = Line::new();
    let consumer = line.consumer().spawn();
    line.relay.append(Frame::commit(&did("alice"), &[]).message());
    line.relay
        .append(Frame::other("#tombstone", ipld!({"did": did("bob")})).message());
    line.relay
        .append(Frame::other("#weather", ipld!({"rain": true})).message());
    line.wait_until_read();
    assert_eq!(line.length(), 0, "{}", consumer.log());
    line.relay.append(Frame::sync(&did("alice")).message());
    line.wait_until_read();
    assert_eq!(line.set_aside(), BTreeMap::from([("sync".to_owned(), 1)]));
}

#[test]
fn only_the_wanted_collections_and_accounts_are_appended() {
    let line = Line::new();
    let like = json!({"action": "create", "path": "app.bsky.feed.like/x", "record": post("like")});
    line.relay.append(commit("alice", "one").message());
    line.relay.append(Frame::commit(&did("alice"), &[like]).message());
    line.relay.append(commit("bob", "two").message());
    line.relay
        .append(Frame::identity(&did("bob"), Some("bob.test")).message());
    line.relay
        .append(Frame::identity(&did("alice"), Some("alice.test")).message());
    let _consumer = line
        .consumer()
        .env("FIREHOSE_COLLECTIONS", "app.bsky.feed.post")
        .env("FIREHOSE_DIDS", &did("alice"))
        .spawn();
    line.wait_until_read();
    let seqs: Vec<String> = line.entries().into_iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, ["1", "5"]);
}

#[test]
fn a_signal_reads_the_file_of_accounts_again() {
    let line = Line::new();
    let file = crate::support::scratch::directory("dids").join("list");
    std::fs::write(&file, did("alice")).expect("a file");
    let consumer = line
        .consumer()
        .env("FIREHOSE_DIDS", &format!("@{}", file.display()))
        .spawn();
    line.relay.append(commit("alice", "one").message());
    line.relay.append(commit("bob", "two").message());
    line.wait_until_read();
    std::fs::write(&file, format!("{}\n{}\n", did("alice"), did("bob"))).expect("a file");
    consumer.signal(libc::SIGHUP);
    wait_for_log(&consumer, "read FIREHOSE_COLLECTIONS and FIREHOSE_DIDS again");
    line.relay.append(commit("bob", "three").message());
    line.wait_until_read();
    let seqs: Vec<String> = line.entries().into_iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, ["1", "3"]);
}

#[test]
fn frames_up_to_the_limit_of_relays_pass_and_larger_ones_are_set_aside() {
    let line = Line::new();
    let large = |n_bytes: usize| {
        let ops: Vec<_> = (0..n_bytes / 900_000)
            .map(|n| {
                let path = format!("app.bsky.feed.post/{n}");
                json!({"action": "create", "path": path, "record": post(&"x".repeat(900_000))})
            })
            .collect();
        Frame::commit(&did("alice"), &ops)
    };
    line.relay.append(large(4_600_000).message());
    line.relay.append(large(9_100_000).message());
    line.relay.append(commit("alice", "after").message());
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    let seqs: Vec<String> = line.entries().into_iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, ["1", "3"]);
    assert_eq!(line.set_aside(), BTreeMap::from([("too_large".to_owned(), 1)]));
    wait_until("one connection was enough", || line.relay.seen().requests.len() == 1);
}
