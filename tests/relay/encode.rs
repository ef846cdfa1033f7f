//! Lexicon JSON as DAG-CBOR, the CID of a block, and blocks as a CAR.
//!
//! The encoder is serde_ipld_dagcbor, an implementation that shares no code with the consumer's reader.

use data_encoding::{BASE64, BASE64_NOPAD};
use ipld_core::cid::Cid;
use ipld_core::cid::multihash::Multihash;
use ipld_core::ipld::Ipld;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(crate) const DAG_CBOR: u64 = 0x71;
pub(crate) const RAW: u64 = 0x55;
const SHA2_256: u64 = 0x12;

/// A block of a CAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) cid: Cid,
    pub(crate) bytes: Vec<u8>,
}

impl Block {
    /// The block of a record, with its true CID.
    pub(crate) fn of(record: &Ipld) -> Self {
        let bytes = dag_cbor(record);
        Self {
            cid: cid(DAG_CBOR, &bytes),
            bytes,
        }
    }
}

/// The value that lexicon JSON stands for: `{"$link"}` is a link, `{"$bytes"}` a byte string.
pub(crate) fn ipld(json: &Value) -> Ipld {
    match json {
        Value::Null => Ipld::Null,
        Value::Bool(value) => Ipld::Bool(*value),
        Value::Number(number) => match number.to_string().parse() {
            Ok(integer) => Ipld::Integer(integer),
            Err(_) => Ipld::Float(number.as_f64().expect("a number that fits a float")),
        },
        Value::String(text) => Ipld::String(text.clone()),
        Value::Array(values) => Ipld::List(values.iter().map(ipld).collect()),
        Value::Object(members) => match (members.len(), members.iter().next()) {
            (1, Some((key, Value::String(text)))) if key == "$link" => Ipld::Link(parse_cid(text)),
            (1, Some((key, Value::String(text)))) if key == "$bytes" => Ipld::Bytes(parse_base64(text)),
            _ => Ipld::Map(members.iter().map(|(key, value)| (key.clone(), ipld(value))).collect()),
        },
    }
}

/// The lexicon JSON that stands for a value: the inverse of `ipld`.
pub(crate) fn json(value: &Ipld) -> Value {
    match value {
        Ipld::Null => Value::Null,
        Ipld::Bool(value) => Value::Bool(*value),
        Ipld::Integer(number) => serde_json::from_str(&number.to_string()).expect("digits"),
        Ipld::Float(number) => Value::from(*number),
        Ipld::String(text) => Value::String(text.clone()),
        Ipld::Bytes(bytes) => serde_json::json!({"$bytes": BASE64_NOPAD.encode(bytes)}),
        Ipld::List(values) => Value::Array(values.iter().map(json).collect()),
        Ipld::Map(members) => Value::Object(members.iter().map(|(key, value)| (key.clone(), json(value))).collect()),
        Ipld::Link(cid) => serde_json::json!({"$link": cid.to_string()}),
    }
}

pub(crate) fn dag_cbor(value: &Ipld) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).expect("a value that DAG-CBOR can express")
}

/// The CID of these bytes.
pub(crate) fn cid(codec: u64, bytes: &[u8]) -> Cid {
    let digest = Multihash::wrap(SHA2_256, &Sha256::digest(bytes)).expect("32 bytes");
    Cid::new_v1(codec, digest)
}

pub(crate) fn parse_cid(text: &str) -> Cid {
    text.parse()
        .unwrap_or_else(|error| panic!("{text} is not a CID: {error}"))
}

/// Version 1: a header that names the root, and then the blocks in this order.
pub(crate) fn car(root: Cid, blocks: &[Block]) -> Vec<u8> {
    let header = dag_cbor(&ipld_core::ipld!({"roots": [Ipld::Link(root)], "version": 1}));
    let mut car = Vec::new();
    push_varint(&mut car, header.len());
    car.extend(header);
    for block in blocks {
        let cid = block.cid.to_bytes();
        push_varint(&mut car, cid.len() + block.bytes.len());
        car.extend(cid);
        car.extend(&block.bytes);
    }
    car
}

/// Unsigned LEB128.
fn push_varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// With or without padding.
fn parse_base64(text: &str) -> Vec<u8> {
    let bytes = BASE64_NOPAD
        .decode(text.as_bytes())
        .or_else(|_| BASE64.decode(text.as_bytes()));
    bytes.unwrap_or_else(|error| panic!("{text} is not base64: {error}"))
}
