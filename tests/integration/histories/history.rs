//! Random histories: events of four users about the same few records, and what the AppView does in between.
//!
//! A history is a function of its seed. Its users and keys carry the seed, so that many histories can share a database
//! and a stream without touching each other.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::records::*;
use crate::sdk_dialect;

/// What happens, in order.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) seed: u64,
    pub(crate) phases: Vec<Phase>,
}

/// Acts of the AppView, then events. Entries are redelivered within their phase only: the AppView's acts are not part
/// of the stream, so the effect of a repeat from before them is undefined.
#[derive(Clone, Default)]
pub(crate) struct Phase {
    pub(crate) acts: Vec<Act>,
    pub(crate) events: Vec<Event>,
}

impl Phase {
    /// The events, and before them the deletes that acts of the app have sent into the stream.
    pub(crate) fn stream(&self) -> Vec<Event> {
        let of_acts = self.acts.iter().filter_map(|act| match act {
            Act::Undo { repo, path, second, .. } => Some(Event {
                second: *second,
                has_seq: true,
                what: What::Commit {
                    repo: repo.clone(),
                    ops: vec![Op::delete(path)],
                },
            }),
            _ => None,
        });
        of_acts.chain(self.events.iter().cloned()).collect()
    }
}

#[derive(Clone)]
pub(crate) struct Event {
    /// Its position in the stream, in seconds, which does not change when other events are left out.
    pub(crate) second: u64,
    pub(crate) has_seq: bool,
    pub(crate) what: What,
}

#[derive(Clone)]
pub(crate) enum What {
    Commit { repo: String, ops: Vec<Op> },
    Identity { did: String, handle: Option<String> },
    Account { did: String },
}

#[derive(Clone)]
pub(crate) struct Op {
    pub(crate) action: &'static str,
    pub(crate) path: String,
    pub(crate) cid: Option<String>,
    /// As lexicon JSON, whatever dialect it is sent in.
    pub(crate) record: Option<Value>,
    pub(crate) is_sdk: bool,
}

/// What the app, or a worker of another kind, does in the database.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    OptOut {
        did: String,
        is_out: bool,
    },
    /// The record's bare row: no commit_seq, no side effects. Counted as it should be, or not.
    Insert {
        repo: String,
        path: String,
        record: Value,
        is_counted: bool,
    },
    /// Deletes only the row, as an unlike in the AppView does.
    Delete {
        repo: String,
        path: String,
        is_counted: bool,
    },
    /// Deletes the row of a record that has waiting rivals. The record's delete is the next event about it in the
    /// stream.
    Undo {
        repo: String,
        path: String,
        is_counted: bool,
        second: u64,
    },
    /// Notifications are read, and generators and labelers get likes.
    Touch,
}

/// 2024-06-01, the first second of every history.
pub(crate) const START: u64 = 1_717_200_000;

const SECONDS_PER_PHASE: u64 = 1000;

const USERS: [char; 4] = ['a', 'b', 'c', 'd'];

/// The part of the DIDs that distinguishes rows from those of other histories.
pub(crate) fn tag(seed: u64) -> String {
    format!("did:plc:h{seed}x")
}

impl History {
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut maker = Maker {
            rng: Rng::with_seed(seed),
            seed,
            n_ops: 0,
            past: Vec::new(),
        };
        let n_phases = *maker.pick(&[1, 1, 2, 2, 3, 4]);
        Self {
            seed,
            phases: (0..n_phases).map(|phase| maker.phase(phase)).collect(),
        }
    }
}

impl Event {
    /// The `type` and `data` of its entry.
    pub(crate) fn wire(&self) -> (&'static str, String) {
        match &self.what {
            What::Commit { repo, ops } => {
                let ops: Vec<Value> = ops.iter().map(Op::wire).collect();
                ("commit", json!({"repo": repo, "ops": ops}).to_string())
            }
            What::Identity { did, handle } => ("identity", json!({"did": did, "handle": handle}).to_string()),
            What::Account { did } => ("account", json!({"did": did, "active": false}).to_string()),
        }
    }

    pub(crate) fn ms(&self) -> u64 {
        (START + self.second) * 1000
    }
}

impl Op {
    fn delete(path: &str) -> Self {
        Self {
            action: "delete",
            path: path.to_owned(),
            cid: None,
            record: None,
            is_sdk: false,
        }
    }

    fn wire(&self) -> Value {
        let mut op = json!({"action": self.action, "path": self.path});
        if let Some(cid) = &self.cid {
            op["cid"] = json!(cid);
        }
        if let Some(record) = &self.record {
            let converted = self
                .is_sdk
                .then(|| sdk_dialect::convert_record(record.clone()))
                .flatten();
            op["record"] = converted.unwrap_or_else(|| record.clone());
        }
        op
    }
}

impl History {
    /// One line for each act and event.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for (n, phase) in self.phases.iter().enumerate() {
            text.push_str(&format!("\n  phase {n}"));
            for act in &phase.acts {
                text.push_str(&format!("\n    app: {act:?}"));
            }
            for event in phase.stream() {
                let (kind, data) = event.wire();
                text.push_str(&format!("\n    {}-{} {kind} {data}", event.ms(), self.seed));
            }
        }
        text
    }
}

/// Collections, each as often as it stands here.
#[rustfmt::skip]
const COLLECTIONS: [&str; 50] = [
    POST, POST, POST, POST, POST, POST, POST, POST, POST, POST, LIKE, LIKE, LIKE, LIKE, LIKE, LIKE, LIKE, LIKE, LIKE,
    REPOST, REPOST, REPOST, REPOST, BOOKMARK, BOOKMARK, BOOKMARK, FOLLOW, FOLLOW, FOLLOW, BLOCK, BLOCK, LISTITEM,
    LISTITEM, LISTITEM, LISTBLOCK, LISTBLOCK, VERIFICATION, VERIFICATION, LIST, GENERATOR, STARTERPACK, LABELER, LABEL,
    THREADGATE, THREADGATE, POSTGATE, PROFILE, PROFILE, CUSTOM, "app.bsky.actor.status",
];

/// Collections of which the app and older workers write rows.
const FOREIGN: [&str; 9] = [POST, POST, LIKE, LIKE, LIKE, REPOST, BOOKMARK, FOLLOW, BLOCK];

struct Maker {
    rng: Rng,
    seed: u64,
    n_ops: usize,
    /// Ops so far, to be sent again as new events.
    past: Vec<(String, Op)>,
}

impl Maker {
    fn pick<'v, T>(&mut self, values: &'v [T]) -> &'v T {
        &values[self.rng.usize(..values.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(..100) < percent
    }

    fn user(&mut self) -> String {
        format!("{}{}", tag(self.seed), self.pick(&USERS))
    }

    fn phase(&mut self, phase: u64) -> Phase {
        let n_acts = if self.chance(60) { self.rng.usize(..5) } else { 0 };
        let n_events = 1 + self.rng.usize(..14);
        let start = phase * SECONDS_PER_PHASE;
        let mut acts: Vec<Act> = (0..n_acts).map(|_| self.act()).collect();
        // The last, so that nothing happens to the pair before its delete comes.
        if phase > 0 && self.chance(50) {
            acts.push(self.undo(start));
        }
        Phase {
            acts,
            events: (1..=n_events as u64)
                .map(|n| Event {
                    second: start + n,
                    has_seq: self.chance(70),
                    what: self.what(),
                })
                .collect(),
        }
    }

    fn act(&mut self) -> Act {
        let repo = self.user();
        let collection = *self.pick(&FOREIGN);
        let path = self.path(collection);
        match self.rng.u32(..10) {
            0 | 1 => Act::OptOut {
                did: repo,
                is_out: self.chance(60),
            },
            2..=5 => Act::Insert {
                record: self.record(&repo, collection),
                repo,
                path,
                is_counted: self.rng.bool(),
            },
            6..=8 => Act::Delete {
                repo,
                path,
                is_counted: self.rng.bool(),
            },
            _ => Act::Touch,
        }
    }

    fn undo(&mut self, second: u64) -> Act {
        let collection = *self.pick(&[LIKE, REPOST, BOOKMARK, FOLLOW, BLOCK]);
        Act::Undo {
            repo: self.user(),
            path: self.path(collection),
            is_counted: self.rng.bool(),
            second,
        }
    }

    fn what(&mut self) -> What {
        let did = self.user();
        match self.rng.u32(..100) {
            0..=4 => What::Identity {
                handle: match self.rng.u32(..5) {
                    0 => None,
                    1 => Some(did.clone()),
                    2 => Some(String::new()),
                    // Of this history alone, and each soon of several users.
                    n => Some(format!("Name{n}.H{}.Example", self.seed)),
                },
                did,
            },
            5 => What::Account { did },
            6..=13 if !self.past.is_empty() => {
                let (repo, op) = self.past[self.rng.usize(..self.past.len())].clone();
                What::Commit { repo, ops: vec![op] }
            }
            _ => {
                let n_ops = *self.pick(&[0, 1, 1, 1, 1, 1, 2, 3]);
                let ops = (0..n_ops).map(|_| self.op(&did)).collect();
                What::Commit { repo: did, ops }
            }
        }
    }

    fn op(&mut self, repo: &str) -> Op {
        self.n_ops += 1;
        let collection = *self.pick(&COLLECTIONS);
        let mut op = Op {
            action: ["create", "create", "update", "delete"][self.rng.usize(..4)],
            path: self.path(collection),
            cid: None,
            record: None,
            is_sdk: false,
        };
        if op.action != "delete" {
            op.cid = Some(format!("bafyreicid{}", self.n_ops));
            op.record = Some(self.record(repo, collection));
            op.is_sdk = self.chance(40) && !matches!(collection, BOOKMARK | LABEL | CUSTOM);
        }
        if self.chance(6) {
            self.spoil(&mut op);
        }
        self.past.push((repo.to_owned(), op.clone()));
        op
    }

    /// Gives the op a shape that is ignored.
    fn spoil(&mut self, op: &mut Op) {
        op.is_sdk = false;
        match self.rng.u32(..8) {
            0 => op.record = None,
            1 => op.cid = None,
            2 => op.action = "frobnicate",
            3 => op.path.push_str("/more"),
            4 => op.path = op.path.replace('/', ""),
            5 => op.path = format!("{PROFILE}/other"),
            6 => op
                .record
                .iter_mut()
                .for_each(|record| record["$type"] = json!("app.bsky.feed.other")),
            _ => op.record.iter_mut().for_each(|record| record["subject"] = json!(7)),
        }
    }

    fn path(&mut self, collection: &str) -> String {
        let rkeys: &[&str] = match collection {
            PROFILE | LABELER => &["self"],
            LIKE | REPOST | BOOKMARK | FOLLOW => &["1", "2", "3"],
            _ => &["1", "2"],
        };
        format!("{collection}/{}", self.pick(rkeys))
    }

    fn uri(&mut self, collection: &str) -> String {
        let repo = if self.chance(4) {
            "handle.example".to_owned()
        } else {
            self.user()
        };
        let path = self.path(collection);
        format!("at://{repo}/{path}")
    }

    fn reference(&mut self, collection: &str) -> Value {
        let uri = self.uri(collection);
        json!({"$type": "com.atproto.repo.strongRef", "uri": uri, "cid": format!("bafyreiof{}", uri.len())})
    }

    /// A list of the repo's own as a rule: its items count nowhere else.
    fn list_of(&mut self, repo: &str) -> String {
        if self.chance(10) {
            return self.uri(LIST);
        }
        let path = self.path(LIST);
        format!("at://{repo}/{path}")
    }

    fn record(&mut self, repo: &str, collection: &str) -> Value {
        let mut record = match collection {
            POST => self.post(),
            LIKE | REPOST | BOOKMARK => self.pair(),
            FOLLOW | BLOCK => json!({"subject": self.user()}),
            LIST => json!({"name": "people", "purpose": "app.bsky.graph.defs#modlist"}),
            LISTITEM => json!({"list": self.list_of(repo), "subject": self.user()}),
            LISTBLOCK => json!({"subject": self.uri(LIST)}),
            VERIFICATION => json!({"subject": self.user(), "handle": "some.example", "displayName": "Some"}),
            GENERATOR => json!({"did": "did:web:feeds.example", "displayName": "Cats"}),
            STARTERPACK => json!({"name": "begin", "list": self.uri(LIST)}),
            LABELER => json!({"policies": {"$type": "app.bsky.labeler.defs#labelerPolicies", "labelValues": ["spam"]}}),
            LABEL => json!({"uri": self.uri(POST), "val": self.pick(&["spam", "rude"])}),
            THREADGATE => self.thread_gate(),
            POSTGATE => json!({"post": self.uri(POST), "detachedEmbeddingUris": [self.uri(POST)]}),
            PROFILE => self.profile(),
            _ => json!({"title": self.pick(&["one", "two"]), "nothing": null}),
        };
        if matches!(collection, LIST | GENERATOR | STARTERPACK) && self.rng.bool() {
            record["description"] = json!("about it");
        }
        if matches!(collection, LIST | GENERATOR) && self.rng.bool() {
            record["avatar"] = blob(AVATAR, "image/png");
        }
        if collection == STARTERPACK && self.rng.bool() {
            record["feeds"] = json!([{"$type": "app.bsky.graph.starterpack#feedItem", "uri": self.uri(GENERATOR)}]);
        }
        record["$type"] = json!(collection);
        if let Some(date) = self.date() {
            record["createdAt"] = json!(date);
        }
        record
    }

    fn date(&mut self) -> Option<&'static str> {
        *self.pick(&[
            None,
            Some("yesterday"),
            Some("2999-01-01T00:00:00Z"),
            Some("2023-05-06"),
            Some("2023-05-06T09:08:09+02:00"),
            Some("2023-05-06T07:08:09.1234567Z"),
            Some("2023-05-06T07:08:10Z"),
        ])
    }

    fn post(&mut self) -> Value {
        let mut post = json!({"text": self.pick(&["hello", "", "nul\0in it"])});
        if self.chance(35) {
            post["reply"] = json!({
                "$type": "app.bsky.feed.post#replyRef", "parent": self.reference(POST), "root": self.reference(POST),
            });
        }
        if self.chance(40) {
            post["embed"] = self.embed();
        }
        if self.chance(30) {
            let dids: Vec<String> = (0..1 + self.rng.usize(..2)).map(|_| self.user()).collect();
            post["facets"] = dids.iter().map(|did| mention(did)).collect();
        }
        match self.rng.u32(..4) {
            0 => post["langs"] = json!(["en", "de"]),
            1 => post["langs"] = json!([]),
            _ => {}
        }
        if self.chance(20) {
            post["tags"] = json!(["one"]);
        }
        post
    }

    fn embed(&mut self) -> Value {
        let quote = |reference: Value| json!({"$type": "app.bsky.embed.record", "record": reference});
        let images = json!({"$type": "app.bsky.embed.images", "images": [{
            "$type": "app.bsky.embed.images#image", "alt": "", "image": blob(IMAGE, "image/png"),
            "aspectRatio": {"$type": "app.bsky.embed.defs#aspectRatio", "height": 3, "width": 4},
        }]});
        match self.rng.u32(..20) {
            0..=9 => quote(self.reference(POST)),
            10 => quote(self.reference(GENERATOR)),
            11..=13 => {
                let record = quote(self.reference(POST));
                json!({"$type": "app.bsky.embed.recordWithMedia", "record": record, "media": images})
            }
            14..=17 => images,
            18 => refused(),
            _ => json!("no embed"),
        }
    }

    fn pair(&mut self) -> Value {
        let mut record =
            json!({"subject": if self.chance(8) { self.reference(GENERATOR) } else { self.reference(POST) }});
        if self.chance(15) {
            record["via"] = self.reference(REPOST);
        }
        record
    }

    fn thread_gate(&mut self) -> Value {
        let mut gate = json!({"post": self.uri(POST)});
        match self.rng.u32(..4) {
            0 => {}
            1 => gate["allow"] = json!([]),
            2 => gate["allow"] = json!([{"$type": "app.bsky.feed.threadgate#mentionRule"}]),
            _ => gate["allow"] = json!([{"$type": "app.bsky.feed.threadgate#listRule", "list": self.uri(LIST)}]),
        }
        gate
    }

    fn profile(&mut self) -> Value {
        let mut profile = json!({"displayName": self.pick(&["Some One", "Another"])});
        if self.rng.bool() {
            profile["description"] = json!("about me");
            profile["avatar"] = blob(AVATAR, "image/png");
            profile["pinnedPost"] = self.reference(POST);
        }
        profile
    }
}

fn mention(did: &str) -> Value {
    json!({
        "$type": "app.bsky.richtext.facet",
        "index": {"$type": "app.bsky.richtext.facet#byteSlice", "byteStart": 0, "byteEnd": 2},
        "features": [{"$type": "app.bsky.richtext.facet#mention", "did": did}],
    })
}

/// An embed with a number that PostgreSQL's jsonb cannot hold: no check before the database sees anything wrong.
fn refused() -> Value {
    let number: Value = serde_json::from_str("1e999999").expect("it is JSON");
    json!({"$type": "com.example.embed", "number": number})
}

pub(crate) fn is_refused(record: &Value) -> bool {
    record["embed"]["$type"] == "com.example.embed"
}
