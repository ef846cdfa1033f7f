//! Writes the data of the entry that an event becomes.
//!
//! Owns the form of the data, and what becomes of each op of a commit: it is written, filtered, or set aside with a
//! reason. A bad op never takes its neighbours along.

use super::cbor::{Fault, Item, Keys, Reader};
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
            // `frame` has checked the encoding of the ops.
            op_writer.op(&Op::read(&mut ops).unwrap_or_default());
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
    /// Reads the next op of an array that is valid. An op that is not a map has no members.
    fn read(ops: &mut Reader<'a>) -> Result<Op<'a>, Fault> {
        let mut op = Op::default();
        let before = *ops;
        let Item::Map(n_pairs) = ops.item()? else {
            *ops = before;
            ops.span()?;
            return Ok(op);
        };
        let mut keys = Keys::default();
        for _ in 0..n_pairs {
            let member = match ops.key(&mut keys)? {
                b"action" => &mut op.action,
                b"path" => &mut op.path,
                b"cid" => &mut op.cid,
                _ => &mut None,
            };
            *member = Some(ops.value()?);
        }
        Ok(op)
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
    fn op(&mut self, op: &Op<'a>) {
        let mark = self.data.len();
        match self.write(op) {
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

#[cfg(test)]
mod tests {
    use ipld_core::cid::Cid;
    use ipld_core::cid::multihash::Multihash;
    use ipld_core::ipld;
    use ipld_core::ipld::Ipld;

    use super::super::frame::{Frame, read};
    use super::super::made::{self, Block, DID, Members, TIME, block, commit, commit_message, create};
    use super::*;

    const POST: &str = "app.bsky.feed.post/3n3f4z4zra22j";

    /// The data of a commit's entry, the reasons and paths of the ops that are set aside, and the counts.
    struct Result {
        data: String,
        set_aside: Vec<(&'static str, String)>,
        counts: [u32; 4],
        floats: u32,
        mismatched: bool,
        first: Option<(String, &'static str)>,
    }

    fn write_filtered(body: Members, filter: &Filter) -> Result {
        let message = commit_message(body);
        let Ok(Frame::Commit(commit)) = read(&message) else {
            panic!("not a commit: {:?}", read(&message));
        };
        let mut data = b"kept".to_vec();
        let written = Writer::new().commit(&commit, filter, &mut data);
        let data = String::from_utf8(data).unwrap();
        let n_set_aside: u32 = written.n_set_aside.iter().sum();
        assert!(n_set_aside as usize >= written.set_aside.len());
        Result {
            data: data.strip_prefix("kept").unwrap().to_owned(),
            counts: [written.creates, written.updates, written.deletes, written.filtered],
            floats: written.floats,
            mismatched: written.mismatched,
            first: written
                .first
                .map(|(collection, action)| (collection.to_owned(), action)),
            set_aside: written
                .set_aside
                .into_iter()
                .map(|op| (op.reason.as_str(), op.path))
                .collect(),
        }
    }

    fn write(body: Members) -> Result {
        write_filtered(body, &Filter::all())
    }

    fn post(text: &str) -> Block {
        block(&ipld!({"$type": "app.bsky.feed.post", "text": text}))
    }

    /// The op as it is written.
    fn created(path: &str, record: &Block, json: &str) -> String {
        format!(
            r#"{{"action":"create","path":"{path}","cid":"{}","record":{json}}}"#,
            record.0
        )
    }

    fn data(ops: &[&str]) -> String {
        format!(r#"{{"repo":"{DID}","ops":[{}]}}"#, ops.join(","))
    }

    #[test]
    fn a_commit_becomes_its_ops_in_their_order() {
        let (first, second) = (post("a"), block(&ipld!({"n": 1.5})));
        let mut update = made::members(create("com.example.thing/self", &second));
        update.insert("action".to_owned(), ipld!("update"));
        update.insert("prev".to_owned(), Ipld::Link(first.0));
        let delete = ipld!({"action": "delete", "path": "app.bsky.feed.like/3n3f4z4zra22j", "cid": null});
        let ops = vec![create(POST, &first), Ipld::Map(update), delete];
        let result = write(commit(ops, made::car(&[second.clone(), first.clone()])));
        let wanted = [
            created(POST, &first, r#"{"text":"a","$type":"app.bsky.feed.post"}"#),
            created("com.example.thing/self", &second, r#"{"n":1.5}"#).replace("create", "update"),
            r#"{"action":"delete","path":"app.bsky.feed.like/3n3f4z4zra22j"}"#.to_owned(),
        ];
        assert_eq!(result.data, data(&wanted.each_ref().map(String::as_str)));
        assert_eq!(
            (result.counts, result.floats, result.mismatched),
            ([1, 1, 1, 0], 1, false)
        );
        assert_eq!(result.first, Some(("app.bsky.feed.post".to_owned(), "create")));
        assert!(result.set_aside.is_empty());
    }

    #[test]
    fn a_commit_without_ops_makes_no_entry() {
        let result = write(commit(vec![], made::car(&[])));
        assert_eq!((result.data.as_str(), result.counts, result.first), ("", [0; 4], None));
    }

    #[test]
    fn identity_and_account_events_have_their_own_forms() {
        let stamp = Stamp {
            seq: 7,
            did: DID,
            time: TIME,
        };
        let mut data = Vec::new();
        let mut writer = Writer::new();
        writer.identity(&stamp, Some("a\"b.test"), &mut data);
        writer.identity(&stamp, None, &mut data);
        writer.account(&stamp, true, None, &mut data);
        writer.account(&stamp, false, Some("takendown"), &mut data);
        let wanted = concat!(
            r#"{"did":"DID","handle":"a\"b.test"}{"did":"DID","handle":null}"#,
            r#"{"did":"DID","active":true}{"did":"DID","active":false,"status":"takendown"}"#
        );
        assert_eq!(String::from_utf8(data).unwrap(), wanted.replace("DID", DID));
    }

    /// A good op before and behind each bad one, which has to be set aside alone.
    fn assert_set_aside(bad: Ipld, blocks: &[Block], reason: &'static str, path: &str) {
        let (before, behind) = (post("before"), post("behind"));
        let ops = vec![create(POST, &before), bad.clone(), create(POST, &behind)];
        let blocks = [blocks, &[before.clone(), behind.clone()]].concat();
        let result = write(commit(ops, made::car(&blocks)));
        let json = |text| format!(r#"{{"text":"{text}","$type":"app.bsky.feed.post"}}"#);
        let wanted = [
            created(POST, &before, &json("before")),
            created(POST, &behind, &json("behind")),
        ];
        assert_eq!(result.data, data(&wanted.each_ref().map(String::as_str)), "{bad:?}");
        assert_eq!(result.set_aside, [(reason, path.to_owned())], "{bad:?}");
        assert_eq!(result.counts, [2, 0, 0, 0]);
        // Alone, it makes no entry.
        let alone = write(commit(vec![bad], made::car(&blocks)));
        assert_eq!((alone.data.as_str(), alone.set_aside.len()), ("", 1));
    }

    #[test]
    fn an_op_whose_block_is_missing_is_set_aside_and_its_neighbours_are_written() {
        assert_set_aside(create(POST, &post("not sent")), &[], "missing_block", POST);
    }

    #[test]
    fn a_block_that_is_not_what_its_cid_identifies_is_set_aside() {
        let other = (post("promised").0, post("sent").1);
        assert_set_aside(
            create(POST, &other),
            std::slice::from_ref(&other),
            "hash_mismatch",
            POST,
        );
        for (codec, hash, digest) in [
            (0x71, 0x13, vec![7; 32]),
            (0x70, 0x12, vec![7; 32]),
            (0x71, 0x00, vec![7; 3]),
        ] {
            let cid = Cid::new_v1(codec, Multihash::wrap(hash, &digest).unwrap());
            let unknown = (cid, vec![0xa0]);
            assert_set_aside(
                create(POST, &unknown),
                std::slice::from_ref(&unknown),
                "hash_mismatch",
                POST,
            );
        }
    }

    #[test]
    fn a_bad_block_does_not_harm_the_op_beside_it() {
        let deep = [vec![0x81; 65], vec![0xa0]].concat();
        for bytes in [
            b"\xa1\x64text\x63\xed\xa0\x80".to_vec(),
            vec![],
            vec![0xa0, 0],
            vec![0xf7],
            deep,
        ] {
            let bad = (made::cid_of(&bytes), bytes);
            assert_set_aside(create(POST, &bad), std::slice::from_ref(&bad), "bad_record", POST);
        }
    }

    #[test]
    fn an_op_without_a_cid_path_or_action_of_use_is_set_aside() {
        let record = post("fine");
        let cid = || Ipld::Link(record.0);
        let blocks = std::slice::from_ref(&record);
        for (op, reason, path) in [
            (ipld!({"action": "create", "path": POST, "cid": null}), "no_cid", POST),
            (ipld!({"action": "update", "path": POST}), "no_cid", POST),
            (
                ipld!({"action": "create", "path": POST, "cid": record.0.to_string()}),
                "no_cid",
                POST,
            ),
            (
                ipld!({"action": "create", "path": "post", "cid": cid()}),
                "bad_path",
                "post",
            ),
            (
                ipld!({"action": "delete", "path": "app.bsky.feed.post/a/b", "cid": null}),
                "bad_path",
                "app.bsky.feed.post/a/b",
            ),
            (ipld!({"action": "create", "path": 7, "cid": cid()}), "bad_path", ""),
            (ipld!({"action": "create", "cid": cid()}), "bad_path", ""),
            (
                ipld!({"action": "rename", "path": POST, "cid": cid()}),
                "bad_action",
                POST,
            ),
            (ipld!({"path": POST, "cid": cid()}), "bad_action", POST),
            (
                ipld!({"action": ["create"], "path": POST, "cid": cid()}),
                "bad_action",
                POST,
            ),
            (ipld!(7), "bad_path", ""),
            (ipld!([{"action": "create"}]), "bad_path", ""),
        ] {
            assert_set_aside(op, blocks, reason, path);
        }
    }

    #[test]
    fn an_entry_has_a_maximum_size_and_the_ops_that_fit_are_written() {
        let (small, large) = (post("small"), post(&"\u{1}".repeat(2 << 20)));
        let ops = vec![create(POST, &large), create(POST, &small)];
        let result = write(commit(ops, made::car(&[large, small.clone()])));
        assert_eq!(result.set_aside, [("too_large", POST.to_owned())]);
        let wanted = created(POST, &small, r#"{"text":"small","$type":"app.bsky.feed.post"}"#);
        assert_eq!(result.data, data(&[&wanted]));
    }

    #[test]
    fn a_frame_of_nearly_5_mb_passes() {
        let records: Vec<Block> = (0..5).map(|n| post(&"abcdefgh ".repeat(108_000 + n))).collect();
        let ops = records.iter().map(|record| create(POST, record)).collect();
        let result = write(commit(ops, made::car(&records)));
        assert_eq!(result.counts, [5, 0, 0, 0]);
        assert!(result.data.len() > 4_800_000, "{}", result.data.len());
    }

    #[test]
    fn ops_without_number_are_all_written() {
        let records: Vec<Block> = (0..1000).map(|n| post(&format!("post {n}"))).collect();
        let mut ops: Vec<Ipld> = records.iter().map(|record| create(POST, record)).collect();
        ops.push(create(POST, &post("missing")));
        let mut shuffled = records.clone();
        shuffled.reverse();
        let result = write(commit(ops, made::car(&shuffled)));
        assert_eq!(result.counts, [1000, 0, 0, 0]);
        assert_eq!(result.set_aside, [("missing_block", POST.to_owned())]);
        let places = (0..1000).map(|n| result.data.find(&format!("\"post {n}\"")).unwrap());
        assert!(places.is_sorted());
    }

    #[test]
    fn set_aside_ops_without_number_are_counted_and_the_first_are_listed() {
        let message = commit_message(commit(vec![ipld!({"path": "x".repeat(2000)}); 3000], made::car(&[])));
        let Ok(Frame::Commit(commit)) = read(&message) else {
            panic!("not a commit");
        };
        let written = Writer::new().commit(&commit, &Filter::all(), &mut Vec::new());
        assert_eq!(written.n_set_aside[Reason::BadPath as usize], 3000);
        assert_eq!(written.set_aside.len(), LISTED_MAX);
        assert!(written.set_aside.iter().all(|op| op.path.len() == LISTED_PATH_MAX));
    }

    #[test]
    fn the_index_of_a_reason_is_that_of_its_count() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.as_str());
        }
    }

    #[test]
    fn filtered_ops_are_counted_and_not_looked_at() {
        let record = post("kept");
        let like = "app.bsky.feed.like/3n3f4z4zra22j";
        let ops = || {
            vec![
                ipld!({"action": "create", "path": like, "cid": null}),
                ipld!({"action": "delete", "path": like, "cid": null}),
                create(POST, &record),
            ]
        };
        let body = || commit(ops(), made::car(std::slice::from_ref(&record)));
        let filter = Filter::new("app.bsky.feed.post", "").unwrap();
        let result = write_filtered(body(), &filter);
        let wanted = created(POST, &record, r#"{"text":"kept","$type":"app.bsky.feed.post"}"#);
        assert_eq!(result.data, data(&[&wanted]));
        assert_eq!((result.counts, result.set_aside.len()), ([1, 0, 0, 2], 0));
        let result = write_filtered(body(), &Filter::new("", "did:plc:other").unwrap());
        assert_eq!((result.data.as_str(), result.counts), ("", [0, 0, 0, 3]));
        let result = write_filtered(body(), &Filter::new("", DID).unwrap());
        assert_eq!((result.counts, result.set_aside.len()), ([1, 0, 1, 0], 1));
    }

    #[test]
    fn a_rev_in_the_far_future_changes_nothing_and_a_difference_is_reported() {
        let record = post("a");
        let body = || commit(vec![create(POST, &record)], made::car(std::slice::from_ref(&record)));
        let wanted = write(body()).data;
        // The rev of 2099 comes first; the others follow it.
        for (rev, mismatched) in [("3zzzzzzzzzzzz", true), (made::REV, false), ("3n3f4z4ka5s2j", true)] {
            let mut body = body();
            body.insert("rev".to_owned(), ipld!(rev));
            let result = write(body);
            assert_eq!((&result.data, result.mismatched), (&wanted, mismatched), "{rev}");
        }
        let mut other = body();
        other.insert("repo".to_owned(), ipld!("did:plc:other"));
        assert!(write(other).mismatched);
        // Without the commit object there is nothing to compare.
        let mut without = body();
        without.insert("commit".to_owned(), Ipld::Link(post("?").0));
        assert!(!write(without).mismatched);
    }
}
