//! The decoder under inputs that no producer sends: made-up events of both dialects, mutated.
//!
//! Seeded, so that a failure can be repeated. Each input is taken from an entry's bytes to rows, without a panic and
//! within memory that is bounded by the input's length.
//!
//! `frames` does the same with the messages of a relay.
//!
//! `FIREHOSE_FUZZ_INPUTS` is the number of inputs (100,000), `FIREHOSE_FUZZ_SEED` the seed (1).

mod counting;
mod frames;
#[allow(dead_code, reason = "shared with the program `generate`, which uses the rest")]
#[path = "../generator/mod.rs"]
mod generator;
mod mutate;
#[allow(dead_code, reason = "shared with the program `generate`, which uses the rest")]
#[path = "../sdk_dialect.rs"]
mod sdk_dialect;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use firehose_worker::dead_letter::{Cause, DeadLetter};
use firehose_worker::decode::RawCommit;
use firehose_worker::decode::json::DEPTH_MAX;
use firehose_worker::entry::{Entry, EntryId};
use firehose_worker::rows::{OpOutcome, Source, URI_MAX};
use firehose_worker::{decode, partition, rows};

use generator::Events;
use mutate::Mutator;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Bytes on the heap for each byte of the input: `"ops":[7,7,…` is the worst, with an op and its outcome for every two
/// bytes.
const MAX_BYTES_PER_BYTE: usize = 256;

/// Bytes that every input may take, however short.
const MAX_FIXED_BYTES: usize = 64 << 10;

/// 2026-01-02: the inputs are the same whenever they are made.
const TIME_MILLIS: u64 = 1_767_312_000_000;

#[test]
fn no_mutated_entry_panics_or_takes_more_memory_than_its_length_allows() {
    let n_inputs = setting("FIREHOSE_FUZZ_INPUTS", 100_000);
    let seed = setting("FIREHOSE_FUZZ_SEED", 1);
    let start = Instant::now();
    let mut mutator = Mutator::new(seed, corpus());
    let mut tally = Tally::default();
    for n in 0..n_inputs {
        let (kind, data) = mutator.input();
        check(&format!("input {n} of seed {seed}"), kind, data, &mut tally);
    }
    println!(
        "{n_inputs} inputs of seed {seed} in {:.1} s: {tally:?}",
        start.elapsed().as_secs_f64()
    );
    // Inputs that are all refused at once would try nothing; so would inputs that all still make sense.
    assert!(tally.rows > n_inputs / 20, "few inputs became rows: {tally:?}");
    assert!(tally.refused > n_inputs / 20, "few inputs were refused: {tally:?}");
}

#[test]
fn inputs_built_to_take_memory_or_stack_take_little() {
    const N: usize = 100_000;
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(N), close.repeat(N));
    let record = |record: &str| {
        format!(
            r#"{{"repo":"did:plc:a","ops":[{{"action":"create","path":"app.bsky.feed.post/1","cid":"bafy","record":{record}}}]}}"#
        )
    };
    let mut tally = Tally::default();
    for data in [
        nested("[", "]"),
        nested(r#"{"a":"#, "}"),
        "[".repeat(N),
        record(&nested("[", "]")),
        record(&nested(r#"{"embed":"#, "}")),
        record(&format!("[{}0]", "0,".repeat(N))),
        record(&format!(r#"{{"text":"x","langs":[{}"en"]}}"#, r#""en","#.repeat(N))),
        record(&format!(r#"{{{}"text":"x"}}"#, r#""text":"y","#.repeat(N))),
        record(&format!(r#"{{"createdAt":{}}}"#, "9".repeat(N))),
        record(&format!(r#"{{"createdAt":1e{}}}"#, "9".repeat(N))),
        record(&format!(r#"{{"text":"{}"}}"#, r"\ud800".repeat(N))),
        record(&format!(r#"{{"text":"{}"}}"#, r"\u0000".repeat(N))),
        format!(r#"{{"repo":"did:plc:a","ops":[{}7]}}"#, "7,".repeat(N)),
        format!(r#"{{{}"ops":[]}}"#, r#""repo":"did:plc:a","#.repeat(N)),
    ] {
        let what: String = data.chars().take(120).collect();
        println!("{what}");
        check(&what, b"commit", data.into_bytes(), &mut tally);
    }
    println!("{tally:?}");
}

#[test]
fn the_deepest_records_take_half_of_a_threads_stack_at_most() {
    // A thread has 2 MiB. The commit is four levels of the nesting that is allowed.
    const STACK: usize = 1 << 20;
    let depth = DEPTH_MAX - 4;
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    let media = r#"{"$type":"app.bsky.embed.recordWithMedia","media":"#;
    let records = [
        nested("[", "]"),
        nested(r#"{"ref":"#, "}"),
        nested(r#"{"py_type":"blob","cid":"#, "}"),
        nested(media, "}"),
    ];
    let texts = records.map(|value| {
        format!(
            r#"{{"repo":"did:plc:a","ops":[{{"action":"create","path":"app.bsky.feed.post/1","cid":"bafy",
                "record":{{"py_type":"app.bsky.feed.post","text":"x","embed":{value},"own":{value}}}}}]}}"#
        )
    });
    let run = move || {
        let mut tally = Tally::default();
        for text in texts {
            let what: String = text.chars().skip(140).take(60).collect();
            check(&what, b"commit", text.into_bytes(), &mut tally);
        }
        assert_eq!((tally.rows, tally.bad_ops, tally.refused), (4, 0, 0), "{tally:?}");
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(run);
    thread.expect("a thread").join().expect("no panic");
}

/// What the inputs came to.
#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    rows: u64,
    bad_ops: u64,
    ignored_ops: u64,
    most_bytes_per_byte: usize,
}

/// Has one entry go from its bytes to rows; panics with the entry if that does.
fn check(what: &str, kind: &[u8], data: Vec<u8>, tally: &mut Tally) {
    let entry = Entry {
        id: EntryId { ms: TIME_MILLIS, n: 0 },
        kind: Some(kind.into()),
        data: Some(data.into()),
        seq: Some(b"1"[..].into()),
        deliveries: 1,
    };
    let before = counting::start();
    let ended = catch_unwind(AssertUnwindSafe(|| run(&entry, tally)));
    let taken = counting::peak() - before;
    let len = entry.weight();
    let input = || {
        let shown: String = String::from_utf8_lossy(entry.data.as_deref().unwrap_or_default())
            .chars()
            .take(4000)
            .collect();
        format!("{what}, type {}: {shown:?}", String::from_utf8_lossy(kind))
    };
    assert!(ended.is_ok(), "a panic at {}", input());
    assert!(
        taken <= len * MAX_BYTES_PER_BYTE + MAX_FIXED_BYTES,
        "{taken} bytes on the heap for {len} at {}",
        input()
    );
    tally.most_bytes_per_byte = tally
        .most_bytes_per_byte
        .max(taken.saturating_sub(MAX_FIXED_BYTES) / len);
}

fn run(entry: &Entry, tally: &mut Tally) {
    assert!(partition::worker_of(entry, 7) < 7);
    let source = Source::new(entry, 0, TIME_MILLIS as i64);
    let Ok(text) = decode::text(entry) else {
        tally.refused += 1;
        return;
    };
    let event = match decode::decode(entry.kind.as_deref(), &text) {
        Ok(event) => event,
        Err(error) => {
            tally.refused += 1;
            assert!(!error.to_string().contains('\n'), "a reason of several lines: {error}");
            return;
        }
    };
    let commit = RawCommit::new(&text);
    for outcome in rows::outcomes(event, &source) {
        match outcome {
            OpOutcome::Op(op) => {
                tally.rows += 1;
                assert!(!op.key.contains('\0'), "a NUL in the key {:?}", op.key);
                assert!(op.key.chars().count() <= URI_MAX, "a key too long for its column");
            }
            OpOutcome::Ignored(_) => tally.ignored_ops += 1,
            OpOutcome::Bad { index, error } => {
                tally.bad_ops += 1;
                DeadLetter::op(entry, commit.as_ref(), index, "", Cause::new(error.name(), &error));
            }
        }
    }
}

/// Events of both dialects, with every collection of the network's among them.
fn corpus() -> Vec<(String, String)> {
    let events: Vec<_> = Events::new(7, 3000).at(TIME_MILLIS).collect();
    let second = events.iter().map(|event| {
        let data = sdk_dialect::convert(&event.kind, &event.data).expect("JSON");
        (event.kind.clone(), data)
    });
    let mut corpus: Vec<(String, String)> = second.collect();
    corpus.extend(events.into_iter().map(|event| (event.kind, event.data)));
    corpus
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var_os(name).filter(|value| !value.is_empty()) {
        Some(value) => value
            .to_str()
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name} is not a number")),
        None => default,
    }
}
