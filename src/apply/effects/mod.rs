//! The side effects of rows on other tables: counters, feed items, notifications, viewer states.
//!
//! Owns the sums over a batch. Every row that was inserted, deleted or changed is reported here; `write` then touches
//! each row of the affected tables once. `notifications` defines which notifications a record causes. This module does
//! not know why a row was inserted or deleted.
//!
//! Invariant: a counter changes only by rows that a statement of this transaction actually inserted or deleted, or it
//! is recounted.

mod fresh;
mod notifications;
mod write;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

pub use fresh::FreshStates;
pub use notifications::{
    Notification, PostCauses, authority, notifications_of, pair_notification, pair_notification_uri, post_author,
    post_notification_uris, post_notifications, quote_notification_uri, reply_notification_uri,
};

use crate::apply::scope::Scope;
use crate::decode::text::fits;
use crate::metrics::RecordCounts;
use crate::micros::Micros;
use crate::rows::{PairRow, PairTable, Post, URI_MAX};
use notifications::known_cid;
pub use write::delete_states;

type Text<'e> = Cow<'e, str>;

/// The counters of `post_aggregations`, in the order of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    Likes,
    Reposts,
    Replies,
    Bookmarks,
    Quotes,
}

impl Counter {
    /// In the order of the statements' parameters, which is that of the variants.
    const ALL: [Self; 5] = [Self::Likes, Self::Reposts, Self::Replies, Self::Bookmarks, Self::Quotes];
}

/// One value for each counter, at its index in [`Counter::ALL`].
#[derive(Default)]
struct Counters {
    differences: [i32; Counter::ALL.len()],
    recounted: [bool; Counter::ALL.len()],
}

struct FeedItem<'e> {
    post_uri: Text<'e>,
    originator_did: Text<'e>,
    kind: &'static str,
    created_at: Micros,
    indexed_at: Micros,
    /// Unknown for a row that another program wrote without it.
    cid: Option<Text<'e>>,
}

/// The references that a viewer state gains, or loses.
#[derive(Default)]
struct Viewer<'e> {
    like_uri: Option<Text<'e>>,
    repost_uri: Option<Text<'e>>,
    is_bookmark: bool,
}

type Viewers<'e> = BTreeMap<(Text<'e>, Text<'e>), Viewer<'e>>;

/// The side effects of a batch.
pub struct Effects<'e> {
    scope: &'e Scope,
    /// Some rows existed before, so their side effects may already exist.
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
    pub fn new(scope: &'e Scope) -> Self {
        Effects {
            scope,
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

    /// Counts a row that was inserted (+1) or deleted (-1). Only `at://` subjects are counted.
    pub fn count(&mut self, subject: Text<'e>, counter: Counter, difference: i32) {
        if let Some(counters) = self.counters(subject) {
            counters.differences[counter as usize] += difference;
        }
    }

    /// Requests that a subject's counter be set from its rows, because another program inserted or deleted some of
    /// them and may or may not have counted.
    pub fn recount(&mut self, subject: Text<'e>, counter: Counter) {
        if let Some(counters) = self.counters(subject) {
            counters.recounted[counter as usize] = true;
        }
    }

    /// Like `recount`, for the counter that belongs to the table, if there is one.
    pub fn recount_pair(&mut self, table: PairTable, subject: Text<'e>) {
        if let Some(counter) = counter_of(table) {
            self.recount(subject, counter);
        }
    }

    /// Requests that all counters of a subject be set from its rows.
    pub fn recount_all(&mut self, subject: &str) {
        if let Some(counters) = self.counters(Cow::Owned(subject.to_owned())) {
            counters.recounted = [true; Counter::ALL.len()];
        }
    }

    fn counters(&mut self, subject: Text<'e>) -> Option<&mut Counters> {
        let is_subject = subject.starts_with("at://");
        is_subject.then(|| self.counters.entry(subject).or_default())
    }

    /// Records that a post exists, new or not: its counters row, which readers join, its feed item and its
    /// notifications.
    pub fn post_is(&mut self, post: &'e Post<'e>) {
        self.counters.entry(Cow::Borrowed(&post.uri)).or_default();
        self.feed_items.insert(
            Cow::Borrowed(&post.uri),
            FeedItem {
                post_uri: Cow::Borrowed(&post.uri),
                originator_did: Cow::Borrowed(&post.author_did),
                kind: "post",
                created_at: post.created_at,
                indexed_at: post.indexed_at,
                cid: Some(Cow::Borrowed(&post.cid)),
            },
        );
        for notification in post_notifications(post) {
            self.notify(notification);
        }
    }

    /// Records that a pair row was inserted.
    pub fn pair_came(&mut self, table: PairTable, row: &'e PairRow<'e>) {
        self.count_pair(table, Cow::Borrowed(&row.key_b), 1);
        self.pair_is(table, row);
    }

    /// Records that a pair row exists, new or not: all of its side effects except counts.
    pub fn pair_is(&mut self, table: PairTable, row: &'e PairRow<'e>) {
        if table == PairTable::Reposts {
            self.feed_items.insert(
                Cow::Borrowed(&row.uri),
                FeedItem {
                    post_uri: Cow::Borrowed(&row.key_b),
                    originator_did: Cow::Borrowed(&row.key_a),
                    kind: "repost",
                    created_at: row.created_at,
                    indexed_at: row.indexed_at,
                    cid: known_cid(row),
                },
            );
        }
        if has_state(table) && self.scope.has_states_of(&row.key_a) {
            let viewer = (Cow::Borrowed(row.key_b.as_ref()), Cow::Borrowed(row.key_a.as_ref()));
            let viewer = self.viewers.entry(viewer).or_default();
            let uri = Some(Cow::Borrowed(row.uri.as_ref()));
            match table {
                PairTable::Likes => viewer.like_uri = uri,
                PairTable::Reposts => viewer.repost_uri = uri,
                _ => viewer.is_bookmark = true,
            }
        }
        if let Some(notification) = pair_notification(table, row) {
            self.notify(notification);
        }
    }

    /// Records that a pair row was deleted.
    pub fn pair_went(&mut self, table: PairTable, uri: Text<'e>, key_a: Text<'e>, key_b: Text<'e>) {
        self.count_pair(table, key_b.clone(), -1);
        self.pair_is_not(table, uri, key_a, key_b);
    }

    /// Records that a pair row does not exist: reverts all of its side effects except counts and its notification, for
    /// which the caller uses `notifications_gone`.
    pub fn pair_is_not(&mut self, table: PairTable, uri: Text<'e>, key_a: Text<'e>, key_b: Text<'e>) {
        let viewer = (key_b, key_a);
        // A row inserted earlier in the batch may be deleted again if an earlier rival turns up.
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
            // A pair has at most one bookmark. If another record takes the pair, it is reported after this.
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

    /// Records that an existing row was changed.
    pub fn meets_old_rows(&mut self) {
        self.has_old_rows = true;
    }

    /// Records that a post or repost does not exist, so its feed item is to be deleted.
    pub fn feed_item_gone(&mut self, uri: Text<'e>) {
        self.feed_items_gone.insert(uri);
    }

    /// Notifications that no record causes any longer.
    pub fn notifications_gone(&mut self, uris: impl IntoIterator<Item = String>) {
        for uri in uris {
            self.notifications.remove(&uri);
            self.notifications_gone.insert(uri);
        }
    }

    /// Records that a notification now has a different recipient. The new notification, which the caller has reported
    /// before, overwrites the old one; if the new recipient gets none, the old one is deleted.
    pub fn notification_moved(&mut self, uri: String) {
        if !self.notifications.contains_key(&uri) {
            self.notifications_gone.insert(uri);
        }
    }

    /// Adds a notification. If its recipient gets none, a deleted one stays deleted although its cause is back.
    fn notify(&mut self, mut notification: Notification<'e>) {
        if !self.scope.notifies(&notification.recipient_did) {
            return;
        }
        self.notifications_gone.remove(&notification.uri);
        if fits(&notification.uri, URI_MAX) {
            // The map has the URI.
            let uri = std::mem::take(&mut notification.uri);
            self.notifications.insert(uri, notification);
        }
    }
}

/// Whether rows of the table are part of viewer states.
pub fn has_state(table: PairTable) -> bool {
    matches!(table, PairTable::Likes | PairTable::Reposts | PairTable::Bookmarks)
}

/// The counter to which rows of the table contribute, if any.
fn counter_of(table: PairTable) -> Option<Counter> {
    match table {
        PairTable::Likes => Some(Counter::Likes),
        PairTable::Reposts => Some(Counter::Reposts),
        PairTable::Bookmarks => Some(Counter::Bookmarks),
        _ => None,
    }
}
