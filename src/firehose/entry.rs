//! Writes the data of the entry that an event becomes.
//!
//! Owns the form of the data, and what becomes of each op of a commit: it is written, filtered, or set aside with a
//! reason. A bad op never takes its neighbours along.

use super::cbor::{Item, Keys, Reader};
use super::commit::Blocks;
use super::filter::Filter;
use super::frame::{Commit, Stamp};
use super::path::collection;
use super::reason::Reason;
use super::record::{self, Refused, push_string};
use crate::decode::cid;

/// The maximum length of an entry's data in bytes. A frame has 5 MB at most, and JSON is larger than DAG-CBOR by a third
/// at most, unless text consists of characters that have to be escaped.
pub const DATA_MAX: usize = 8 << 20;

/// The maximum number of set-aside ops that are listed for one commit: the set-aside stream keeps about as many.
const LISTED_MAX: usize = 1000;

/// The maximum length of a path that is listed as set aside, in characters. Valid ones are shorter.
const LISTED_PATH_MAX: usize = 1024;

/// Writes entries one after the other.
#[derive(Default)]
pub struct Writer {
    blocks: Blocks,
}

/// What became of a commit's ops.
#[derive(Debug, Default)]
pub struct Written<'a> {
    pub creates: u32,
    pub updates: u32,
    pub deletes: u32,
    pub filtered: u32,
    /// Floats in records.
    pub floats: u32,
    /// The event's repo or rev is not that of the commit object.
    pub mismatched: bool,
    /// The collection and the action of the first op that was written.
    pub first: Option<(&'a str, &'static str)>,
    /// The ops that were set aside, in their order; of very many, the first.
    pub set_aside: Vec<OpSetAside>,
    /// How many ops were set aside, by the index of their reason in `Reason::ALL`.
    pub n_set_aside: [u32; Reason::ALL.len()],
}

/// An op that is not part of its entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpSetAside {
    pub reason: Reason,
    /// The op's path, cut if it is very long, and empty if there is none.
    pub path: String,
}

impl Written<'_> {
    /// The number of ops that were written. If there are none, so is no entry.
    pub fn ops(&self) -> u32 {
        self.creates + self.updates + self.deletes
    }
}

impl Writer {
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Appends the data of a commit, unless all its ops are filtered or set aside.
    pub fn commit<'a>(&mut self, commit: &Commit<'a>, filter: &Filter, data: &mut Vec<u8>) -> Written<'a> {
        let mut written = Written::default();
        let mut ops = Reader::new(commit.ops);
        let Ok(Item::Array(n_ops)) = ops.item() else {
            return written; // `frame` has checked that it is an array.
        };
        if !filter.admits_did(commit.stamp.did) {
            written.filtered = u32::try_from(n_ops).unwrap_or(u32::MAX);
            return written;
        }
        self.blocks.read(commit.blocks, n_ops);
        written.mismatched = commit.differs_from_its_object(&self.blocks);

        let start = data.len();
        data.extend_from_slice(b"{\"repo\":");
        push_string(commit.stamp.did, data);
        data.extend_from_slice(b",\"ops\":[");
        let mut op_writer = OpWriter {
            car: commit.blocks,
            blocks: &self.blocks,
            filter,
            len_max: start + DATA_MAX,
            data,
            written,
        };
        for _ in 0..n_ops {
            op_writer.op(&mut ops);
        }
        let written = op_writer.written;
        match written.ops() {
            0 => data.truncate(start),
            _ => data.extend_from_slice(b"]}"),
        }
        written
    }

    /// Appends the data of an identity event.
    pub fn identity(&mut self, stamp: &Stamp<'_>, handle: Option<&str>, data: &mut Vec<u8>) {
        data.extend_from_slice(b"{\"did\":");
        push_string(stamp.did, data);
        data.extend_from_slice(b",\"handle\":");
        match handle {
            Some(handle) => push_string(handle, data),
            None => data.extend_from_slice(b"null"),
        }
        data.push(b'}');
    }

    /// Appends the data of an account event.
    pub fn account(&mut self, stamp: &Stamp<'_>, active: bool, status: Option<&str>, data: &mut Vec<u8>) {
        data.extend_from_slice(b"{\"did\":");
        push_string(stamp.did, data);
        data.extend_from_slice(match active {
            true => b",\"active\":true".as_slice(),
            false => b",\"active\":false",
        });
        if let Some(status) = status {
            data.extend_from_slice(b",\"status\":");
            push_string(status, data);
        }
        data.push(b'}');
    }
}

/// The members of an op, of whatever type they are.
#[derive(Default)]
struct Op<'a> {
    action: Option<Item<'a>>,
    path: Option<Item<'a>>,
    cid: Option<Item<'a>>,
}

impl<'a> Op<'a> {
    /// Reads an op from an array that is valid. An op that is not a map has no members.
    fn read(ops: &mut Reader<'a>) -> Op<'a> {
        let mut op = Op::default();
        let mut reader = Reader::new(ops.span().unwrap_or_default());
        let mut keys = Keys::default();
        for _ in 0..reader.map().unwrap_or_default() {
            let (Ok(key), Ok(item)) = (reader.key(&mut keys), reader.whole_item()) else {
                break;
            };
            match key {
                "action" => op.action = Some(item),
                "path" => op.path = Some(item),
                "cid" => op.cid = Some(item),
                _ => {}
            }
        }
        op
    }

    fn path(&self) -> Option<&'a str> {
        match self.path {
            Some(Item::Text(path)) => Some(path),
            _ => None,
        }
    }
}

/// What becomes of one op.
enum Outcome<'a> {
    Written { collection: &'a str, action: &'static str },
    Filtered,
}

/// Writes the ops of one commit.
struct OpWriter<'a, 'w> {
    car: &'a [u8],
    blocks: &'w Blocks,
    filter: &'w Filter,
    /// The length to which `data` may grow.
    len_max: usize,
    data: &'w mut Vec<u8>,
    written: Written<'a>,
}

impl<'a> OpWriter<'a, '_> {
    fn op(&mut self, ops: &mut Reader<'a>) {
        let op = Op::read(ops);
        let mark = self.data.len();
        match self.write(&op) {
            Ok(Outcome::Filtered) => self.written.filtered += 1,
            Ok(Outcome::Written { collection, action }) => {
                match action {
                    "create" => self.written.creates += 1,
                    "update" => self.written.updates += 1,
                    _ => self.written.deletes += 1,
                }
                self.written.first.get_or_insert((collection, action));
            }
            Err(reason) => {
                self.data.truncate(mark);
                if reason == Reason::TooLarge {
                    // The memory for what was too large is not kept.
                    self.data.shrink_to(self.len_max.min(2 * mark));
                }
                self.written.set_aside(reason, op.path().unwrap_or_default());
            }
        }
    }

    fn write(&mut self, op: &Op<'a>) -> Result<Outcome<'a>, Reason> {
        let path = op.path().ok_or(Reason::BadPath)?;
        let collection = collection(path).ok_or(Reason::BadPath)?;
        if !self.filter.admits_collection(collection) {
            return Ok(Outcome::Filtered);
        }
        let action = match op.action {
            Some(Item::Text("create")) => "create",
            Some(Item::Text("update")) => "update",
            Some(Item::Text("delete")) => "delete",
            _ => return Err(Reason::BadAction),
        };
        if self.written.ops() > 0 {
            self.data.push(b',');
        }
        self.data.extend_from_slice(b"{\"action\":\"");
        self.data.extend_from_slice(action.as_bytes());
        self.data.extend_from_slice(b"\",\"path\":\"");
        // A valid path has no character to escape.
        self.data.extend_from_slice(path.as_bytes());
        self.data.push(b'"');
        if action != "delete" {
            self.record(op.cid)?;
        }
        self.data.push(b'}');
        if self.data.len() > self.len_max {
            return Err(Reason::TooLarge);
        }
        Ok(Outcome::Written { collection, action })
    }

    fn record(&mut self, cid: Option<Item<'a>>) -> Result<(), Reason> {
        let Some(Item::Link(cid)) = cid else {
            return Err(Reason::NoCid);
        };
        let block = self.blocks.checked(self.car, cid)?;
        self.data.extend_from_slice(b",\"cid\":\"");
        cid::push_text(cid, self.data);
        self.data.extend_from_slice(b"\",\"record\":");
        self.written.floats += record::write(block, self.data, self.len_max).map_err(|refused| match refused {
            Refused::Invalid(_) => Reason::BadRecord,
            Refused::TooLarge => Reason::TooLarge,
        })?;
        Ok(())
    }
}

impl Written<'_> {
    fn set_aside(&mut self, reason: Reason, path: &str) {
        self.n_set_aside[reason as usize] += 1;
        if self.set_aside.len() < LISTED_MAX {
            self.set_aside.push(OpSetAside {
                reason,
                path: path.chars().take(LISTED_PATH_MAX).collect(),
            });
        }
    }
}
