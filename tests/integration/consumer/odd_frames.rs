//! Recorded frames, and commits that are odd or spoiled in one op.

use std::collections::BTreeMap;
use std::path::Path;

use ipld_core::ipld;
use ipld_core::ipld::Ipld;
use serde_json::{Value, json};

use crate::prometheus;
use crate::relay::encode::Block;
use crate::relay::frames::{self, Frame};
use crate::relay::{Conduct, Message, encode};
use crate::support::Worker;
use crate::support::consumer::{Line, wait_for_log};
use crate::support::entries::{did, post};
use crate::support::process::free_port;
use crate::support::wait::wait_until;

fn create(path: &str, record: Value) -> Value {
    json!({"action": "create", "path": path, "record": record})
}

/// A commit of two posts, of which a test spoils the second.
fn two_posts() -> Frame {
    let ops = [
        create("app.bsky.line.post/good", post("good")),
        create("app.bsky.line.post/bad", post("bad")),
    ];
    Frame::commit(&did("alice"), &ops)
}

/// The entry without its second op.
fn without_second(mut frame: Frame) -> Frame {
    if let Some((_, data)) = &mut frame.entry {
        data["ops"].as_array_mut().expect("ops").truncate(1);
    }
    frame
}

/// Changes the second op.
fn change_op(frame: &mut Frame, change: impl FnOnce(&mut BTreeMap<String, Ipld>)) {
    match frame.body.get_mut("ops") {
        Some(Ipld::List(ops)) => match &mut ops[1] {
            Ipld::Map(op) => change(op),
            other => panic!("{other:?} is no op"),
        },
        other => panic!("{other:?} are no ops"),
    }
}

/// A commit whose second op fails for each reason.
fn spoiled() -> Vec<(&'static str, Frame)> {
    let mut missing = two_posts();
    missing.blocks.pop();
    let mut mismatch = two_posts();
    mismatch.blocks.last_mut().expect("a block").bytes = Block::of(&ipld!({"text": "other"})).bytes;
    let mut no_cid = two_posts();
    change_op(&mut no_cid, |op| _ = op.insert("cid".to_owned(), Ipld::Null));
    let mut action = two_posts();
    change_op(&mut action, |op| {
        _ = op.insert("action".to_owned(), "replace".to_owned().into())
    });
    let mut path = two_posts();
    change_op(&mut path, |op| {
        _ = op.insert("path".to_owned(), "no path".to_owned().into())
    });
    let mut record = two_posts();
    let bytes = b"\xa1\x61a\x9f\xff".to_vec(); // a list of indefinite length
    let block = Block {
        cid: encode::cid(encode::DAG_CBOR, &bytes),
        bytes,
    };
    change_op(&mut record, |op| _ = op.insert("cid".to_owned(), Ipld::Link(block.cid)));
    record.blocks.push(block);
    [
        ("missing_block", missing),
        ("hash_mismatch", mismatch),
        ("no_cid", no_cid),
        ("bad_action", action),
        ("bad_path", path),
        ("bad_record", record),
    ]
    .map(|(reason, frame)| (reason, without_second(frame)))
    .into()
}

#[test]
fn the_recorded_frames_of_a_pds_become_the_entries_that_another_decoder_makes_of_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relay/pds_frames_mixed.bin");
    let line = Line::new();
    line.relay.append_all(frames::read(&path).expect("the recorded frames"));
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    line.assert_exact();
    assert_eq!(line.set_aside(), BTreeMap::from([("sync".to_owned(), 3)]));
}

#[test]
fn an_op_that_cannot_be_read_is_set_aside_and_its_neighbour_is_written() {
    let line = Line::new();
    let spoiled = spoiled();
    for (_, frame) in &spoiled {
        line.relay.append(frame.message());
    }
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    line.assert_exact();
    let wanted = spoiled.iter().map(|(reason, _)| ((*reason).to_owned(), 1));
    assert_eq!(line.set_aside(), wanted.collect());
}

#[test]
fn deprecated_members_of_any_type_are_ignored_and_blocks_may_come_in_any_order_and_twice() {
    let line = Line::new();
    let mut odd = two_posts();
    odd.body
        .insert("blobs".to_owned(), Ipld::List(vec!["a text".to_owned().into()]));
    odd.body.insert("tooBig".to_owned(), "yes".to_owned().into());
    odd.body.insert("unknown".to_owned(), ipld!({"a": [1, null]}));
    odd.body.remove("rebase");
    odd.blocks.reverse();
    odd.blocks.extend(odd.blocks.clone());
    odd.blocks.push(Block::of(&ipld!({"text": "of no op"})));
    line.relay.append(odd.message());
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    line.assert_exact();
    assert_eq!(line.set_aside(), BTreeMap::new());
}

#[test]
fn a_frame_of_almost_5_megabytes_is_read_and_one_of_20_is_passed_without_a_loop() {
    let line = Line::new();
    let text = "x".repeat(900_000);
    let ops: Vec<Value> = (0..5)
        .map(|n| create(&format!("app.bsky.line.post/{n}"), post(&format!("{n}{text}"))))
        .collect();
    line.relay.append(Frame::commit(&did("alice"), &ops).message());
    line.relay.append(Message::raw(vec![0; 20 << 20]));
    line.append(1, 10);
    let consumer = line.consumer().spawn();
    wait_until("what follows is read", || line.length() >= 10);
    line.wait_until_read();
    line.assert_exact();
    let n_requests = line.relay.seen().requests.len();
    assert!(n_requests < 6, "{n_requests} requests: {}", consumer.log());
    assert_eq!(line.set_aside(), BTreeMap::from([("too_large".to_owned(), 1)]));
    assert_eq!(line.set_aside_fields("seq"), ["2"]);
    assert_eq!(line.set_aside_fields("relay"), [line.relay.url().replace("ws://", "")]);
}

#[test]
fn a_frame_that_is_too_large_to_be_read_is_set_aside_and_costs_no_other_event_at_any_relay() {
    let huge = || Message::raw(vec![0; 17 << 20]);
    let lines = [Conduct::pds(), Conduct::indigo(), Conduct::rainbow()].map(Line::like);
    let addresses = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
    let spawn = |(line, address): (&Line, &String)| line.consumer().env("METRICS_ADDR", address).spawn();
    let consumers: Vec<Worker> = lines.iter().zip(&addresses).map(spawn).collect();
    for line in &lines {
        line.append(1, 3);
        line.relay.append(huge());
        line.append(2, 3);
        // Behind a gap of one seq, and two in a row.
        line.relay.skip_seqs(1);
        line.relay.append(huge());
        line.relay.append(huge());
        line.append(3, 3);
    }
    for ((line, address), consumer) in lines.iter().zip(&addresses).zip(consumers) {
        line.wait_until_read();
        line.assert_exact();
        let seqs = line.set_aside_fields("seq");
        assert_eq!(seqs, ["4", "8-10"], "{}", consumer.log());
        wait_for_log(&consumer, "passed over a frame that is larger than 16 MiB (seq 4)");
        let (_, metrics) = prometheus::get(address, "/metrics").expect("metrics");
        let counted = prometheus::value(&metrics, r#"firehose_consumer_set_aside_total{reason="too_large"}"#);
        assert_eq!(counted, Some("2"), "{metrics}");
    }
}

#[test]
fn a_million_nested_containers_cost_their_op_or_their_frame_only() {
    let line = Line::new();
    for level in [&b"\x81"[..], b"\xa1\x60"] {
        let nested = level.repeat(1_000_000);
        let mut record = two_posts();
        let block = Block {
            cid: encode::cid(encode::DAG_CBOR, &nested),
            bytes: nested.clone(),
        };
        change_op(&mut record, |op| _ = op.insert("cid".to_owned(), Ipld::Link(block.cid)));
        record.blocks.push(block);
        line.relay.append(without_second(record).message());
        let mut envelope = encode::dag_cbor(&ipld!({"op": 1, "t": "#commit"}));
        envelope.extend(nested);
        line.relay.append(Message::raw(envelope));
    }
    line.append(1, 10);
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    line.assert_exact();
    let wanted = [("bad_record", 2), ("unreadable_frame", 2)].map(|(reason, n)| (reason.to_owned(), n));
    assert_eq!(line.set_aside(), BTreeMap::from(wanted));
}
