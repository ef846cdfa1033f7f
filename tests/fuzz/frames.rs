//! The reader of a relay's messages under inputs that no relay sends: mutated records and frames, against
//! serde_ipld_dagcbor as the oracle.
//!
//! In what the contract asks for more than the oracle checks, the oracle is made stricter: `oracle::decode` has the
//! list. All else must be equal: what is accepted, and the JSON that becomes of it.

mod mutate;
mod oracle;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use firehose_worker::firehose::entry::{Writer, Written};
use firehose_worker::firehose::filter::Filter;
use firehose_worker::firehose::frame::{Frame, read};
use firehose_worker::firehose::reason::Reason;
use firehose_worker::firehose::record;
use flate2::read::MultiGzDecoder;
use ipld_core::ipld;
use ipld_core::ipld::Ipld;

use crate::{counting, setting};
use mutate::Mutator;
use oracle::Expected;

const RECORDED: &[u8] = include_bytes!("../relay/pds_frames_mixed.bin");

/// Bytes on the heap for each byte of the input: a control character becomes six bytes of JSON, in a buffer that grows
/// by doubling, and while it grows the old one is there as well.
const MAX_BYTES_PER_BYTE: usize = 20;

/// Bytes that every input may take, however short.
const MAX_FIXED_BYTES: usize = 4 << 10;

#[test]
fn mutated_records_are_accepted_or_refused_as_the_oracle_does_with_equal_json() {
    let mut corpus: Vec<Vec<u8>> = recorded().iter().flat_map(|frame| oracle::records(frame)).collect();
    corpus.extend(oracle::made_up_records());
    run("records", corpus, |block, tally| {
        let before = counting::start();
        let mut out = Vec::new();
        let result = record::write(block, &mut out, usize::MAX);
        assert_memory(counting::peak() - before, block.len());
        let wanted = oracle::decode(block).map(|value| oracle::json(&value));
        match (result, wanted) {
            (Ok(floats), Some((json, n_floats))) => {
                tally.accepted += 1;
                assert_eq!(String::from_utf8_lossy(&out), json);
                assert_eq!(floats, n_floats);
            }
            (Err(_), None) => tally.refused += 1,
            (result, wanted) => panic!("{result:?}, and the oracle: {wanted:?}"),
        }
    });
}

#[test]
fn mutated_frames_become_what_the_oracle_makes_of_them() {
    let mut writer = Writer::new();
    run("frames", recorded(), |message, tally| {
        let before = counting::start();
        let found = found(message, &mut writer);
        assert_memory(counting::peak() - before, message.len());
        match &found {
            Expected::Unreadable => tally.refused += 1,
            _ => tally.accepted += 1,
        }
        assert_eq!(found, oracle::expected(message));
    });
}

#[test]
fn recorded_frames_become_what_the_oracle_makes_of_them() {
    let mut writer = Writer::new();
    for (index, frame) in recorded().iter().chain(&recorded_beside_events()).enumerate() {
        let found = found(frame, &mut writer);
        assert_eq!(found, oracle::expected(frame), "frame {index}");
        assert_ne!(found, Expected::Unreadable, "frame {index}");
    }
}

#[test]
fn messages_built_to_take_memory_or_stack_take_little() {
    const N: usize = 1_000_000;
    let nested = [vec![0x81; N], vec![0]].concat();
    let maps = [[0xa1, 0x60].repeat(N / 2), vec![0]].concat();
    let array_lie = [b"\x9a\x7f\xff\xff\xff".to_vec(), vec![0; N]].concat();
    let bytes_lie = [b"\x5b\x00\x00\x00\xff\xff\xff\xff\xff".to_vec(), vec![0; N]].concat();
    let many = [b"\x9a\x00\x0f\x42\x40".to_vec(), vec![0xf6; N]].concat();
    let many_maps = [b"\x9a\x00\x0f\x42\x40".to_vec(), vec![0xa0; N]].concat();
    let control = [b"\x7a\x00\x0f\x42\x40".to_vec(), vec![1; N]].concat();
    let items = [nested, maps, array_lie, bytes_lie, many, many_maps, control];
    let mut writer = Writer::new();
    for item in &items {
        let in_envelope = |name: &str| oracle::event_with("#commit", name, item);
        for message in [
            item.clone(),
            [oracle::encode(&ipld!({"op": 1, "t": "#commit"})), item.clone()].concat(),
            in_envelope("ops"),
            in_envelope("seq"),
            in_envelope("zzzzzzzzz"),
            oracle::commit_of(item, oracle::cid(item)),
            oracle::commit_of(b"", oracle::cid(b"")),
            oracle::commit_with_car(item),
        ] {
            let before = counting::start();
            let found = found(&message, &mut writer);
            assert_memory(counting::peak() - before, message.len());
            assert_eq!(found, oracle::expected(&message), "{:.40?}", message);
        }
    }
}

#[test]
fn sections_and_ops_without_number_take_memory_in_proportion() {
    const N: usize = 100_000;
    let cid = oracle::cid(&[0xa0]).to_bytes();
    let section = [&[37][..], &cid, &[0xa0]].concat();
    let car = [oracle::car_header(), section.repeat(N)].concat();
    let ops = |op: Ipld| Ipld::List(vec![op; N]);
    let create = ipld!({"path": "app.bsky.feed.post/a", "action": "create", "cid": Ipld::Link(oracle::cid(&[0xa0]))});
    let mut writer = Writer::new();
    for (ops, car) in [
        (ops(create), car.clone()),
        (ops(ipld!({})), car),
        (ops(Ipld::Null), vec![]),
        (ops(ipld!({"path": "a"})), vec![1; N]),
    ] {
        let message = oracle::commit_message(ops, car);
        let before = counting::start();
        let found = found(&message, &mut writer);
        // An op of one byte is set aside, and listed among the first 1000 with reason and path.
        assert_memory((counting::peak() - before).saturating_sub(100 << 10), message.len());
        assert_eq!(found, oracle::expected(&message));
    }
}

/// What the consumer makes of a message.
fn found(message: &[u8], writer: &mut Writer) -> Expected {
    let frame = match read(message) {
        Ok(frame) => frame,
        Err(_) => return Expected::Unreadable,
    };
    let mut data = Vec::new();
    let mut counts = None;
    let what = match &frame {
        Frame::Commit(commit) => {
            let written = writer.commit(commit, &Filter::all(), &mut data);
            counts = Some(counts_of(&written));
            format!("commit of {}", commit.stamp.did)
        }
        Frame::Identity { stamp, handle } => {
            writer.identity(stamp, *handle, &mut data);
            "identity".to_owned()
        }
        Frame::Account { stamp, active, status } => {
            writer.account(stamp, *active, *status, &mut data);
            "account".to_owned()
        }
        Frame::Sync { stamp } => format!("sync of {}", stamp.did),
        Frame::Info { name, message } => format!("info {name} {message:?}"),
        Frame::Other { kind, .. } => format!("other {kind}"),
        Frame::Error { error, message } => format!("error {error} {message:?}"),
    };
    Expected::Frame {
        what,
        seq: frame.seq(),
        time: frame.time().map(str::to_owned),
        data: String::from_utf8(data).expect("UTF-8"),
        counts,
    }
}

/// The ops that were written and set aside, by reason.
fn counts_of(written: &Written) -> Vec<(&'static str, u32)> {
    let ops = [
        ("create", written.creates),
        ("update", written.updates),
        ("delete", written.deletes),
        ("floats", written.floats),
        ("mismatched", u32::from(written.mismatched)),
    ];
    let reasons = Reason::ALL.map(Reason::as_str).into_iter().zip(written.n_set_aside);
    ops.into_iter().chain(reasons).filter(|(_, n)| *n > 0).collect()
}

fn assert_memory(taken: usize, len: usize) {
    let max = len * MAX_BYTES_PER_BYTE + MAX_FIXED_BYTES;
    assert!(taken <= max, "{taken} bytes on the heap for {len}");
}

/// The frames of a real PDS.
fn recorded() -> Vec<Vec<u8>> {
    let frames = split(RECORDED);
    assert_eq!(frames.len(), 22);
    frames
}

/// More of them, which lie beside the recorded events where the environment names these.
fn recorded_beside_events() -> Vec<Vec<u8>> {
    let events = std::env::var_os("FIREHOSE_REAL_EVENTS").unwrap_or_default();
    let path = Path::new(&events).with_file_name("pds_frames_bulk.bin.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        println!(
            "NOT CHECKED: more recorded frames, since there is no file {}",
            path.display()
        );
        return Vec::new();
    };
    let mut bytes = Vec::new();
    MultiGzDecoder::new(file).read_to_end(&mut bytes).expect("a gzip file");
    split(&bytes)
}

/// The frames of a file: for each a u32, little endian, its length, and its bytes.
fn split(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk() {
        let (frame, after) = after.split_at(u32::from_le_bytes(*len) as usize);
        frames.push(frame.to_vec());
        rest = after;
    }
    frames
}

#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    refused: u64,
}

/// Checks mutations of a corpus, as many as the environment asks for.
fn run(what: &str, corpus: Vec<Vec<u8>>, mut check: impl FnMut(&[u8], &mut Tally)) {
    let n_inputs = setting("FIREHOSE_FUZZ_INPUTS", 100_000);
    let seed = setting("FIREHOSE_FUZZ_SEED", 1);
    let start = Instant::now();
    let mut mutator = Mutator::new(seed, corpus);
    let mut tally = Tally::default();
    for n in 0..n_inputs {
        let input = mutator.input();
        let ended = catch_unwind(AssertUnwindSafe(|| check(&input, &mut tally)));
        assert!(
            ended.is_ok(),
            "input {n} of seed {seed}: {}",
            data_encoding::HEXLOWER.encode(&input)
        );
    }
    println!(
        "{n_inputs} {what} of seed {seed} in {:.1} s: {tally:?}",
        start.elapsed().as_secs_f64()
    );
    // Inputs that are all refused at once would try nothing; so would inputs that all still make sense.
    assert!(tally.accepted > n_inputs / 20, "few {what} were accepted: {tally:?}");
    assert!(tally.refused > n_inputs / 20, "few {what} were refused: {tally:?}");
}
