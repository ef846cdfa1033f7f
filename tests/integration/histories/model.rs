//! The expected contents of the tables after a history: an independent implementation that applies one op after the
//! other in memory. An update is a delete and a create. It has no batches, no folding, and no SQL except the AppView's
//! own.
//!
//! Values that cannot be known are left open (`Open`): the counter of a subject that the AppView has miscounted, until
//! an op finds one of the AppView's rows, and the side effects that such a row may or may not have.

mod app;
mod pairs;
mod posts;
mod tables;
mod times;

use std::collections::{BTreeMap, BTreeSet};

use firehose_worker::rows::{KEYED_TABLES, PairTable};
use serde_json::{Value, json};

use super::columns::Put;
use super::history::{Event, History, Op, What, is_refused};
use crate::records::*;

/// Stands for a value that is not defined.
pub(crate) const ANY: &str = "any value";

/// The side effects that the worker is configured to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switched {
    pub(crate) notifications: bool,
    pub(crate) viewer_states: bool,
    pub(crate) generic_records: bool,
}

/// A live record of a pair.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) collection: String,
    pub(crate) actor: String,
    pub(crate) pair: (String, String),
    pub(crate) row: Value,
    /// Of the ops that put it; its row may be older.
    times: Value,
    cid: String,
    /// Of its last create or update: second of the entry, number of the op. A row of others came before all.
    place: (u64, usize),
    is_foreign: bool,
    had_rival: bool,
    /// It got its row in this phase by a rival's going: if it is put again, a batch may see but that put.
    was_next: bool,
    /// Its actor has opted out since: if it waits for its row, it may have been met and forgotten.
    pub(crate) may_be_forgotten: bool,
}

impl Pair {
    fn is_of(&self, collection: &str, pair: &(String, String)) -> bool {
        self.collection == collection && self.pair == *pair
    }
}

#[derive(Clone, Default)]
struct Viewer {
    like_uri: Option<String>,
    repost_uri: Option<String>,
    bookmarked: bool,
}

struct Post {
    row: Value,
    is_foreign: bool,
}

/// What cannot be known.
#[derive(Default)]
pub(crate) struct Open {
    /// Subject and counter.
    pub(crate) counters: BTreeSet<(String, &'static str)>,
    /// Records whose side effects may be there or not, with the times that those may have.
    pub(crate) effects: BTreeMap<String, Value>,
    /// Subjects whose viewer states may still name a record: the app deleted its row, and the record moved on.
    pub(crate) states: BTreeSet<(String, String)>,
}

pub(crate) struct Model {
    switched: Switched,
    seed: u64,
    opted_out: BTreeSet<String>,
    users: BTreeMap<String, Value>,
    posts: BTreeMap<String, Post>,
    pairs: BTreeMap<String, Pair>,
    /// Rows that depend on nothing but their record, by table and key.
    keyed: BTreeMap<(&'static str, String), Value>,
    feed_items: BTreeMap<String, Value>,
    quotes: BTreeMap<String, Value>,
    notifications: BTreeMap<String, Value>,
    viewers: BTreeMap<(String, String), Viewer>,
    thread_contexts: BTreeSet<String>,
    /// Notifications of the current record that have been read, as far as that is known.
    read: BTreeMap<String, Value>,
    /// Those that were read before an op of this phase: if one is deleted and created again, a batch may have seen both
    /// ops or neither.
    read_before: BTreeSet<String>,
    /// Rows of others that a rival has met in this phase, with the rival.
    met: Vec<(String, String)>,
    /// Subjects whose viewer states name a record of which the app has deleted the row, by record.
    states_left: BTreeMap<String, String>,
    times: times::Times,
    pub(crate) open: Open,
    pub(crate) refused: usize,
}

impl Model {
    pub(crate) fn new(history: &History, switched: Switched, repeats: bool) -> Self {
        Self {
            switched,
            seed: history.seed,
            opted_out: BTreeSet::new(),
            users: BTreeMap::new(),
            posts: BTreeMap::new(),
            pairs: BTreeMap::new(),
            keyed: BTreeMap::new(),
            feed_items: BTreeMap::new(),
            quotes: BTreeMap::new(),
            notifications: BTreeMap::new(),
            viewers: BTreeMap::new(),
            thread_contexts: BTreeSet::new(),
            read: BTreeMap::new(),
            read_before: BTreeSet::new(),
            met: Vec::new(),
            states_left: BTreeMap::new(),
            times: times::Times::new(repeats),
            open: Open::default(),
            refused: 0,
        }
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match &event.what {
            What::Account { .. } => {}
            What::Identity { did, handle } => {
                if let Some(handle) = handle.as_deref().filter(|handle| !handle.is_empty() && *handle != did) {
                    let handle = json!(handle.to_lowercase());
                    let others = self.users.values_mut().filter(|user| user["handle"] == handle);
                    others.for_each(|user| user["handle"] = json!("handle.invalid"));
                    self.ensure(did, &times::of_event(event));
                    self.users.get_mut(did).expect("just made")["handle"] = handle;
                }
            }
            What::Commit { repo, ops } => {
                for (n, op) in ops.iter().enumerate() {
                    self.op(event, repo, op, n);
                }
            }
        }
    }

    fn op(&mut self, event: &Event, repo: &str, op: &Op, n: usize) {
        let Some((collection, rkey)) = op.path.split_once('/').filter(|(_, rkey)| !rkey.contains('/')) else {
            return;
        };
        let is_singleton = matches!(collection, PROFILE | LABELER);
        if is_singleton && rkey != "self" || collection == "app.bsky.actor.status" {
            return;
        }
        match (op.action, &op.record, &op.cid) {
            ("delete", _, _) => self.delete(repo, collection, rkey),
            ("create" | "update", Some(record), Some(cid)) if is_shaped(repo, collection, record) => {
                let id = format!("{}-{}", event.ms(), self.seed);
                let put = Put {
                    repo,
                    collection,
                    rkey,
                    cid,
                    record,
                    event,
                    seq: if event.has_seq { seq_of(event) } else { id },
                };
                self.put(&put, (event.second, n));
            }
            _ => {}
        }
    }

    fn put(&mut self, put: &Put, place: (u64, usize)) {
        let collection = put.collection;
        if table(collection) == "generic_records" && !self.switched.generic_records {
            return;
        }
        let is_ensured = !matches!(collection, LISTBLOCK | LABEL | THREADGATE | POSTGATE | CUSTOM);
        if is_ensured {
            self.ensure(put.repo, &times::of_event(put.event));
        }
        if collection != LABEL && self.opted_out.contains(put.repo) {
            return;
        }
        if matches!(collection, FOLLOW | BLOCK | LISTITEM) {
            self.ensure(&text_of(put.record, "subject"), &times::of_event(put.event));
        }
        if is_refused(put.record) {
            self.refused += 1;
            self.times.puts(&put.uri(), &put.time());
            return;
        }
        match collection {
            PROFILE => {
                let row = self.users.get_mut(put.repo).expect("ensured");
                *row = with(row.take(), put.profile());
            }
            POST => self.put_post(put),
            _ if is_pair(collection) => self.put_pair(put, place),
            THREADGATE if !put.record["allow"].is_array() => self.delete(put.repo, collection, put.rkey),
            _ => self.put_keyed(put),
        }
    }

    fn put_keyed(&mut self, put: &Put) {
        let key = (table(put.collection), key(put.repo, put.collection, put.rkey));
        let mut row = put.row();
        if !matches!(put.collection, THREADGATE | POSTGATE) {
            row["indexed_at"] = put.time();
        }
        if let Some(old) = self.keyed.get(&key) {
            if let Some(likes) = old.get("like_count") {
                row["like_count"] = likes.clone();
            }
            if matches!(put.collection, GENERATOR | STARTERPACK | LABELER) {
                row["indexed_at"] = self.times.replace(&key, old, &row);
            } else if let Some(time) = old.get("indexed_at") {
                row["indexed_at"] = time.clone();
            }
        }
        self.keyed.insert(key, row);
    }

    fn ensure(&mut self, did: &str, time: &Value) {
        let is_new = !self.users.contains_key(did);
        let row = self.users.entry(did.to_owned()).or_insert_with(|| user_row(did));
        self.times.wants_user(did, row, time, is_new);
    }

    fn delete(&mut self, repo: &str, collection: &str, rkey: &str) {
        let uri = uri(repo, collection, rkey);
        match collection {
            PROFILE => {
                if let Some(row) = self.users.get_mut(repo) {
                    let kept = json!({"handle": row["handle"], "indexed_at": row["indexed_at"]});
                    *row = with(user_row(repo), kept);
                }
            }
            POST => self.delete_post(&uri),
            _ if is_pair(collection) => self.delete_pair(&uri, collection, repo),
            _ => {
                self.keyed.remove(&(table(collection), key(repo, collection, rkey)));
            }
        }
    }

    /// Ends a phase. Rows of other programs are complete if a rival was applied beside them. If the rival was deleted
    /// again, it is unknown whether a batch ever saw it.
    pub(crate) fn end_phase(&mut self) {
        for (uri, rival) in std::mem::take(&mut self.met) {
            let Some(holder) = self.pairs.get(&uri).filter(|holder| holder.is_foreign).cloned() else {
                continue;
            };
            let stays = self.pairs.get(&rival).is_some_and(|rival| rival.pair == holder.pair);
            if stays {
                self.known(&holder);
                self.keep_read(&uri);
                self.close_effects(&uri);
                self.establish(&uri, &holder);
            } else {
                let times = self.open.effects.entry(uri).or_insert_with(|| json!([]));
                *times = times::either(times, &self.times.now());
            }
        }
        self.pairs.values_mut().for_each(|pair| pair.was_next = false);
        self.read.clear();
        self.read_before.clear();
        self.times.end_phase();
    }

    /// Has a record's side effects keep their times, and notifications stay read, where they stay.
    fn keep_read(&mut self, uri: &str) {
        let own = format!("{uri}#notification");
        let of_record = self.notifications.iter().filter(|(uri, _)| uri.starts_with(&own));
        let read = of_record.filter(|(_, row)| row["is_read"] != false);
        self.read = read.map(|(uri, row)| (uri.clone(), row["is_read"].clone())).collect();
        self.read_before.extend(self.read.keys().cloned());
        let sides = [&self.feed_items, &self.quotes, &self.notifications]
            .into_iter()
            .flatten();
        let of_record = sides.filter(|(key, _)| *key == uri || key.starts_with(&format!("{uri}#")));
        self.times.kept = of_record
            .map(|(key, row)| (key.clone(), row["indexed_at"].clone()))
            .collect();
    }

    /// Side effects that may have been written in earlier phases are known from here on, except for their time and
    /// whether they have been read.
    fn close_effects(&mut self, uri: &str) {
        if let Some(times) = self.open.effects.remove(uri) {
            let own = format!("{uri}#notification");
            self.times.goes(&own, &times);
            self.read_before.insert(own);
        }
    }

    /// A delete removes them for good: later ones are new.
    fn forget_read(&mut self, uri: &str) {
        let own = format!("{uri}#notification");
        self.times.deleted(uri);
        self.read.clear();
        self.read_before.retain(|uri| !uri.starts_with(&own));
    }

    fn notify(&mut self, uri: String, mut row: Value) {
        if self.switched.notifications {
            row["is_read"] = match self.read.remove(&uri) {
                Some(is_read) => is_read,
                None if self.read_before.contains(&uri) => json!(ANY),
                None => json!(false),
            };
            row["indexed_at"] = self.times.of_effect(&uri, self.times.now());
            self.notifications.insert(uri, row);
        }
    }
}

/// The seq that an entry of the event carries.
pub(crate) fn seq_of(event: &Event) -> String {
    (event.second + 1).to_string()
}

pub(crate) const COUNTERS: [&str; 5] = [
    "like_count",
    "repost_count",
    "reply_count",
    "bookmark_count",
    "quote_count",
];

fn counter(collection: &str) -> Option<&'static str> {
    match collection {
        LIKE => Some("like_count"),
        REPOST => Some("repost_count"),
        BOOKMARK => Some("bookmark_count"),
        _ => None,
    }
}

pub(crate) fn table(collection: &str) -> &'static str {
    let of_keyed = || KEYED_TABLES.iter().find(|table| table.collection == Some(collection));
    match collection {
        POST => "posts",
        PROFILE => "users",
        _ => match pair_table(collection) {
            Some(table) => table.name(),
            None => of_keyed().map_or("generic_records", |table| table.name),
        },
    }
}

fn columns(collection: &str) -> (&'static str, &'static str) {
    match collection {
        FOLLOW => ("follower_did", "following_did"),
        BLOCK => ("blocker_did", "blocked_did"),
        _ => ("user_did", "post_uri"),
    }
}

fn pair_table(collection: &str) -> Option<PairTable> {
    PairTable::ALL
        .into_iter()
        .find(|table| table.info().collection == collection)
}

fn is_pair(collection: &str) -> bool {
    pair_table(collection).is_some()
}

/// Of whom and what a table holds one row.
fn pair_of(collection: &str, repo: &str, record: &Value) -> (String, String) {
    let subject = match collection {
        LIKE | REPOST | BOOKMARK => text_of(&record["subject"], "uri"),
        _ => text_of(record, "subject"),
    };
    match collection {
        LISTITEM => (text_of(record, "list"), subject),
        VERIFICATION => (subject, String::new()),
        _ => (repo.to_owned(), subject),
    }
}

/// Whether the record is one of its collection at all, and has what its row's key needs.
fn is_shaped(repo: &str, collection: &str, record: &Value) -> bool {
    let starts = |value: &Value, with: &str| value.as_str().is_some_and(|text| text.starts_with(with));
    let is_typed = collection == CUSTOM || record["$type"] == collection;
    is_typed
        && match collection {
            LIKE | REPOST | BOOKMARK => starts(&record["subject"]["uri"], "at://"),
            FOLLOW | BLOCK | VERIFICATION => starts(&record["subject"], "did:"),
            LISTITEM => starts(&record["subject"], "did:") && starts(&record["list"], &format!("at://{repo}/")),
            LISTBLOCK => starts(&record["subject"], "at://"),
            _ => true,
        }
}

fn key(repo: &str, collection: &str, rkey: &str) -> String {
    match collection {
        THREADGATE | POSTGATE => uri(repo, POST, rkey),
        _ => uri(repo, collection, rkey),
    }
}

fn authority(uri: &str) -> &str {
    uri.trim_start_matches("at://").split('/').next().unwrap_or_default()
}

fn is_post(uri: &str) -> bool {
    uri.split('/').nth(3) == Some(POST)
}

fn feed_item(uri: &str, post_uri: &str, actor: &str, kind: &str, cid: &str, created_at: &Value) -> Value {
    json!({
        "uri": uri, "post_uri": post_uri, "originator_did": actor, "type": kind, "sort_at": created_at, "cid": cid,
        "created_at": created_at,
    })
}

fn notification(
    uri: &str,
    recipient: &str,
    author: &str,
    reason: &str,
    subject: Value,
    cid: Value,
    created_at: &Value,
) -> Value {
    json!({
        "uri": uri, "recipient_did": recipient, "author_did": author, "reason": reason, "reason_subject": subject,
        "cid": cid, "is_read": false, "created_at": created_at,
    })
}
