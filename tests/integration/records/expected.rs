//! The whole content of the database: every table that the worker may write.
//!
//! What an `Expected` does not name must be empty, so a test of one collection also sees a row that was left in another
//! table.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::rows::{
    aggregation_row, bookmark_row, feed_item_row, follow_notification, follow_row, post_row, subject_notification,
    subject_row, user_row, viewer_row,
};
use super::{Record, text_of, with};
use crate::support::snapshot::written_tables;
use crate::support::{Stack, assert_same};

/// What must be in the database.
#[derive(Clone, Default)]
pub(crate) struct Expected {
    tables: BTreeMap<&'static str, Vec<Value>>,
}

impl Expected {
    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn row(mut self, table: &'static str, row: Value) -> Self {
        assert!(written_tables().any(|written| written == table), "no table {table}");
        self.tables.entry(table).or_default().push(row);
        self
    }

    /// The rows of people of whom nothing but their DID is known.
    pub(crate) fn users(self, dids: &[&str]) -> Self {
        dids.iter()
            .fold(self, |expected, did| expected.row("users", user_row(did)))
    }

    /// A post's row and its feed item. Its aggregation is one of zeros unless the test names another.
    pub(crate) fn post(self, post: &Record, seq: u32) -> Self {
        self.post_with(post, seq, json!({}))
    }

    /// The same for a post in which `columns` differ from those of a plain one.
    pub(crate) fn post_with(self, post: &Record, seq: u32, columns: Value) -> Self {
        self.row("posts", with(post_row(post, seq), columns))
            .row("feed_items", feed_item_row(post, &post.uri(), "post"))
    }

    /// The counters of `subject`; those not in `counts` are zero.
    pub(crate) fn counts(self, subject: &Record, counts: Value) -> Self {
        self.row("post_aggregations", aggregation_row(&subject.uri(), counts))
    }

    /// A like, its count of one, its viewer state and its notification.
    pub(crate) fn only_like(self, like: &Record, subject: &Record, seq: u32) -> Self {
        self.row("likes", subject_row(like, subject, seq))
            .counts(subject, json!({"like_count": 1}))
            .row(
                "post_viewer_states",
                with(viewer_row(subject, &like.repo), json!({"like_uri": like.uri()})),
            )
            .row("notifications", subject_notification(like, "like", subject))
    }

    /// A repost, its feed item, its count of one, its viewer state and its notification.
    pub(crate) fn only_repost(self, repost: &Record, subject: &Record, seq: u32) -> Self {
        self.row("reposts", subject_row(repost, subject, seq))
            .row("feed_items", feed_item_row(repost, &subject.uri(), "repost"))
            .counts(subject, json!({"repost_count": 1}))
            .row(
                "post_viewer_states",
                with(viewer_row(subject, &repost.repo), json!({"repost_uri": repost.uri()})),
            )
            .row("notifications", subject_notification(repost, "repost", subject))
    }

    /// A bookmark, its count of one and its viewer state.
    pub(crate) fn only_bookmark(self, bookmark: &Record, subject: &Record) -> Self {
        self.row("bookmarks", bookmark_row(bookmark, subject))
            .counts(subject, json!({"bookmark_count": 1}))
            .row(
                "post_viewer_states",
                with(viewer_row(subject, &bookmark.repo), json!({"bookmarked": true})),
            )
    }

    /// A follow and its notification.
    pub(crate) fn follow(self, follow: &Record, seq: u32) -> Self {
        let followed = follow.value["subject"]
            .as_str()
            .expect("a follow's subject is a DID")
            .to_owned();
        self.row("follows", follow_row(follow, seq))
            .row("notifications", follow_notification(follow, &followed))
    }

    /// Changes `columns` in every row of `table` that is expected so far.
    pub(crate) fn change(&mut self, table: &'static str, columns: Value) {
        for row in self.tables.entry(table).or_default() {
            *row = with(row.take(), columns.clone());
        }
    }

    /// Expects no row of `table` after all.
    pub(crate) fn clear(&mut self, table: &'static str) {
        self.tables.remove(table);
    }

    /// Every entry was applied or ignored, and every table of the worker is what is expected.
    #[track_caller]
    pub(crate) fn assert(self, stack: &Stack) {
        stack.assert_all_acknowledged();
        self.assert_rows(stack);
    }

    /// Compares every table of the worker with what is expected and shows all that differ at once.
    #[track_caller]
    pub(crate) fn assert_rows(self, stack: &Stack) {
        let actual = stack.snapshot();
        let expected = self.complete();
        let differences: Vec<String> = expected
            .iter()
            .filter_map(|(table, rows)| difference(table, rows, actual.rows(table)))
            .collect();
        assert!(
            differences.is_empty(),
            "rows differ from what is expected:{}",
            differences.concat()
        );
        stack.assert_counters_equal_rows();
    }

    /// Adds the aggregation of zeros that every post has (the AppView joins it), where no other is named.
    fn complete(mut self) -> BTreeMap<&'static str, Vec<Value>> {
        let texts = |table: &str, column: &str| -> BTreeSet<String> {
            self.tables
                .get(table)
                .into_iter()
                .flatten()
                .map(|row| text_of(row, column))
                .collect()
        };
        let (posts, counted) = (texts("posts", "uri"), texts("post_aggregations", "post_uri"));
        for post in posts.difference(&counted) {
            self = self.row("post_aggregations", aggregation_row(post, json!({})));
        }
        written_tables()
            .map(|table| (table, sorted(self.tables.remove(table).unwrap_or_default())))
            .collect()
    }
}

/// What two versions of a table do not have in common; nothing where they are equal.
fn difference(table: &str, expected: &[Value], actual: &[Value]) -> Option<String> {
    let only = |rows: &[Value], others: &[Value]| -> String {
        rows.iter()
            .filter(|row| !others.contains(row))
            .map(|row| format!("\n      {row}"))
            .collect()
    };
    (expected != actual).then(|| {
        format!(
            "\n  {table}: {} rows expected, {} found\n    only expected:{}\n    only found:{}",
            expected.len(),
            actual.len(),
            only(expected, actual),
            only(actual, expected),
        )
    })
}

fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_cached_key(Value::to_string);
    rows
}

/// Plays one history twice, each time against a database of its own: once with a single drain at its end, so that the
/// worker sees all of it at once and folds it, and once with a drain wherever `history` calls `step`. Both must leave
/// exactly the same rows. Returns the stacks for further checks.
#[track_caller]
pub(crate) fn in_one_batch_and_entry_by_entry(name: &str, history: impl Fn(&Stack, &dyn Fn())) -> [Stack; 2] {
    let together = Stack::new(&format!("{name}_together"));
    history(&together, &|| ());
    together.drain();

    let apart = Stack::new(&format!("{name}_apart"));
    history(&apart, &|| {
        apart.drain();
    });
    apart.drain();

    assert_same(&together.snapshot(), &apart.snapshot());
    [together, apart]
}

/// As `in_one_batch_and_entry_by_entry`, and the rows must be these.
#[track_caller]
pub(crate) fn both_ways_give(name: &str, expected: Expected, history: impl Fn(&Stack, &dyn Fn())) {
    for stack in in_one_batch_and_entry_by_entry(name, history) {
        expected.clone().assert(&stack);
    }
}
