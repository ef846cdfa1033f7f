//! What rows cause in tables that are not their own: counters, feed items, notifications, viewer states.
//!
//! Owns the sums over a batch: every row that came, went or changed is told here, and `write` then touches each row of
//! those tables once. Knows nothing of why a row came or went.
//!
//! Invariant: a counter moves only by rows that a statement of this transaction really inserted or deleted, or it is
//! counted anew.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use postgres::Client;
use postgres::types::Type;

use super::copy::{Way, copy};
use super::params::{Params, Timestamp};
use crate::decode::text::fits;
use crate::decode::time::Micros;
use crate::fault::ApplyError;
use crate::rows::{DID_MAX, PairRow, PairTable, Post, URI_MAX};
use crate::sql;

type Text<'e> = Cow<'e, str>;

/// Which side effects are written; what is there is taken back by deletes all the same.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    pub notifications: bool,
    pub viewer_states: bool,
    pub generic_records: bool,
}

/// Rows really inserted less rows really deleted, as the hash `db:record_counts` holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    pub users: i64,
    pub posts: i64,
    pub likes: i64,
    pub reposts: i64,
    pub follows: i64,
    pub blocks: i64,
    pub feed_items: i64,
    pub post_aggregations: i64,
}

/// The counters of post_aggregations, in the order of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    Likes,
    Reposts,
    Replies,
    Bookmarks,
    Quotes,
}

#[derive(Default)]
struct Counters {
    differences: [i32; 5],
    recounted: [bool; 5],
}

struct FeedItem<'e> {
    post_uri: Text<'e>,
    originator_did: Text<'e>,
    kind: &'static str,
    created_at: Micros,
    /// Unknown of a row that others made, which holds none.
    cid: Option<Text<'e>>,
}

pub struct Notification<'e> {
    pub uri: String,
    recipient_did: Text<'e>,
    author_did: Text<'e>,
    reason: &'static str,
    reason_subject: Option<Text<'e>>,
    /// Unknown of a row that others made, which holds none.
    cid: Option<Text<'e>>,
    created_at: Micros,
}

/// What a viewer state is to name, or to name no longer.
#[derive(Default)]
struct Viewer<'e> {
    like_uri: Option<Text<'e>>,
    repost_uri: Option<Text<'e>>,
    is_bookmark: bool,
}

type Viewers<'e> = BTreeMap<(Text<'e>, Text<'e>), Viewer<'e>>;

/// The side effects of a batch.
pub struct Effects<'e> {
    switches: Switches,
    /// Some rows were there before, and may have caused all that they cause now.
    has_old_rows: bool,
    pub record_counts: RecordCounts,
    counters: BTreeMap<Text<'e>, Counters>,
    feed_items: BTreeMap<Text<'e>, FeedItem<'e>>,
    feed_items_gone: BTreeSet<Text<'e>>,
    notifications: BTreeMap<String, Notification<'e>>,
    notifications_gone: BTreeSet<String>,
    viewers: Viewers<'e>,
    viewers_gone: Viewers<'e>,
}

impl<'e> Effects<'e> {
    pub fn new(switches: Switches) -> Self {
        Effects {
            switches,
            has_old_rows: false,
            record_counts: RecordCounts::default(),
            counters: BTreeMap::new(),
            feed_items: BTreeMap::new(),
            feed_items_gone: BTreeSet::new(),
            notifications: BTreeMap::new(),
            notifications_gone: BTreeSet::new(),
            viewers: BTreeMap::new(),
            viewers_gone: BTreeMap::new(),
        }
    }

    /// Counts a row that came (+1) or went (-1). Only `at://` subjects are counted.
    pub fn count(&mut self, subject: Text<'e>, counter: Counter, difference: i32) {
        if let Some(counters) = self.counters(subject) {
            counters.differences[counter as usize] += difference;
        }
    }

    /// Has a subject's counter set from its rows: somebody else made or deleted some, and may have counted or not.
    pub fn recount(&mut self, subject: Text<'e>, counter: Counter) {
        if let Some(counters) = self.counters(subject) {
            counters.recounted[counter as usize] = true;
        }
    }

    /// The same for the counter that rows of the table make up, if they do.
    pub fn recount_pair(&mut self, table: PairTable, subject: Text<'e>) {
        if let Some(counter) = counter_of(table) {
            self.recount(subject, counter);
        }
    }

    fn counters(&mut self, subject: Text<'e>) -> Option<&mut Counters> {
        let is_subject = subject.starts_with("at://");
        is_subject.then(|| self.counters.entry(subject).or_default())
    }

    /// A post that is there, new or not: the row of counters that readers join, its feed item, its notifications.
    pub fn post_is(&mut self, post: &'e Post<'e>) {
        self.counters.entry(Cow::Borrowed(&post.uri)).or_default();
        self.feed_items.insert(
            Cow::Borrowed(&post.uri),
            FeedItem {
                post_uri: Cow::Borrowed(&post.uri),
                originator_did: Cow::Borrowed(&post.author_did),
                kind: "post",
                created_at: post.created_at,
                cid: Some(Cow::Borrowed(&post.cid)),
            },
        );
        for notification in post_notifications(post) {
            self.notify(notification);
        }
    }

    /// A row of a pair that was inserted.
    pub fn pair_came(&mut self, table: PairTable, row: &'e PairRow<'e>) {
        self.count_pair(table, Cow::Borrowed(&row.key_b), 1);
        self.pair_is(table, row);
    }

    /// A row of a pair that is there, new or not: all that it causes but counts.
    pub fn pair_is(&mut self, table: PairTable, row: &'e PairRow<'e>) {
        let viewer = || (Cow::Borrowed(row.key_b.as_ref()), Cow::Borrowed(row.key_a.as_ref()));
        let uri = Some(Cow::Borrowed(row.uri.as_ref()));
        match table {
            PairTable::Likes => self.viewers.entry(viewer()).or_default().like_uri = uri,
            PairTable::Reposts => {
                self.viewers.entry(viewer()).or_default().repost_uri = uri;
                self.feed_items.insert(
                    Cow::Borrowed(&row.uri),
                    FeedItem {
                        post_uri: Cow::Borrowed(&row.key_b),
                        originator_did: Cow::Borrowed(&row.key_a),
                        kind: "repost",
                        created_at: row.created_at,
                        cid: known_cid(row),
                    },
                );
            }
            PairTable::Bookmarks => self.viewers.entry(viewer()).or_default().is_bookmark = true,
            _ => {}
        }
        if let Some(notification) = pair_notification(table, row) {
            self.notify(notification);
        }
    }

    /// A row of a pair that was deleted.
    pub fn pair_went(&mut self, table: PairTable, uri: Text<'e>, key_a: Text<'e>, key_b: Text<'e>) {
        self.count_pair(table, key_b.clone(), -1);
        self.pair_is_not(table, uri, key_a, key_b);
    }

    /// A row of a pair that is not there: all that it causes but counts and its notification, which
    /// `notifications_gone` tells.
    pub fn pair_is_not(&mut self, table: PairTable, uri: Text<'e>, key_a: Text<'e>, key_b: Text<'e>) {
        let viewer = (key_b, key_a);
        // What came earlier in the batch may go again, when a rival turns out to be before it.
        let mut coming = self.viewers.get_mut(&viewer);
        let takes_back = |coming: &mut Option<Text<'e>>| *coming = coming.take().filter(|came| *came != uri);
        match table {
            PairTable::Likes => {
                coming.iter_mut().for_each(|viewer| takes_back(&mut viewer.like_uri));
                self.viewers_gone.entry(viewer).or_default().like_uri = Some(uri);
            }
            PairTable::Reposts => {
                coming.iter_mut().for_each(|viewer| takes_back(&mut viewer.repost_uri));
                self.viewers_gone.entry(viewer).or_default().repost_uri = Some(uri.clone());
                self.feed_items.remove(&uri);
                self.feed_items_gone.insert(uri);
            }
            // The pair has one bookmark or none: if another takes its place, that comes after.
            PairTable::Bookmarks => {
                coming.iter_mut().for_each(|viewer| viewer.is_bookmark = false);
                self.viewers_gone.entry(viewer).or_default().is_bookmark = true;
            }
            _ => {}
        }
    }

    fn count_pair(&mut self, table: PairTable, subject: Text<'e>, difference: i32) {
        if let Some(counter) = counter_of(table) {
            self.count(subject, counter, difference);
        }
        let counts = &mut self.record_counts;
        match table {
            PairTable::Likes => counts.likes += i64::from(difference),
            PairTable::Reposts => counts.reposts += i64::from(difference),
            PairTable::Follows => counts.follows += i64::from(difference),
            PairTable::Blocks => counts.blocks += i64::from(difference),
            _ => {}
        }
    }

    /// A row that was there before was changed.
    pub fn meets_old_rows(&mut self) {
        self.has_old_rows = true;
    }

    /// The feed item of a post that is not there.
    pub fn feed_item_gone(&mut self, uri: Text<'e>) {
        self.feed_items_gone.insert(uri);
    }

    /// Notifications that nothing causes any more.
    pub fn notifications_gone(&mut self, uris: impl IntoIterator<Item = String>) {
        for uri in uris {
            self.notifications.remove(&uri);
            self.notifications_gone.insert(uri);
        }
    }

    /// A notification that stays but is for somebody else now: the new one is written over the old, and where none are
    /// written, the old one goes.
    pub fn notification_moved(&mut self, uri: String) {
        if !self.switches.notifications {
            self.notifications_gone.insert(uri);
        }
    }

    /// Where notifications are switched off, one that went stays gone, though what causes it has come again.
    fn notify(&mut self, notification: Notification<'e>) {
        if !self.switches.notifications {
            return;
        }
        self.notifications_gone.remove(&notification.uri);
        if fits(&notification.uri, URI_MAX) {
            self.notifications.insert(notification.uri.clone(), notification);
        }
    }

    /// Writes everything, in the global order of tables. Returns the differences of record counts.
    pub fn write(mut self, client: &mut Client, way: Way) -> Result<RecordCounts, ApplyError> {
        let way = if self.has_old_rows { Way::Insert } else { way };
        self.write_feed_items(client, way)?;
        self.write_notifications(client, way)?;
        self.write_viewers(client)?;
        self.write_counters(client)?;
        Ok(self.record_counts)
    }

    fn write_feed_items(&mut self, client: &mut Client, way: Way) -> Result<(), ApplyError> {
        self.feed_items_gone.retain(|uri| !self.feed_items.contains_key(uri));
        if !self.feed_items_gone.is_empty() {
            let deleted = Params::new()
                .texts(self.feed_items_gone.iter())
                .execute(client, sql::FEED_ITEMS_DELETE)?;
            self.record_counts.feed_items -= deleted as i64;
        }
        if self.feed_items.is_empty() {
            return Ok(());
        }
        if way.copies(self.feed_items.len()) {
            self.record_counts.feed_items += copy_feed_items(client, &self.feed_items)? as i64;
            return Ok(());
        }
        let items = || self.feed_items.values();
        let rows = Params::new()
            .texts(self.feed_items.keys())
            .texts(items().map(|item| &item.post_uri))
            .texts(items().map(|item| &item.originator_did))
            .texts(items().map(|item| item.kind))
            .times(items().map(|item| item.created_at))
            .optional_texts(items().map(|item| &item.cid))
            .query(client, sql::FEED_ITEMS_UPSERT)?;
        self.record_counts.feed_items += rows.first().map_or(0, |row| row.get::<_, i64>(0));
        Ok(())
    }

    fn write_notifications(&mut self, client: &mut Client, way: Way) -> Result<(), ApplyError> {
        if !self.notifications_gone.is_empty() {
            Params::new()
                .texts(self.notifications_gone.iter())
                .execute(client, sql::NOTIFICATIONS_DELETE)?;
        }
        if self.notifications.is_empty() {
            return Ok(());
        }
        if way.copies(self.notifications.len()) {
            copy_notifications(client, &self.notifications)?;
            return Ok(());
        }
        let notifications = || self.notifications.values();
        Params::new()
            .texts(self.notifications.keys())
            .texts(notifications().map(|n| &n.recipient_did))
            .texts(notifications().map(|n| &n.author_did))
            .texts(notifications().map(|n| n.reason))
            .optional_texts(notifications().map(|n| &n.reason_subject))
            .optional_texts(notifications().map(|n| &n.cid))
            .times(notifications().map(|n| n.created_at))
            .execute(client, sql::NOTIFICATIONS_UPSERT)?;
        Ok(())
    }

    fn write_viewers(&mut self, client: &mut Client) -> Result<(), ApplyError> {
        if !self.viewers_gone.is_empty() {
            clear_viewers(client, &self.viewers_gone)?;
        }
        if self.switches.viewer_states && !self.viewers.is_empty() {
            viewer_params(&self.viewers).execute(client, sql::VIEWER_STATES_SET)?;
        }
        Ok(())
    }

    fn write_counters(&mut self, client: &mut Client) -> Result<(), ApplyError> {
        if self.counters.is_empty() {
            return Ok(());
        }
        let differences = |counter: Counter| self.counters.values().map(move |c| c.differences[counter as usize]);
        let rows = Params::new()
            .texts(self.counters.keys())
            .ints(differences(Counter::Likes))
            .ints(differences(Counter::Reposts))
            .ints(differences(Counter::Replies))
            .ints(differences(Counter::Bookmarks))
            .ints(differences(Counter::Quotes))
            .query(client, sql::COUNTERS_ADD)?;
        self.record_counts.post_aggregations += rows.first().map_or(0, |row| row.get::<_, i64>(0));
        let recounted = self
            .counters
            .iter()
            .filter(|(_, counters)| counters.recounted.contains(&true));
        recount(
            client,
            recounted
                .map(|(subject, counters)| (subject.as_ref(), counters.recounted))
                .collect(),
        )
    }
}

/// Sets counters of subjects, which are sorted, from their rows: those of the five that are wanted.
fn recount(client: &mut Client, subjects: Vec<(&str, [bool; 5])>) -> Result<(), ApplyError> {
    if subjects.is_empty() {
        return Ok(());
    }
    let is_wanted = |counter: Counter| subjects.iter().map(move |(_, wanted)| wanted[counter as usize]);
    Params::new()
        .texts(subjects.iter().map(|(subject, _)| *subject))
        .bools(is_wanted(Counter::Likes))
        .bools(is_wanted(Counter::Reposts))
        .bools(is_wanted(Counter::Replies))
        .bools(is_wanted(Counter::Bookmarks))
        .bools(is_wanted(Counter::Quotes))
        .execute(client, sql::COUNTERS_RECOUNT)?;
    Ok(())
}

fn copy_feed_items(client: &mut Client, items: &BTreeMap<Text, FeedItem>) -> Result<u64, ApplyError> {
    const TYPES: [Type; 7] = [
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMP,
        Type::TIMESTAMP,
        Type::TEXT,
    ];
    copy(
        client,
        sql::FEED_ITEMS_COPY,
        &TYPES,
        items.iter(),
        |(uri, item), write| {
            let created_at = Timestamp(item.created_at);
            write(&[
                uri,
                &item.post_uri,
                &item.originator_did,
                &item.kind,
                &created_at,
                &created_at,
                &item.cid,
            ])
        },
    )
}

fn copy_notifications(client: &mut Client, items: &BTreeMap<String, Notification>) -> Result<u64, ApplyError> {
    const TYPES: [Type; 7] = [
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMP,
    ];
    copy(
        client,
        sql::NOTIFICATIONS_COPY,
        &TYPES,
        items.values(),
        |item, write| {
            write(&[
                &item.uri,
                &item.recipient_did,
                &item.author_did,
                &item.reason,
                &item.reason_subject,
                &item.cid,
                &Timestamp(item.created_at),
            ])
        },
    )
}

fn clear_viewers(client: &mut Client, gone: &Viewers) -> Result<(), ApplyError> {
    // Twice only where a state vanished at that very moment.
    for _ in 0..2 {
        let rows = viewer_params(gone).query(client, sql::VIEWER_STATES_CLEAR)?;
        if rows.first().is_none_or(|row| row.get::<_, i64>(0) == 0) {
            return Ok(());
        }
    }
    Err(ApplyError::Vanished("post_viewer_states"))
}

fn viewer_params<'p>(viewers: &'p Viewers<'_>) -> Params<'p> {
    Params::new()
        .texts(viewers.keys().map(|(post_uri, _)| post_uri))
        .texts(viewers.keys().map(|(_, viewer_did)| viewer_did))
        .optional_texts(viewers.values().map(|viewer| &viewer.like_uri))
        .optional_texts(viewers.values().map(|viewer| &viewer.repost_uri))
        .bools(viewers.values().map(|viewer| viewer.is_bookmark))
}

/// The counter that rows of the table make up.
fn counter_of(table: PairTable) -> Option<Counter> {
    match table {
        PairTable::Likes => Some(Counter::Likes),
        PairTable::Reposts => Some(Counter::Reposts),
        PairTable::Bookmarks => Some(Counter::Bookmarks),
        _ => None,
    }
}

/// The URI of the one notification that a row of the table may cause.
pub fn pair_notification_uri(table: PairTable, uri: &str) -> Option<String> {
    matches!(table, PairTable::Likes | PairTable::Reposts | PairTable::Follows).then(|| format!("{uri}#notification"))
}

fn pair_notification<'e>(table: PairTable, row: &'e PairRow<'e>) -> Option<Notification<'e>> {
    let (reason, recipient, reason_subject) = match table {
        PairTable::Likes => ("like", post_author(&row.key_b)?, Some(&row.key_b)),
        PairTable::Reposts => ("repost", post_author(&row.key_b)?, Some(&row.key_b)),
        PairTable::Follows => ("follow", row.key_b.as_ref(), None),
        _ => return None,
    };
    (recipient != row.key_a).then(|| Notification {
        uri: format!("{}#notification", row.uri),
        recipient_did: Cow::Borrowed(recipient),
        author_did: Cow::Borrowed(&row.key_a),
        reason,
        reason_subject: reason_subject.map(|uri| Cow::Borrowed(uri.as_ref())),
        cid: known_cid(row),
        created_at: row.created_at,
    })
}

/// The record's CID, unless the row is one that was read from a table without such a column.
fn known_cid<'e>(row: &'e PairRow<'e>) -> Option<Text<'e>> {
    (!row.cid.is_empty()).then_some(Cow::Borrowed(row.cid.as_ref()))
}

/// The URIs of all notifications that a post with those mentions may cause.
pub fn post_notification_uris(uri: &str, mentions: impl Iterator<Item: AsRef<str>>) -> Vec<String> {
    let mut uris = vec![reply_notification_uri(uri), quote_notification_uri(uri)];
    uris.extend(mentions.map(|did| mention_uri(uri, did.as_ref())));
    uris
}

/// The URI of the notification of a post's reply.
pub fn reply_notification_uri(uri: &str) -> String {
    format!("{uri}#notification/reply")
}

/// The URI of the notification of a post's quote.
pub fn quote_notification_uri(uri: &str) -> String {
    format!("{uri}#notification/quote")
}

fn mention_uri(uri: &str, did: &str) -> String {
    format!("{uri}#notification/mention/{did}")
}

/// The notifications that a post causes, were they switched on.
pub fn post_notifications<'e>(post: &'e Post<'e>) -> Vec<Notification<'e>> {
    let parent_author = post.parent_uri.as_deref().and_then(authority);
    let quoted_author = post.quoted.as_ref().and_then(|quoted| post_author(&quoted.uri));
    let mut wanted = Vec::new();
    wanted.extend(parent_author.map(|did| ("reply", reply_notification_uri(&post.uri), did)));
    wanted.extend(quoted_author.map(|did| ("quote", quote_notification_uri(&post.uri), did)));
    wanted.extend(
        post.mentions
            .iter()
            .map(|did| ("mention", mention_uri(&post.uri, did), did.as_ref())),
    );
    wanted
        .into_iter()
        .filter(|&(_, _, recipient)| recipient != post.author_did)
        .map(|(reason, uri, recipient)| Notification {
            uri,
            recipient_did: Cow::Borrowed(recipient),
            author_did: Cow::Borrowed(&post.author_did),
            reason,
            reason_subject: Some(Cow::Borrowed(&post.uri)),
            cid: Some(Cow::Borrowed(&post.cid)),
            created_at: post.created_at,
        })
        .collect()
}

/// The DID that an `at://` URI belongs to.
pub fn authority(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("at://")?;
    let did = rest.split('/').next()?;
    (did.starts_with("did:") && fits(did, DID_MAX)).then_some(did)
}

/// The DID that a post's URI belongs to; other records' owners are not notified.
pub fn post_author(uri: &str) -> Option<&str> {
    let did = authority(uri)?;
    let path = uri.strip_prefix("at://")?.strip_prefix(did)?;
    path.starts_with("/app.bsky.feed.post/").then_some(did)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_posts_did_owner_is_told_of_likes() {
        assert_eq!(post_author("at://did:plc:a/app.bsky.feed.post/1"), Some("did:plc:a"));
        for other in [
            "at://did:plc:a/app.bsky.feed.generator/1",
            "at://handle.example/app.bsky.feed.post/1",
            "at://did:plc:a",
            "https://did:plc:a/app.bsky.feed.post/1",
        ] {
            assert_eq!(post_author(other), None, "{other}");
        }
        assert_eq!(authority("at://did:plc:a/app.bsky.feed.generator/1"), Some("did:plc:a"));
    }
}
