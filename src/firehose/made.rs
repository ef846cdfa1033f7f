//! Frames that the tests of this folder make, encoded by serde_ipld_dagcbor.

use std::collections::BTreeMap;

use ipld_core::cid::Cid;
use ipld_core::cid::multihash::Multihash;
use ipld_core::ipld;
use ipld_core::ipld::Ipld;
use sha2::{Digest, Sha256};

pub(super) const DID: &str = "did:plc:vyhpiknzypl5f4udzbjtl5nd";
pub(super) const REV: &str = "3n3f4z3skds2j";
pub(super) const TIME: &str = "2026-11-28T16:33:55.339Z";

pub(super) type Members = BTreeMap<String, Ipld>;

/// A block, and the CID by which a CAR names it.
pub(super) type Block = (Cid, Vec<u8>);

pub(super) fn encode(value: &Ipld) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).unwrap()
}

pub(super) fn members(map: Ipld) -> Members {
    match map {
        Ipld::Map(members) => members,
        other => panic!("{other:?} is not a map"),
    }
}

pub(super) fn cid_of(bytes: &[u8]) -> Cid {
    Cid::new_v1(0x71, Multihash::wrap(0x12, &Sha256::digest(bytes)).unwrap())
}

pub(super) fn block(value: &Ipld) -> Block {
    let bytes = encode(value);
    (cid_of(&bytes), bytes)
}

/// A message of two items.
pub(super) fn message(header: Ipld, body: Members) -> Vec<u8> {
    [encode(&header), encode(&Ipld::Map(body))].concat()
}

/// An event of a type, with the members that every event of a repo has.
pub(super) fn event(kind: &str, body: Ipld) -> Vec<u8> {
    let mut body = members(body);
    for (name, value) in members(ipld!({"seq": 7, "did": DID, "time": TIME})) {
        body.entry(name).or_insert(value);
    }
    message(ipld!({"op": 1, "t": kind}), body)
}

pub(super) fn commit_object() -> Block {
    block(&ipld!({"did": DID, "rev": REV, "sig": Ipld::Bytes(vec![7; 64]), "prev": null, "version": 3}))
}

pub(super) fn section(parts: &[&[u8]]) -> Vec<u8> {
    let mut len = parts.concat().len();
    let mut section = Vec::new();
    while len >= 0x80 {
        section.push(len as u8 | 0x80);
        len >>= 7;
    }
    section.push(len as u8);
    section.extend(parts.concat());
    section
}

/// A CAR of the commit object and these blocks.
pub(super) fn car(blocks: &[Block]) -> Vec<u8> {
    let object = commit_object();
    let mut car = section(&[&encode(&ipld!({"roots": [Ipld::Link(object.0)], "version": 1}))]);
    for (cid, bytes) in [&object].into_iter().chain(blocks) {
        car.extend(section(&[&cid.to_bytes(), bytes]));
    }
    car
}

/// The body of a commit with these ops and this CAR.
pub(super) fn commit(ops: Vec<Ipld>, car: Vec<u8>) -> Members {
    members(ipld!({
        "ops": ops, "rev": REV, "seq": 7, "repo": DID, "time": TIME, "blobs": [], "since": null,
        "blocks": Ipld::Bytes(car), "commit": Ipld::Link(commit_object().0), "rebase": false, "tooBig": false,
    }))
}

pub(super) fn commit_message(body: Members) -> Vec<u8> {
    message(ipld!({"op": 1, "t": "#commit"}), body)
}

pub(super) fn create(path: &str, record: &Block) -> Ipld {
    ipld!({"action": "create", "path": path, "cid": Ipld::Link(record.0)})
}
