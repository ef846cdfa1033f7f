//! The records that the tests send, the rows that they must become (rows), and the whole of what must be in the
//! database after them (expected).
//!
//! A `Record` is one record of one repo as lexicon JSON. Nothing here is taken from the worker.

mod expected;
mod life;
mod rows;

use serde_json::{Value, json};

pub(crate) use self::expected::{Expected, both_ways_give, in_one_batch_and_entry_by_entry};
pub(crate) use self::life::{IndexedAt, Life};
pub(crate) use self::rows::*;
use crate::support::{EVENTS, GROUP, Stack, entries};

pub(crate) const ALICE: &str = "did:plc:alicealicealicealicealic";
pub(crate) const BOB: &str = "did:plc:bobbobbobbobbobbobbobbob";
pub(crate) const CAROL: &str = "did:plc:carolcarolcarolcarolcaro";
pub(crate) const DAVE: &str = "did:plc:davedavedavedavedavedave";

pub(crate) const POST: &str = "app.bsky.feed.post";
pub(crate) const LIKE: &str = "app.bsky.feed.like";
pub(crate) const REPOST: &str = "app.bsky.feed.repost";
pub(crate) const BOOKMARK: &str = "app.bsky.bookmark";
pub(crate) const GENERATOR: &str = "app.bsky.feed.generator";
pub(crate) const THREADGATE: &str = "app.bsky.feed.threadgate";
pub(crate) const POSTGATE: &str = "app.bsky.feed.postgate";
pub(crate) const FOLLOW: &str = "app.bsky.graph.follow";
pub(crate) const BLOCK: &str = "app.bsky.graph.block";
pub(crate) const LIST: &str = "app.bsky.graph.list";
pub(crate) const LISTITEM: &str = "app.bsky.graph.listitem";
pub(crate) const LISTBLOCK: &str = "app.bsky.graph.listblock";
pub(crate) const STARTERPACK: &str = "app.bsky.graph.starterpack";
pub(crate) const VERIFICATION: &str = "app.bsky.graph.verification";
pub(crate) const PROFILE: &str = "app.bsky.actor.profile";
pub(crate) const LABELER: &str = "app.bsky.labeler.service";
pub(crate) const LABEL: &str = "com.atproto.label.label";
/// A collection that no table knows.
pub(crate) const CUSTOM: &str = "com.example.notes.note";

/// The `createdAt` of every record that is not about its time, and the same instant as PostgreSQL prints it.
pub(crate) const CREATED: &str = "2026-01-02T03:04:05.180Z";
pub(crate) const CREATED_ROW: &str = "2026-01-02T03:04:05.18";
/// A second time, for updates and second records.
pub(crate) const LATER: &str = "2026-02-03T04:05:06Z";
pub(crate) const LATER_ROW: &str = "2026-02-03T04:05:06";

/// One blob's CID as text, as the hex of its binary form, and its SHA-256 digest.
pub(crate) const AVATAR: &str = "bafkreiehxpuhtr5f6v4eu4byjo2j7kkrhjvd7psmfu4imnpdzb3bdqb7vy";
pub(crate) const AVATAR_HEX: &str = "0155122087bbe879c7a5f5784a70384bb49fa9513a6a3fbe4c2d388635e3c87611c03fae";
pub(crate) const AVATAR_DIGEST: [u8; 32] = [
    135, 187, 232, 121, 199, 165, 245, 120, 74, 112, 56, 75, 180, 159, 169, 81, 58, 106, 63, 190, 76, 45, 56, 134, 53,
    227, 200, 118, 17, 192, 63, 174,
];
pub(crate) const BANNER: &str = "bafkreiemp3jntpsz4ioppt6h3j24nqglpxlvd5fiodypsi3pb424xl2yjy";
pub(crate) const BANNER_HEX: &str = "015512208c7ed2d9be59e21cf7cfc7da75c6c0cb7dd751f4a870f0f9236f0f35cbaf584e";
pub(crate) const IMAGE: &str = "bafkreidbaxlmy5vpiabsl2knlcgoken6lp63w45ug7ofd3fehel5pjb6hu";
pub(crate) const IMAGE_HEX: &str = "015512206105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d";

pub(crate) fn uri(repo: &str, collection: &str, rkey: &str) -> String {
    format!("at://{repo}/{collection}/{rkey}")
}

/// `row` with the members of `changes` in place of its own.
pub(crate) fn with(mut row: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else {
        panic!("not an object: {changes}")
    };
    for (key, value) in changes {
        row[key] = value;
    }
    row
}

/// A blob in the form that every other form must end as.
pub(crate) fn blob(cid: &str, mime_type: &str) -> Value {
    json!({"$type": "blob", "ref": {"$link": cid}, "mimeType": mime_type, "size": 12345})
}

/// One record of one repo, and the CID under which it is sent.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) repo: String,
    pub(crate) collection: &'static str,
    pub(crate) rkey: String,
    pub(crate) value: Value,
    pub(crate) cid: String,
}

impl Record {
    pub(crate) fn new(repo: &str, collection: &'static str, rkey: &str, value: Value) -> Self {
        let mut record = Self {
            repo: repo.to_owned(),
            collection,
            rkey: rkey.to_owned(),
            value: Value::Null,
            cid: String::new(),
        };
        record.set_value(value);
        record
    }

    fn set_value(&mut self, value: Value) {
        self.cid = entries::cid_for(&self.path(), &value);
        self.value = value;
    }

    /// The same record with other content, and therefore with another CID.
    pub(crate) fn with(&self, changes: Value) -> Self {
        let mut changed = self.clone();
        changed.set_value(with(self.value.clone(), changes));
        changed
    }

    /// The same record without one of its members.
    pub(crate) fn without(&self, key: &str) -> Self {
        let mut changed = self.clone();
        let mut value = self.value.clone();
        value.as_object_mut().expect("a record is an object").remove(key);
        changed.set_value(value);
        changed
    }

    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.collection, self.rkey)
    }

    pub(crate) fn uri(&self) -> String {
        uri(&self.repo, self.collection, &self.rkey)
    }

    /// The op that writes the record; `action` is create or update.
    pub(crate) fn op(&self, action: &str) -> Value {
        json!({"action": action, "path": self.path(), "cid": self.cid, "record": self.value})
    }

    pub(crate) fn delete_op(&self) -> Value {
        json!({"action": "delete", "path": self.path()})
    }

    pub(crate) fn create(&self, stack: &Stack) -> String {
        self.push(stack, self.op("create"))
    }

    pub(crate) fn update(&self, stack: &Stack) -> String {
        self.push(stack, self.op("update"))
    }

    pub(crate) fn delete(&self, stack: &Stack) -> String {
        self.push(stack, self.delete_op())
    }

    fn push(&self, stack: &Stack, op: Value) -> String {
        stack.push("commit", commit(&self.repo, vec![op]))
    }
}

/// The `data` of a commit entry.
pub(crate) fn commit(repo: &str, ops: Vec<Value>) -> Value {
    json!({"repo": repo, "ops": ops})
}

pub(crate) fn post(repo: &str, rkey: &str, text: &str) -> Record {
    let value = json!({"$type": POST, "text": text, "langs": ["en"], "createdAt": CREATED});
    Record::new(repo, POST, rkey, value)
}

/// A reply to `parent` in the thread of `root`.
pub(crate) fn reply(repo: &str, rkey: &str, parent: &Record, root: &Record) -> Record {
    let reply = json!({"parent": strong_ref(parent), "root": strong_ref(root)});
    post(repo, rkey, "a reply").with(json!({"reply": reply}))
}

/// A post that embeds `quoted` and nothing else.
pub(crate) fn quote(repo: &str, rkey: &str, quoted: &Record) -> Record {
    let embed = json!({"$type": "app.bsky.embed.record", "record": strong_ref(quoted)});
    post(repo, rkey, "a quote").with(json!({"embed": embed}))
}

/// A post whose facets mention each of `dids`.
pub(crate) fn mention(repo: &str, rkey: &str, dids: &[&str]) -> Record {
    let facets: Vec<Value> = dids.iter().map(|did| mention_facet(did)).collect();
    post(repo, rkey, "@somebody hello").with(json!({"facets": facets}))
}

pub(crate) fn mention_facet(did: &str) -> Value {
    json!({
        "index": {"byteStart": 0, "byteEnd": 9},
        "features": [{"$type": "app.bsky.richtext.facet#mention", "did": did}],
    })
}

pub(crate) fn strong_ref(record: &Record) -> Value {
    json!({"uri": record.uri(), "cid": record.cid})
}

pub(crate) fn like(repo: &str, rkey: &str, subject: &Record) -> Record {
    Record::new(repo, LIKE, rkey, subject_record(LIKE, subject))
}

pub(crate) fn repost(repo: &str, rkey: &str, subject: &Record) -> Record {
    Record::new(repo, REPOST, rkey, subject_record(REPOST, subject))
}

pub(crate) fn bookmark(repo: &str, rkey: &str, subject: &Record) -> Record {
    Record::new(repo, BOOKMARK, rkey, subject_record(BOOKMARK, subject))
}

fn subject_record(collection: &str, subject: &Record) -> Value {
    json!({"$type": collection, "subject": strong_ref(subject), "createdAt": CREATED})
}

pub(crate) fn follow(repo: &str, rkey: &str, did: &str) -> Record {
    Record::new(
        repo,
        FOLLOW,
        rkey,
        json!({"$type": FOLLOW, "subject": did, "createdAt": CREATED}),
    )
}

pub(crate) fn block(repo: &str, rkey: &str, did: &str) -> Record {
    Record::new(
        repo,
        BLOCK,
        rkey,
        json!({"$type": BLOCK, "subject": did, "createdAt": CREATED}),
    )
}

pub(crate) fn list(repo: &str, rkey: &str) -> Record {
    let value = json!({
        "$type": LIST, "name": "people", "purpose": "app.bsky.graph.defs#curatelist", "description": "some people",
        "avatar": blob(AVATAR, "image/png"), "createdAt": CREATED,
    });
    Record::new(repo, LIST, rkey, value)
}

pub(crate) fn list_item(repo: &str, rkey: &str, list: &Record, did: &str) -> Record {
    let value = json!({"$type": LISTITEM, "list": list.uri(), "subject": did, "createdAt": CREATED});
    Record::new(repo, LISTITEM, rkey, value)
}

pub(crate) fn list_block(repo: &str, rkey: &str, list: &Record) -> Record {
    Record::new(
        repo,
        LISTBLOCK,
        rkey,
        json!({"$type": LISTBLOCK, "subject": list.uri(), "createdAt": CREATED}),
    )
}

pub(crate) fn starter_pack(repo: &str, rkey: &str, list: &Record, feeds: &[String]) -> Record {
    let feeds: Vec<Value> = feeds.iter().map(|feed| json!({"uri": feed})).collect();
    let value = json!({
        "$type": STARTERPACK, "name": "newcomers", "description": "where to begin", "list": list.uri(),
        "feeds": feeds, "createdAt": CREATED,
    });
    Record::new(repo, STARTERPACK, rkey, value)
}

pub(crate) fn verification(repo: &str, rkey: &str, did: &str) -> Record {
    let value = json!({
        "$type": VERIFICATION, "subject": did, "handle": "somebody.example", "displayName": "Somebody",
        "createdAt": CREATED,
    });
    Record::new(repo, VERIFICATION, rkey, value)
}

pub(crate) fn generator(repo: &str, rkey: &str) -> Record {
    let value = json!({
        "$type": GENERATOR, "did": "did:web:feeds.example", "displayName": "Cats", "description": "only cats",
        "avatar": blob(AVATAR, "image/png"), "createdAt": CREATED,
    });
    Record::new(repo, GENERATOR, rkey, value)
}

/// A gate of the post with the same rkey. `allow` is the record's member of that name.
pub(crate) fn thread_gate(repo: &str, rkey: &str, allow: Value) -> Record {
    let value = json!({"$type": THREADGATE, "post": uri(repo, POST, rkey), "allow": allow, "createdAt": CREATED});
    Record::new(repo, THREADGATE, rkey, value)
}

/// A gate of the post with the same rkey that detaches `detached` from it.
pub(crate) fn post_gate(repo: &str, rkey: &str, detached: &[String]) -> Record {
    let value = json!({
        "$type": POSTGATE, "post": uri(repo, POST, rkey), "detachedEmbeddingUris": detached, "createdAt": CREATED,
    });
    Record::new(repo, POSTGATE, rkey, value)
}

pub(crate) fn profile(repo: &str) -> Record {
    let value = json!({
        "$type": PROFILE, "displayName": "Some One", "description": "about me",
        "avatar": blob(AVATAR, "image/png"), "banner": blob(BANNER, "image/jpeg"),
        "pinnedPost": {"uri": uri(repo, POST, "pinned"), "cid": IMAGE}, "createdAt": CREATED,
    });
    Record::new(repo, PROFILE, "self", value)
}

pub(crate) fn labeler(repo: &str) -> Record {
    let policies = json!({"labelValues": ["spam"], "labelValueDefinitions": []});
    let value = json!({"$type": LABELER, "policies": policies, "createdAt": CREATED});
    Record::new(repo, LABELER, "self", value)
}

pub(crate) fn label(repo: &str, rkey: &str, subject: &str) -> Record {
    let value = json!({"$type": LABEL, "src": repo, "uri": subject, "val": "spam", "neg": false, "cts": CREATED});
    Record::new(repo, LABEL, rkey, value)
}

pub(crate) fn custom(repo: &str, rkey: &str, title: &str) -> Record {
    let value = json!({
        "$type": CUSTOM, "title": title, "created_by": null, "tags": [1, {"deep": null}], "createdAt": CREATED,
    });
    Record::new(repo, CUSTOM, rkey, value)
}

/// A record of each collection that has a table, but of posts a quote, and one of another collection. The nth is in
/// the repo `repo(n)`, where none of them mentions another user of these.
pub(crate) fn one_of_each(repo: impl Fn(usize) -> String) -> Vec<Record> {
    let subject = post(ALICE, "subject", "hello");
    vec![
        quote(&repo(1), "q", &subject),
        like(&repo(2), "l", &subject),
        repost(&repo(3), "r", &subject),
        bookmark(&repo(4), "b", &subject),
        follow(&repo(5), "f", &repo(5)),
        block(&repo(6), "b", &repo(6)),
        list(&repo(7), "l"),
        list_item(&repo(8), "i", &list(&repo(8), "l"), &repo(8)),
        list_block(&repo(9), "lb", &list(ALICE, "l")),
        verification(&repo(10), "v", ALICE),
        generator(&repo(11), "g"),
        starter_pack(&repo(12), "s", &list(ALICE, "l"), &[]),
        labeler(&repo(13)),
        label(&repo(14), "l", ALICE),
        custom(&repo(15), "c", "title"),
        profile(&repo(16)),
        thread_gate(&repo(17), "p", json!([])),
        post_gate(&repo(18), "p", &[subject.uri()]),
    ]
}

pub(crate) fn text_of(row: &Value, column: &str) -> String {
    row[column]
        .as_str()
        .unwrap_or_else(|| panic!("{column} is no text in {row}"))
        .to_owned()
}

/// A stack in which `did` is a user already.
pub(crate) fn stack_with_user(name: &str, did: &str) -> Stack {
    let stack = Stack::new(name);
    stack.sql(&format!(
        "INSERT INTO users (did, handle) VALUES ('{did}', 'handle.invalid')"
    ));
    stack
}

/// Gives every row of `table` this commit_seq, if the table has one. Which seq a row keeps of several entries with
/// equal content is not defined, so a test about such repeats must not depend on it.
pub(crate) fn any_seq_of_equals(stack: &Stack, table: &str, seq: u32) {
    let is_there =
        format!("SELECT FROM information_schema.columns WHERE table_name = '{table}' AND column_name = 'commit_seq'");
    if !stack.query(&is_there).is_empty() {
        stack.sql(&format!(
            "UPDATE {table} SET commit_seq = '{seq}' WHERE commit_seq IS NOT NULL"
        ));
    }
}

/// Every row of `table`, whose indexed_at the test has set to the past, was indexed a moment ago.
pub(crate) fn assert_indexed_now(stack: &Stack, table: &str) {
    let old = stack.query(&format!(
        "SELECT * FROM {table} WHERE indexed_at NOT BETWEEN (now() AT TIME ZONE 'UTC') - interval '10 minutes'
             AND (now() AT TIME ZONE 'UTC') + interval '1 minute'"
    ));
    assert!(old.is_empty(), "indexed_at is not now in {table}: {old:?}");
}

/// Has the entries after `id` delivered again, as after a crash whose acknowledgements were lost.
pub(crate) fn redeliver_after(stack: &Stack, id: &str) {
    assert_eq!(stack.pending(), 0, "entries still pending before a redelivery");
    let mut command = redis::cmd("XGROUP");
    command
        .arg(&["SETID", EVENTS, GROUP, id])
        .exec(&mut stack.redis())
        .expect("XGROUP SETID");
}
