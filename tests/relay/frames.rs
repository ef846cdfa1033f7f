//! Events as a relay sends them, and the entries that a consumer must make of them.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use ipld_core::cid::Cid;
use ipld_core::ipld;
use ipld_core::ipld::Ipld;
use serde_json::{Value, json};

use super::encode::{Block, car, dag_cbor};
use super::message::Message;
use super::oracle;
use crate::generator::Event;

/// Any revision will do: the consumer passes none on.
const REV: &str = "3l3qo2vuowo2b";

/// A frame in parts, which a test may change before they are encoded.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) header: BTreeMap<String, Ipld>,
    /// All members but `blocks`, if there are blocks.
    pub(crate) body: BTreeMap<String, Ipld>,
    pub(crate) blocks: Vec<Block>,
    /// The root that the CAR names: the commit object.
    root: Option<Cid>,
    /// Type and data of the entry that a consumer makes of it.
    pub(crate) entry: Option<(String, Value)>,
}

impl Frame {
    /// The frame of an event as `tests/generator` makes it. The CIDs of its entry are those of the records.
    pub(crate) fn of(event: &Event) -> Self {
        let data: Value = serde_json::from_str(&event.data).expect("the event's JSON");
        match event.kind.as_str() {
            "commit" => Self::commit(text(&data["repo"]), data["ops"].as_array().expect("ops")),
            "identity" => Self::identity(text(&data["did"]), data["handle"].as_str()),
            "account" => Self::account(text(&data["did"]), data["active"] == true, data["status"].as_str()),
            other => panic!("a relay sends no {other}"),
        }
    }

    /// A commit of ops `{action, path, record}`, a delete without record.
    pub(crate) fn commit(repo: &str, ops: &[Value]) -> Self {
        let mut blocks = Vec::new();
        let (mut sent, mut written) = (Vec::new(), Vec::new());
        for op in ops {
            let (action, path) = (text(&op["action"]), text(&op["path"]));
            let Some(record) = op.get("record") else {
                sent.push(ipld!({"action": action, "path": path, "cid": null}));
                written.push(json!({"action": action, "path": path}));
                continue;
            };
            let block = Block::of(&super::encode::ipld(record));
            sent.push(ipld!({"action": action, "path": path, "cid": Ipld::Link(block.cid)}));
            written.push(json!({"action": action, "path": path, "cid": block.cid.to_string(), "record": record}));
            blocks.push(block);
        }
        let root = commit_object(repo);
        let root_cid = root.cid;
        blocks.insert(0, root);
        let body = members(ipld!({
            "ops": sent,
            "rev": REV,
            "repo": repo,
            "blobs": [],
            "since": null,
            "commit": Ipld::Link(root_cid),
            "rebase": false,
            "tooBig": false,
        }));
        let data = json!({"repo": repo, "ops": written});
        Self {
            blocks,
            root: Some(root_cid),
            // A commit without ops makes no entry.
            entry: (!ops.is_empty()).then(|| ("commit".to_owned(), data)),
            ..Self::new("#commit", body)
        }
    }

    pub(crate) fn identity(did: &str, handle: Option<&str>) -> Self {
        let mut body = members(ipld!({"did": did}));
        if let Some(handle) = handle {
            body.insert("handle".to_owned(), Ipld::String(handle.to_owned()));
        }
        let data = json!({"did": did, "handle": handle});
        Self {
            entry: Some(("identity".to_owned(), data)),
            ..Self::new("#identity", body)
        }
    }

    pub(crate) fn account(did: &str, active: bool, status: Option<&str>) -> Self {
        let mut body = members(ipld!({"did": did, "active": active}));
        let mut data = json!({"did": did, "active": active});
        if let Some(status) = status {
            body.insert("status".to_owned(), Ipld::String(status.to_owned()));
            data["status"] = status.into();
        }
        Self {
            entry: Some(("account".to_owned(), data)),
            ..Self::new("#account", body)
        }
    }

    /// The repository's state was replaced.
    pub(crate) fn sync(did: &str) -> Self {
        let root = commit_object(did);
        Self {
            root: Some(root.cid),
            blocks: vec![root],
            ..Self::new("#sync", members(ipld!({"did": did, "rev": REV})))
        }
    }

    /// A message of another type, with these members beside its seq and time.
    pub(crate) fn other(kind: &str, body: Ipld) -> Self {
        Self::new(kind, members(body))
    }

    fn new(kind: &str, mut body: BTreeMap<String, Ipld>) -> Self {
        // Filled in when the frame is sent.
        body.insert("seq".to_owned(), Ipld::Integer(0));
        body.insert("time".to_owned(), Ipld::String(String::new()));
        Self {
            header: members(ipld!({"op": 1, "t": kind})),
            body,
            blocks: Vec::new(),
            root: None,
            entry: None,
        }
    }

    pub(crate) fn message(&self) -> Message {
        let mut body = self.body.clone();
        if let Some(root) = self.root {
            body.insert("blocks".to_owned(), Ipld::Bytes(car(root, &self.blocks)));
        }
        let mut bytes = dag_cbor(&Ipld::Map(self.header.clone()));
        bytes.extend(dag_cbor(&Ipld::Map(body)));
        Message::new(bytes, self.entry.clone())
    }
}

/// `#info`, which has no seq.
pub(crate) fn info(name: &str) -> Vec<u8> {
    let mut frame = dag_cbor(&ipld!({"op": 1, "t": "#info"}));
    frame.extend(dag_cbor(
        &ipld!({"name": name, "message": "Requested cursor exceeded limit."}),
    ));
    frame
}

/// An error, whose header has no `t`.
pub(crate) fn error(error: &str, message: &str) -> Vec<u8> {
    let mut frame = dag_cbor(&ipld!({"op": -1}));
    frame.extend(dag_cbor(&ipld!({"error": error, "message": message})));
    frame
}

/// The frames of a file: for each a u32, little endian, its length, and its bytes; `.gz` is unpacked. Frames without a
/// seq are left out.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Message>> {
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        MultiGzDecoder::new(file).read_to_end(&mut bytes)?;
    } else {
        io::BufReader::new(file).read_to_end(&mut bytes)?;
    }
    let mut messages = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((length, after)) = rest.split_first_chunk() {
        let frame = after.split_at_checked(u32::from_le_bytes(*length) as usize);
        let (frame, after) = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
        rest = after;
        let message = Message::new(frame.to_vec(), oracle::entry(frame));
        messages.extend(message.has_seq().then_some(message));
    }
    Ok(messages)
}

/// What a repository signs; no consumer of ours verifies it.
fn commit_object(did: &str) -> Block {
    let data = Block::of(&ipld!({"e": [], "l": null}));
    Block::of(&ipld!({
        "did": did,
        "rev": REV,
        "sig": Ipld::Bytes(vec![7; 64]),
        "data": Ipld::Link(data.cid),
        "prev": null,
        "version": 3,
    }))
}

fn members(map: Ipld) -> BTreeMap<String, Ipld> {
    match map {
        Ipld::Map(members) => members,
        other => panic!("{other:?} has no members"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}
