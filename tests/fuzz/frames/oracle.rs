//! What becomes of a message, worked out from trees that serde_ipld_dagcbor reads.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use data_encoding::BASE64_NOPAD;
use firehose_worker::firehose::path::collection;
use ipld_core::cid::multihash::Multihash;
use ipld_core::cid::{Cid, Version};
use ipld_core::ipld;
use ipld_core::ipld::Ipld;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const DID: &str = "did:plc:vyhpiknzypl5f4udzbjtl5nd";

/// The maximum nesting of containers.
const DEPTH_MAX: usize = 64;

/// The maximum length of an entry's data.
const DATA_MAX: usize = 8 << 20;

type Members = BTreeMap<String, Ipld>;

#[derive(Debug, PartialEq)]
pub(crate) enum Expected {
    Unreadable,
    Frame {
        what: String,
        seq: Option<u64>,
        time: Option<String>,
        /// Of the entry; empty if there is none.
        data: String,
        counts: Option<Vec<(&'static str, u32)>>,
    },
}

/// Decodes one item, by the oracle's rules and three more: containers nest 64 levels at most (not 127), a link is not a
/// CID of version 0, and no bytes follow a CID within its link.
pub(crate) fn decode(bytes: &[u8]) -> Option<Ipld> {
    let value: Ipld = serde_ipld_dagcbor::from_slice(bytes).ok()?;
    is_as_strict(&value, bytes.len()).then_some(value)
}

fn is_as_strict(value: &Ipld, len: usize) -> bool {
    // What the oracle drops behind a CID is missing from its own encoding.
    fits(value, DEPTH_MAX) && encode(value).len() == len
}

fn fits(value: &Ipld, levels: usize) -> bool {
    match value {
        Ipld::List(values) => levels > 0 && values.iter().all(|value| fits(value, levels - 1)),
        Ipld::Map(members) => levels > 0 && members.values().all(|value| fits(value, levels - 1)),
        Ipld::Link(cid) => cid.version() == Version::V1,
        _ => true,
    }
}

/// The lexicon JSON of a value, and the number of floats in it.
pub(crate) fn json(value: &Ipld) -> (String, u32) {
    let mut floats = 0;
    let mut out = String::new();
    push_json(value, &mut out, &mut floats);
    (out, floats)
}

fn push_json(value: &Ipld, out: &mut String, floats: &mut u32) {
    match value {
        Ipld::Null => out.push_str("null"),
        Ipld::Bool(value) => out.push_str(&value.to_string()),
        Ipld::Integer(number) => out.push_str(&number.to_string()),
        Ipld::Float(number) => {
            *floats += 1;
            out.push_str(&serde_json::to_string(number).expect("a number"));
        }
        Ipld::String(text) => out.push_str(&quoted(text)),
        Ipld::Bytes(bytes) => out.push_str(&format!(r#"{{"$bytes":"{}"}}"#, BASE64_NOPAD.encode(bytes))),
        Ipld::Link(cid) => out.push_str(&format!(r#"{{"$link":"{cid}"}}"#)),
        Ipld::List(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                push_json(value, out, floats);
            }
            out.push(']');
        }
        Ipld::Map(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| by_length(a, b));
            out.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(&quoted(name));
                out.push(':');
                push_json(value, out, floats);
            }
            out.push('}');
        }
    }
}

/// The order of a map's keys in DAG-CBOR.
fn by_length(a: &str, b: &str) -> Ordering {
    (a.len(), a).cmp(&(b.len(), b))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text")
}

/// What must become of a message.
pub(crate) fn expected(message: &[u8]) -> Expected {
    frame(message).unwrap_or(Expected::Unreadable)
}

fn frame(message: &[u8]) -> Option<Expected> {
    let mut deserializer = serde_ipld_dagcbor::de::Deserializer::from_slice(message);
    let header = Ipld::deserialize(&mut deserializer).ok()?;
    let body = Ipld::deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    let len = message.len() - encode(&header).len();
    if !fits(&header, DEPTH_MAX) || !is_as_strict(&body, len) {
        return None;
    }
    let (Ipld::Map(header), Ipld::Map(body)) = (header, body) else {
        return None;
    };
    let Some(Ipld::Integer(op)) = header.get("op") else {
        return None;
    };
    let kind = text(&header, "t");
    match op {
        1 => event(kind?, &body),
        -1 => {
            let what = format!("error {} {:?}", text(&body, "error")?, text(&body, "message"));
            Some(plain(what, None, None))
        }
        _ => Some(other(kind.unwrap_or_default(), &body)),
    }
}

fn event(kind: &str, body: &Members) -> Option<Expected> {
    let did = text(body, "did").filter(|did| firehose_worker::decode::is_did(did));
    let time = text(body, "time").unwrap_or_default();
    let with = |what: &str, data: String| {
        Some(Expected::Frame {
            what: what.to_owned(),
            seq: Some(seq(body)?),
            time: Some(time.to_owned()),
            data,
            counts: None,
        })
    };
    match kind {
        "#commit" => commit(body, time),
        "#identity" => {
            let handle = optional_text(body, "handle")?.map_or("null".to_owned(), quoted);
            with("identity", format!(r#"{{"did":{},"handle":{handle}}}"#, quoted(did?)))
        }
        "#account" => {
            let Some(Ipld::Bool(active)) = body.get("active") else {
                return None;
            };
            let status = optional_text(body, "status")?.map(|status| format!(r#","status":{}"#, quoted(status)));
            let status = status.unwrap_or_default();
            with(
                "account",
                format!(r#"{{"did":{},"active":{active}{status}}}"#, quoted(did?)),
            )
        }
        "#sync" => with(&format!("sync of {}", did?), String::new()),
        "#info" => {
            let what = format!("info {} {:?}", text(body, "name")?, text(body, "message"));
            Some(plain(what, None, None))
        }
        kind => Some(other(kind, body)),
    }
}

fn other(kind: &str, body: &Members) -> Expected {
    plain(format!("other {kind}"), seq(body), text(body, "time"))
}

fn plain(what: String, seq: Option<u64>, time: Option<&str>) -> Expected {
    Expected::Frame {
        what,
        seq,
        time: time.map(str::to_owned),
        data: String::new(),
        counts: None,
    }
}

fn commit(body: &Members, time: &str) -> Option<Expected> {
    let repo = text(body, "repo").filter(|did| firehose_worker::decode::is_did(did))?;
    let (Some(Ipld::List(ops)), Some(Ipld::Bytes(car))) = (body.get("ops"), body.get("blocks")) else {
        return None;
    };
    let blocks = blocks(car);
    let mut counts = BTreeMap::new();
    let start = format!(r#"{{"repo":{},"ops":["#, quoted(repo));
    let mut data = start.clone();
    for op in ops {
        let mut floats = 0;
        match written_op(op, &blocks, &mut floats) {
            Ok((action, json)) if data.len() + json.len() < DATA_MAX => {
                data.push_str(if data.len() > start.len() { "," } else { "" });
                data.push_str(&json);
                *counts.entry(action).or_default() += 1;
                *counts.entry("floats").or_default() += floats;
            }
            Ok(_) => *counts.entry("too_large").or_default() += 1,
            Err(reason) => *counts.entry(reason).or_default() += 1,
        }
    }
    if let Some(Ipld::Link(cid)) = body.get("commit")
        && let Some(object) = blocks.get(&cid.to_bytes())
    {
        let object = match decode(object) {
            Some(Ipld::Map(object)) => Some(object),
            _ => None,
        };
        let is_equal =
            |object: Members| text(&object, "did") == Some(repo) && text(&object, "rev") == text(body, "rev");
        counts.insert("mismatched", u32::from(!object.is_some_and(is_equal)));
    }
    let order = [
        "create",
        "update",
        "delete",
        "floats",
        "mismatched",
        "no_cid",
        "missing_block",
        "hash_mismatch",
        "bad_record",
        "bad_path",
        "bad_action",
        "too_large",
    ];
    let counts = order
        .into_iter()
        .filter_map(|name| Some((name, *counts.get(name).filter(|n| **n > 0)?)));
    Some(Expected::Frame {
        what: format!("commit of {repo}"),
        seq: Some(seq(body)?),
        time: Some(time.to_owned()),
        data: if data == start { String::new() } else { data + "]}" },
        counts: Some(counts.collect()),
    })
}

fn written_op(
    op: &Ipld,
    blocks: &BTreeMap<Vec<u8>, &[u8]>,
    floats: &mut u32,
) -> Result<(&'static str, String), &'static str> {
    let none = Members::new();
    let op = if let Ipld::Map(op) = op { op } else { &none };
    let path = text(op, "path")
        .filter(|path| collection(path).is_some())
        .ok_or("bad_path")?;
    let action = ["create", "update", "delete"]
        .into_iter()
        .find(|action| text(op, "action") == Some(action));
    let action = action.ok_or("bad_action")?;
    if action == "delete" {
        return Ok((action, format!(r#"{{"action":"delete","path":{}}}"#, quoted(path))));
    }
    let Some(Ipld::Link(cid)) = op.get("cid") else {
        return Err("no_cid");
    };
    let is_known = cid.hash().code() == 0x12 && cid.hash().size() == 32 && [0x71, 0x55].contains(&cid.codec());
    if !is_known {
        return Err("hash_mismatch");
    }
    let block = *blocks.get(&cid.to_bytes()).ok_or("missing_block")?;
    if Sha256::digest(block).as_slice() != cid.hash().digest() {
        return Err("hash_mismatch");
    }
    let (record, n_floats) = json(&decode(block).ok_or("bad_record")?);
    *floats += n_floats;
    let json = format!(
        r#"{{"action":"{action}","path":{},"cid":"{cid}","record":{record}}}"#,
        quoted(path)
    );
    Ok((action, json))
}

/// The blocks of a CAR up to where its form breaks, by the bytes of their CIDs; of several with the same CID the first.
fn blocks(car: &[u8]) -> BTreeMap<Vec<u8>, &[u8]> {
    let mut blocks = BTreeMap::new();
    let Some((header, mut rest)) = section(car) else {
        return blocks;
    };
    let Some(Ipld::Map(header)) = decode(header) else {
        return blocks;
    };
    if header.get("version") != Some(&Ipld::Integer(1)) {
        return blocks;
    }
    while let Some((section, after)) = section(rest) {
        if let Some((cid, block)) = section.split_at_checked(36) {
            blocks.entry(cid.to_vec()).or_insert(block);
        }
        rest = after;
    }
    blocks
}

fn section(car: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = car;
    let len = unsigned_varint(&mut rest)?;
    rest.split_at_checked(usize::try_from(len).ok().filter(|len| *len > 0)?)
}

/// A number of at most 64 bits in its shortest form.
fn unsigned_varint(bytes: &mut &[u8]) -> Option<u64> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    let (digits, rest) = bytes.split_at(end + 1);
    *bytes = rest;
    let number = digits.iter().rev().try_fold(0_u128, |number, digit| {
        number.checked_mul(128).map(|number| number + u128::from(digit & 0x7f))
    })?;
    let is_shortest = digits.len() == 1 || digits[end] != 0;
    u64::try_from(number).ok().filter(|_| is_shortest)
}

fn text<'a>(members: &'a Members, name: &str) -> Option<&'a str> {
    match members.get(name) {
        Some(Ipld::String(text)) => Some(text),
        _ => None,
    }
}

fn optional_text<'a>(members: &'a Members, name: &str) -> Option<Option<&'a str>> {
    match members.get(name) {
        None | Some(Ipld::Null) => Some(None),
        Some(Ipld::String(text)) => Some(Some(text)),
        Some(_) => None,
    }
}

fn seq(body: &Members) -> Option<u64> {
    match body.get("seq") {
        Some(Ipld::Integer(seq)) => u64::try_from(*seq).ok().filter(|seq| (1..1 << 53).contains(seq)),
        _ => None,
    }
}

pub(crate) fn encode(value: &Ipld) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).expect("a value that DAG-CBOR can express")
}

pub(crate) fn cid(bytes: &[u8]) -> Cid {
    Cid::new_v1(0x71, Multihash::wrap(0x12, &Sha256::digest(bytes)).expect("32 bytes"))
}

/// All blocks of a frame.
pub(crate) fn records(frame: &[u8]) -> Vec<Vec<u8>> {
    let mut deserializer = serde_ipld_dagcbor::de::Deserializer::from_slice(frame);
    Ipld::deserialize(&mut deserializer).expect("a header");
    let body = Ipld::deserialize(&mut deserializer).expect("a body");
    match body.get("blocks") {
        Ok(Some(Ipld::Bytes(car))) => blocks(car).into_values().map(<[u8]>::to_vec).collect(),
        _ => Vec::new(),
    }
}

/// Records with every kind of item.
pub(crate) fn made_up_records() -> Vec<Vec<u8>> {
    let link = Ipld::Link(cid(b"a"));
    let raw = Ipld::Link(Cid::new_v1(0x55, *cid(b"b").hash()));
    let identity = Ipld::Link(Cid::new_v1(0x71, Multihash::wrap(0, b"abc").expect("3 bytes")));
    let wide = [
        0,
        23,
        24,
        255,
        256,
        65_535,
        65_536,
        u64::from(u32::MAX),
        1 << 32,
        u64::MAX,
    ];
    let nested = (0..60).fold(ipld!("deep"), |inside, _| {
        ipld!({"a": [inside]}).get("a").expect("a map").expect("a").clone()
    });
    [
        ipld!({"a": null, "b": true, "c": false, "d": [], "e": {}, "f": "", "g": Ipld::Bytes(vec![])}),
        ipld!({"link": link, "raw": raw, "identity": identity}),
        Ipld::List(wide.into_iter().map(|n| Ipld::Integer(n.into())).collect()),
        Ipld::List(wide.into_iter().map(|n| Ipld::Integer(-1 - i128::from(n))).collect()),
        Ipld::List([0.1, 1.0, -2.5e300, 5e-324, f64::MAX].map(Ipld::Float).to_vec()),
        ipld!({"text": "\u{0}\u{1f}\"\\/é\u{7f}😀\u{2028}", "ключ": "значение", "\n": "\t"}),
        ipld!({"a": "x".repeat(23), "b": "x".repeat(24), "c": "x".repeat(256), "d": Ipld::Bytes(vec![7; 70_000])}),
        ipld!({"aa": {"b": {"c": [1, [2, [3, {"d": [{}, [], "e"]}]]]}}, "z": 1, "zz": 2, "zzz": 3}),
        nested,
    ]
    .iter()
    .map(encode)
    .collect()
}

pub(crate) fn car_header() -> Vec<u8> {
    let header = encode(&ipld!({"roots": [Ipld::Link(cid(b"root"))], "version": 1}));
    [vec![header.len() as u8], header].concat()
}

/// A commit whose only op creates the record of this block, under this CID.
pub(crate) fn commit_of(block: &[u8], cid: Cid) -> Vec<u8> {
    let op = ipld!({"action": "create", "path": "app.bsky.feed.post/a", "cid": Ipld::Link(cid)});
    let mut len = 36 + block.len();
    let mut car = car_header();
    while len >= 0x80 {
        car.push(len as u8 | 0x80);
        len >>= 7;
    }
    car.push(len as u8);
    car.extend(cid.to_bytes());
    car.extend(block);
    commit_message(Ipld::List(vec![op]), car)
}

pub(crate) fn commit_with_car(car: &[u8]) -> Vec<u8> {
    let op = ipld!({"action": "delete", "path": "app.bsky.feed.post/a", "cid": null});
    commit_message(Ipld::List(vec![op]), car.to_vec())
}

pub(crate) fn commit_message(ops: Ipld, car: Vec<u8>) -> Vec<u8> {
    let body = ipld!({"ops": ops, "seq": 7, "repo": DID, "time": "", "blocks": Ipld::Bytes(car)});
    [encode(&ipld!({"op": 1, "t": "#commit"})), encode(&body)].concat()
}

/// An event with one member more, whose value is encoded already.
pub(crate) fn event_with(kind: &str, name: &str, value: &[u8]) -> Vec<u8> {
    let header = encode(&ipld!({"op": 1, "t": kind}));
    let others = [encode(&ipld!("did")), encode(&ipld!(DID))].concat();
    [header, vec![0xa2], others, encode(&ipld!(name)), value.to_vec()].concat()
}
