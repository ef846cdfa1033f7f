//! Redis's answers → entries.
//!
//! Owns the parsing of answers to XREADGROUP and XAUTOCLAIM. Pure.

use redis::Value;

use crate::entry::{Entry, EntryId};

/// A delivered entry.
pub enum Delivered {
    Entry(Entry),
    /// Pending, but no longer in the stream.
    Trimmed(EntryId),
    /// The same, and Redis has removed it from the pending entries list on finding that.
    Dropped(EntryId),
}

impl Delivered {
    pub fn id(&self) -> EntryId {
        match self {
            Delivered::Entry(entry) => entry.id,
            Delivered::Trimmed(id) | Delivered::Dropped(id) => *id,
        }
    }

    /// The entry's share of the byte limit.
    pub fn weight(&self) -> usize {
        match self {
            Delivered::Entry(entry) => entry.weight(),
            Delivered::Trimmed(_) | Delivered::Dropped(_) => Entry::OVERHEAD,
        }
    }
}

/// The entries in XREADGROUP's answer for one stream.
pub fn entries_of_stream(answer: Value) -> Vec<Delivered> {
    let Value::Array(streams) = answer else {
        return Vec::new();
    };
    match streams.into_iter().next() {
        Some(Value::Array(mut stream)) => match stream.pop() {
            Some(Value::Array(entries)) => entries.into_iter().filter_map(entry).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn entry(answer: Value) -> Option<Delivered> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let mut parts = parts.into_iter();
    let id = EntryId::parse(&bytes(parts.next()?)?)?;
    let Some(Value::Array(fields)) = parts.next() else {
        return Some(Delivered::Trimmed(id));
    };
    let mut entry = Entry {
        id,
        kind: None,
        data: None,
        seq: None,
        deliveries: 1,
    };
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match bytes(name).as_deref() {
            Some(b"type") => entry.kind = bytes(value).map(Vec::into_boxed_slice),
            Some(b"data") => entry.data = bytes(value).map(Vec::into_boxed_slice),
            Some(b"seq") => entry.seq = bytes(value).map(Vec::into_boxed_slice),
            _ => {}
        }
    }
    Some(Delivered::Entry(entry))
}

/// The IDs in a part of XAUTOCLAIM's answer. Redis 6.2 has no part for trimmed entries.
pub fn ids(answer: Option<Value>) -> Vec<EntryId> {
    match answer {
        Some(Value::Array(ids)) => ids.into_iter().filter_map(|id| EntryId::parse(&bytes(id)?)).collect(),
        _ => Vec::new(),
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}
