//! Reads one message of a relay: two items of DAG-CBOR, a header and a body.
//!
//! Owns which members an event needs and of which type. Members that nothing reads may have any type or be absent,
//! since hosts differ in the deprecated ones; the encoding of the whole message must be valid. Ops are checked one by
//! one later, see `entry`.

use super::cbor::{Fault, Item, Keys, Reader};
use crate::decode::is_did;

/// The largest sequence number, which every reader of JSON can represent.
pub const SEQ_MAX: u64 = (1 << 53) - 1;

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

    /// What every event has; `None` for messages about the stream itself, and those that make no entry.
    pub fn stamp(&self) -> Option<&Stamp<'a>> {
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
                b"op" => &mut header.op,
                b"t" => &mut header.kind,
                _ => &mut None,
            };
            *member = Some(reader.value()?);
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
                b"ops" => {
                    body.ops = Some(reader.span()?);
                    continue;
                }
                b"seq" => &mut body.seq,
                b"did" => &mut body.did,
                b"time" => &mut body.time,
                b"rev" => &mut body.rev,
                b"repo" => &mut body.repo,
                b"blocks" => &mut body.blocks,
                b"commit" => &mut body.commit,
                b"handle" => &mut body.handle,
                b"active" => &mut body.active,
                b"status" => &mut body.status,
                b"name" => &mut body.name,
                b"error" => &mut body.error,
                b"message" => &mut body.message,
                _ => &mut None,
            };
            *member = Some(reader.value()?);
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

#[cfg(test)]
mod tests {
    use ipld_core::ipld;
    use ipld_core::ipld::Ipld;

    use super::super::made::{self, DID, REV, TIME, members, message};
    use super::*;

    const STAMP: Stamp<'static> = Stamp {
        seq: 7,
        did: DID,
        time: TIME,
    };

    fn event(kind: &str, body: Ipld) -> Vec<u8> {
        made::event(kind, body)
    }

    fn reason(message: &[u8]) -> &'static str {
        read(message).expect_err("an unreadable frame").reason
    }

    #[test]
    fn an_identity_event_may_have_a_handle() {
        for (body, wanted) in [
            (ipld!({"handle": "alice.test"}), Some("alice.test")),
            (ipld!({"handle": "handle.invalid"}), Some("handle.invalid")),
            (ipld!({"handle": null}), None),
            (ipld!({}), None),
        ] {
            match read(&event("#identity", body)) {
                Ok(Frame::Identity { stamp: STAMP, handle }) => assert_eq!(handle, wanted),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_account_event_may_have_a_status() {
        for (body, wanted) in [
            (ipld!({"active": true}), (true, None)),
            (
                ipld!({"active": false, "status": "takendown"}),
                (false, Some("takendown")),
            ),
            (
                ipld!({"active": true, "status": "a word of tomorrow"}),
                (true, Some("a word of tomorrow")),
            ),
        ] {
            match read(&event("#account", body)) {
                Ok(Frame::Account {
                    stamp: STAMP,
                    active,
                    status,
                }) => assert_eq!((active, status), wanted),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_sync_event_and_an_info_are_told_apart() {
        let sync = event("#sync", ipld!({"rev": REV, "blocks": Ipld::Bytes(vec![0])}));
        assert!(matches!(read(&sync), Ok(Frame::Sync { stamp: STAMP })));
        let info = message(
            ipld!({"op": 1, "t": "#info"}),
            members(ipld!({"name": "OutdatedCursor"})),
        );
        let frame = read(&info).unwrap();
        assert_eq!((frame.seq(), frame.time()), (None, None));
        let Frame::Info {
            name: "OutdatedCursor",
            message: None,
        } = frame
        else {
            panic!("{frame:?}");
        };
    }

    #[test]
    fn legacy_and_unknown_messages_still_move_the_cursor() {
        for kind in ["#handle", "#migrate", "#tombstone", "#labels", ""] {
            let message = event(
                kind,
                ipld!({"handle": 7, "active": "yes", "ops": null, "repo": 1, "status": []}),
            );
            let frame = read(&message).unwrap();
            assert_eq!((frame.seq(), frame.time()), (Some(7), Some(TIME)));
            assert!(
                matches!(frame, Frame::Other { kind: found, .. } if found == kind),
                "{frame:?}"
            );
        }
        for header in [
            ipld!({"op": 2, "t": "#commit"}),
            ipld!({"op": 0}),
            ipld!({"op": -2, "t": 7}),
        ] {
            let message = message(header, members(ipld!({"seq": 9})));
            assert_eq!(read(&message).unwrap().seq(), Some(9));
        }
        for seq in [ipld!(0), ipld!(-1), ipld!("9"), ipld!(1_u64 << 53)] {
            assert_eq!(read(&event("#later", ipld!({"seq": seq}))).unwrap().seq(), None);
        }
    }

    #[test]
    fn an_error_frame_has_no_type_and_gives_the_relays_error() {
        // The header `{"op": -1}`, as relays send it.
        let mut message = vec![0xa1, 0x62, 0x6f, 0x70, 0x20];
        message.extend(made::encode(
            &ipld!({"error": "FutureCursor", "message": "Cursor in the future."}),
        ));
        let Ok(Frame::Error { error, message }) = read(&message) else {
            panic!("not an error");
        };
        assert_eq!((error, message), ("FutureCursor", Some("Cursor in the future.")));
        let typed = made::message(
            ipld!({"op": -1, "t": "#error"}),
            members(ipld!({"error": "ConsumerTooSlow"})),
        );
        assert!(matches!(
            read(&typed),
            Ok(Frame::Error {
                error: "ConsumerTooSlow",
                message: None
            })
        ));
    }

    #[test]
    fn deprecated_and_unused_members_may_have_any_type_or_be_absent() {
        let cid = Ipld::Link(made::commit_object().0);
        let changes = [
            ipld!({}),
            ipld!({"blobs": "none"}),
            ipld!({"blobs": [Ipld::Link(made::commit_object().0), cid, "bafkreib"]}),
            ipld!({"blobs": {"a": [1, 2, {"b": null}]}}),
            ipld!({"rebase": "no", "tooBig": [true], "since": 7, "prevData": {}}),
            ipld!({"rev": null, "commit": "bafyreib", "time": 7, "xyz": {"deep": [[[]]]}, "handle": 1, "message": 2}),
        ];
        for change in changes {
            let mut body = made::commit(vec![], made::car(&[]));
            body.extend(members(change));
            let message = made::commit_message(body);
            let frame = read(&message).unwrap();
            assert!(matches!(frame, Frame::Commit(_)) && frame.seq() == Some(7), "{frame:?}");
        }
        let mut body = made::commit(vec![], made::car(&[]));
        for name in ["blobs", "rebase", "tooBig", "since", "rev", "commit", "time"] {
            body.remove(name);
        }
        let message = made::commit_message(body);
        let frame = read(&message).unwrap();
        assert_eq!((frame.seq(), frame.time()), (Some(7), Some("")));
    }

    #[test]
    fn a_member_that_an_event_needs_must_have_its_type() {
        for (kind, body, fault) in [
            ("#identity", ipld!({"seq": 0}), "seq is not"),
            ("#identity", ipld!({"seq": 1_u64 << 53}), "seq is not"),
            ("#identity", ipld!({"seq": "7"}), "seq is not"),
            ("#identity", ipld!({"did": "alice.test"}), "not a DID"),
            ("#identity", ipld!({"did": null}), "not a DID"),
            ("#identity", ipld!({"handle": 7}), "handle is not"),
            ("#account", ipld!({}), "active is not"),
            ("#account", ipld!({"active": 1}), "active is not"),
            ("#account", ipld!({"active": true, "status": 1}), "status is not"),
            ("#info", ipld!({}), "name is not"),
            ("#commit", ipld!({}), "not a DID"),
            ("#commit", ipld!({"repo": DID}), "ops is not"),
            ("#commit", ipld!({"repo": DID, "ops": {}}), "ops is not"),
            ("#commit", ipld!({"repo": DID, "ops": []}), "blocks is not"),
            (
                "#commit",
                ipld!({"repo": DID, "ops": [], "blocks": "car"}),
                "blocks is not",
            ),
        ] {
            let message = event(kind, body.clone());
            assert!(
                reason(&message).contains(fault),
                "{kind} {body:?}: {}",
                reason(&message)
            );
        }
        let error = message(ipld!({"op": -1}), members(ipld!({"message": "?"})));
        assert!(reason(&error).contains("error is not"));
    }

    #[test]
    fn the_header_needs_an_op_and_an_event_a_type() {
        for (header, fault) in [
            (ipld!({}), "no op"),
            (ipld!({"op": "1", "t": "#commit"}), "no op"),
            (ipld!({"op": 1}), "no type"),
            (ipld!({"op": 1, "t": null}), "no type"),
            (ipld!([]), "wrong type"),
        ] {
            let message = message(header, members(ipld!({"seq": 7})));
            assert!(reason(&message).contains(fault), "{}", reason(&message));
        }
        for message in [
            &[][..],
            &[0xa0],
            &made::encode(&ipld!({"op": 1, "t": "#commit"})),
            b"<html>",
        ] {
            read(message).expect_err("an unreadable frame");
        }
    }

    #[test]
    fn seq_and_repo_are_found_beside_the_fault_that_makes_a_frame_unreadable() {
        let encode = |value: &str| made::encode(&ipld!(value));
        let with = |name: &str, value: &[u8]| {
            let header = made::encode(&ipld!({"op": 1, "t": "#commit"}));
            let seq = [encode("seq"), made::encode(&ipld!(42))].concat();
            let others = [encode("repo"), encode(DID), encode("time"), encode("")].concat();
            [header, vec![0xa4], encode(name), value.to_vec(), seq, others].concat()
        };
        let deep = [vec![0x81; 100_000], vec![0]].concat();
        for (name, value, fault) in [
            ("ops", b"\x81\x62\xc3\x28".as_slice(), "UTF-8"),
            ("ops", b"\xf7", "simple value"),
            ("ops", b"\x18\x01", "shortest"),
            ("zzz", b"\xf6", "out of order"),
            ("ops", &deep, "too deep"),
        ] {
            let message = with(name, value);
            let unreadable = read(&message).unwrap_err();
            assert!(unreadable.reason.contains(fault), "{unreadable:?}");
            assert_eq!(
                (unreadable.seq, unreadable.did),
                (Some(42), Some(DID)),
                "{unreadable:?}"
            );
        }
        // Nothing is found behind a length that is wrong.
        let unreadable = with("ops", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(read(&unreadable).unwrap_err().seq, None);
    }

    #[test]
    fn nothing_may_follow_the_body() {
        let message = [event("#identity", ipld!({})), vec![0xa0]].concat();
        assert!(reason(&message).contains("bytes follow"));
        assert_eq!(read(&message).unwrap_err().seq, Some(7));
    }
}
