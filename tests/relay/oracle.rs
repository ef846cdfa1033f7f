//! The entry that a consumer must make of a frame, worked out with serde_ipld_dagcbor and a CAR reader of a few lines.
//!
//! For recorded frames, whose origin nobody wrote down. Takes well-formed frames only.

use std::collections::BTreeMap;
use std::io::Cursor;

use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;
use serde_json::{Value, json};

use super::encode::{self, cid};
use super::message::end_of_header;

/// Type and data of the entry; `None` for a frame that makes no entry.
pub(crate) fn entry(frame: &[u8]) -> Option<(String, Value)> {
    let (header, body) = frame.split_at(end_of_header(frame).expect("a header"));
    let header: Ipld = serde_ipld_dagcbor::from_slice(header).expect("a header");
    let body: Ipld = serde_ipld_dagcbor::from_slice(body).expect("a body");
    let Ok(Some(Ipld::String(kind))) = header.get("t") else {
        return None;
    };
    match kind.as_str() {
        "#commit" => commit(&body).map(|data| ("commit".to_owned(), data)),
        "#identity" => {
            let data = json!({"did": member(&body, "did"), "handle": member(&body, "handle")});
            Some(("identity".to_owned(), data))
        }
        "#account" => {
            let mut data = json!({"did": member(&body, "did"), "active": member(&body, "active")});
            if let Value::String(status) = member(&body, "status") {
                data["status"] = status.into();
            }
            Some(("account".to_owned(), data))
        }
        _ => None,
    }
}

fn commit(body: &Ipld) -> Option<Value> {
    let Ok(Some(Ipld::List(ops))) = body.get("ops") else {
        panic!("no ops");
    };
    let Ok(Some(Ipld::Bytes(car))) = body.get("blocks") else {
        panic!("no blocks");
    };
    let blocks = blocks(car);
    let ops: Vec<Value> = ops.iter().map(|of| op(of, &blocks)).collect();
    (!ops.is_empty()).then(|| json!({"repo": member(body, "repo"), "ops": ops}))
}

fn op(of: &Ipld, blocks: &BTreeMap<Cid, &[u8]>) -> Value {
    let mut op = json!({"action": member(of, "action"), "path": member(of, "path")});
    if let Ok(Some(Ipld::Link(link))) = of.get("cid") {
        let block = blocks[link];
        assert_eq!(cid(link.codec(), block), *link, "the block's hash");
        let record: Ipld = serde_ipld_dagcbor::from_slice(block).expect("a record");
        op["cid"] = link.to_string().into();
        op["record"] = encode::json(&record);
    }
    op
}

fn member(map: &Ipld, name: &str) -> Value {
    map.get(name).expect("a map").map_or(Value::Null, encode::json)
}

fn blocks(car: &[u8]) -> BTreeMap<Cid, &[u8]> {
    let mut blocks = BTreeMap::new();
    let (header, mut rest) = section(car);
    serde_ipld_dagcbor::from_slice::<Ipld>(header).expect("the CAR's header");
    while !rest.is_empty() {
        let (block, after) = section(rest);
        let mut reader = Cursor::new(block);
        let cid = Cid::read_bytes(&mut reader).expect("a block's CID");
        blocks.insert(cid, &block[reader.position() as usize..]);
        rest = after;
    }
    blocks
}

/// A section of a CAR, and what follows.
fn section(car: &[u8]) -> (&[u8], &[u8]) {
    let n_digits = car.iter().position(|byte| byte & 0x80 == 0).expect("a varint") + 1;
    let (digits, rest) = car.split_at(n_digits);
    let digit = |length, byte: &u8| length << 7 | usize::from(byte & 0x7f);
    rest.split_at(digits.iter().rev().fold(0, digit))
}
