//! Reads one message of a relay: two items of DAG-CBOR, a header and a body.
//!
//! Owns which members an event needs and of which type. Members that nothing reads may have any type or be absent,
//! since hosts differ in the deprecated ones; the encoding of the whole message must be valid. Ops are checked one by
//! one later, see `entry`.

use super::cbor::{Fault, Item, Keys, Reader};
use crate::decode::is_did;

/// The largest sequence number, which every reader of JSON can represent.
const SEQ_MAX: u64 = (1 << 53) - 1;

/// What a message of the relay is.
#[derive(Debug)]
pub enum Frame<'a> {
    Commit(Commit<'a>),
    /// An absent handle means nothing: not that the repo has none.
    Identity {
        stamp: Stamp<'a>,
        handle: Option<&'a str>,
    },
    Account {
        stamp: Stamp<'a>,
        active: bool,
        status: Option<&'a str>,
    },
    Sync {
        stamp: Stamp<'a>,
    },
    Info {
        name: &'a str,
        message: Option<&'a str>,
    },
    /// A type or an op that makes no entry: a legacy type (`#handle`, `#migrate`, `#tombstone`), or an unknown one.
    Other {
        kind: &'a str,
        seq: Option<u64>,
        time: Option<&'a str>,
    },
    /// The relay refuses the request or ends the stream.
    Error {
        error: &'a str,
        message: Option<&'a str>,
    },
}

/// What every event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp<'a> {
    pub seq: u64,
    pub did: &'a str,
    /// The time at which the event's host made it, as it was sent. Empty if it was not.
    pub time: &'a str,
}

/// A commit of a repo.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    pub stamp: Stamp<'a>,
    pub(super) rev: Option<&'a str>,
    /// The CID of the commit object.
    pub(super) cid: Option<&'a [u8]>,
    /// The encoded array of ops, which is valid DAG-CBOR.
    pub(super) ops: &'a [u8],
    /// The CAR.
    pub(super) blocks: &'a [u8],
}

/// A message that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable<'a> {
    pub reason: &'static str,
    /// What can be found of the event in spite of the fault. Nothing vouches for it.
    pub seq: Option<u64>,
    pub did: Option<&'a str>,
}

/// Reads one message.
pub fn read(message: &[u8]) -> Result<Frame<'_>, Unreadable<'_>> {
    frame(message).map_err(|reason| {
        let (seq, did) = find_stamp(message);
        Unreadable { reason, seq, did }
    })
}

impl<'a> Frame<'a> {
    pub fn seq(&self) -> Option<u64> {
        match self {
            Frame::Other { seq, .. } => *seq,
            _ => self.stamp().map(|stamp| stamp.seq),
        }
    }

    pub fn time(&self) -> Option<&'a str> {
        match self {
            Frame::Other { time, .. } => *time,
            _ => self.stamp().map(|stamp| stamp.time),
        }
    }

    fn stamp(&self) -> Option<&Stamp<'a>> {
        match self {
            Frame::Commit(commit) => Some(&commit.stamp),
            Frame::Identity { stamp, .. } | Frame::Account { stamp, .. } | Frame::Sync { stamp } => Some(stamp),
            Frame::Info { .. } | Frame::Other { .. } | Frame::Error { .. } => None,
        }
    }
}

fn frame(message: &[u8]) -> Result<Frame<'_>, &'static str> {
    let mut reader = Reader::new(message);
    let header = Header::read(&mut reader).map_err(Fault::as_str)?;
    let body = Body::read(&mut reader).map_err(Fault::as_str)?;
    reader.end().map_err(Fault::as_str)?;
    match header {
        Header {
            op: Some(Item::Unsigned(1)),
            kind: Some(Item::Text(kind)),
        } => body.event(kind),
        Header {
            op: Some(Item::Unsigned(1)),
            ..
        } => Err("the header has no type"),
        // The number −1. The type is absent.
        Header {
            op: Some(Item::Negative(0)),
            ..
        } => Ok(Frame::Error {
            error: body.error.text("error is not a text")?,
            message: body.message.text_if_any(),
        }),
        Header {
            op: Some(Item::Unsigned(_) | Item::Negative(_)),
            kind,
        } => Ok(body.other(kind.text_if_any().unwrap_or_default())),
        _ => Err("the header has no op"),
    }
}

/// The members of a header that are read.
#[derive(Default)]
struct Header<'a> {
    op: Option<Item<'a>>,
    kind: Option<Item<'a>>,
}

impl<'a> Header<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Header<'a>, Fault> {
        let mut header = Header::default();
        let mut keys = Keys::default();
        for _ in 0..reader.map()? {
            let member = match reader.key(&mut keys)? {
                "op" => &mut header.op,
                "t" => &mut header.kind,
                _ => &mut None,
            };
            *member = Some(reader.whole_item()?);
        }
        Ok(header)
    }
}

/// The members of a body that are read, of whatever type they are.
#[derive(Default)]
struct Body<'a> {
    seq: Option<Item<'a>>,
    did: Option<Item<'a>>,
    time: Option<Item<'a>>,
    /// The encoding of a commit's ops.
    ops: Option<&'a [u8]>,
    rev: Option<Item<'a>>,
    repo: Option<Item<'a>>,
    blocks: Option<Item<'a>>,
    commit: Option<Item<'a>>,
    handle: Option<Item<'a>>,
    active: Option<Item<'a>>,
    status: Option<Item<'a>>,
    name: Option<Item<'a>>,
    error: Option<Item<'a>>,
    message: Option<Item<'a>>,
}

impl<'a> Body<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Body<'a>, Fault> {
        let mut body = Body::default();
        let mut keys = Keys::default();
        for _ in 0..reader.map()? {
            let member = match reader.key(&mut keys)? {
                "ops" => {
                    body.ops = Some(reader.span()?);
                    continue;
                }
                "seq" => &mut body.seq,
                "did" => &mut body.did,
                "time" => &mut body.time,
                "rev" => &mut body.rev,
                "repo" => &mut body.repo,
                "blocks" => &mut body.blocks,
                "commit" => &mut body.commit,
                "handle" => &mut body.handle,
                "active" => &mut body.active,
                "status" => &mut body.status,
                "name" => &mut body.name,
                "error" => &mut body.error,
                "message" => &mut body.message,
                _ => &mut None,
            };
            *member = Some(reader.whole_item()?);
        }
        Ok(body)
    }

    fn event(&self, kind: &'a str) -> Result<Frame<'a>, &'static str> {
        Ok(match kind {
            "#commit" => Frame::Commit(self.commit()?),
            "#identity" => Frame::Identity {
                stamp: self.stamp(self.did)?,
                handle: self.handle.optional_text("handle is not a text")?,
            },
            "#account" => Frame::Account {
                stamp: self.stamp(self.did)?,
                active: match self.active {
                    Some(Item::Bool(active)) => active,
                    _ => return Err("active is not a boolean"),
                },
                status: self.status.optional_text("status is not a text")?,
            },
            "#sync" => Frame::Sync {
                stamp: self.stamp(self.did)?,
            },
            "#info" => Frame::Info {
                name: self.name.text("name is not a text")?,
                message: self.message.text_if_any(),
            },
            kind => self.other(kind),
        })
    }

    fn commit(&self) -> Result<Commit<'a>, &'static str> {
        Ok(Commit {
            stamp: self.stamp(self.repo)?,
            rev: self.rev.text_if_any(),
            cid: match self.commit {
                Some(Item::Link(cid)) => Some(cid),
                _ => None,
            },
            ops: match self.ops {
                Some(ops) if matches!(Reader::new(ops).item(), Ok(Item::Array(_))) => ops,
                _ => return Err("ops is not an array"),
            },
            blocks: match self.blocks {
                Some(Item::Bytes(blocks)) => blocks,
                _ => return Err("blocks is not a string of bytes"),
            },
        })
    }

    fn other(&self, kind: &'a str) -> Frame<'a> {
        Frame::Other {
            kind,
            seq: self.seq.and_then(seq),
            time: self.time.text_if_any(),
        }
    }

    fn stamp(&self, did: Option<Item<'a>>) -> Result<Stamp<'a>, &'static str> {
        Ok(Stamp {
            seq: self.seq.and_then(seq).ok_or("seq is not a number from 1 to 2^53 - 1")?,
            did: did
                .text_if_any()
                .filter(|did| is_did(did))
                .ok_or("the repo is not a DID")?,
            time: self.time.text_if_any().unwrap_or_default(),
        })
    }
}

fn seq(item: Item<'_>) -> Option<u64> {
    match item {
        Item::Unsigned(seq) if (1..=SEQ_MAX).contains(&seq) => Some(seq),
        _ => None,
    }
}

/// A member that should be a text.
trait Member<'a> {
    fn text_if_any(self) -> Option<&'a str>;
    fn text(self, fault: &'static str) -> Result<&'a str, &'static str>;
    /// A member that may be absent or null.
    fn optional_text(self, fault: &'static str) -> Result<Option<&'a str>, &'static str>;
}

impl<'a> Member<'a> for Option<Item<'a>> {
    fn text_if_any(self) -> Option<&'a str> {
        match self {
            Some(Item::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn text(self, fault: &'static str) -> Result<&'a str, &'static str> {
        self.text_if_any().ok_or(fault)
    }

    fn optional_text(self, fault: &'static str) -> Result<Option<&'a str>, &'static str> {
        match self {
            None | Some(Item::Null) => Ok(None),
            member => member.text(fault).map(Some),
        }
    }
}

/// Finds the sequence number and the repo in a message that cannot be read, if its lengths are right up to them.
fn find_stamp(message: &[u8]) -> (Option<u64>, Option<&str>) {
    let (mut found_seq, mut found_did) = (None, None);
    let mut reader = Reader::new(message);
    let mut find = || -> Result<(), Fault> {
        reader.skim()?;
        for _ in 0..reader.map()? {
            let key = reader.item()?;
            let before = reader;
            reader.skim()?;
            let value = || before.clone().item().ok();
            match key {
                Item::Text("seq") if found_seq.is_none() => found_seq = value().and_then(seq),
                Item::Text("repo" | "did") if found_did.is_none() => found_did = value().text_if_any(),
                _ => {}
            }
        }
        Ok(())
    };
    // However far it gets, what it has found is all there is.
    let _ = find();
    (found_seq, found_did.filter(|did| is_did(did)))
}
