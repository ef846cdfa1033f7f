//! The expected tables at the end.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Model, Pair, counter, table};
use crate::records::*;

impl Model {
    /// Rows by table, but for the pairs that several actors share and the counters.
    pub(crate) fn rows(&self) -> BTreeMap<&'static str, Vec<Value>> {
        let mut rows: BTreeMap<&'static str, Vec<Value>> = BTreeMap::new();
        rows.insert("users", self.users.values().cloned().collect());
        rows.insert("posts", self.posts.values().map(|post| post.row.clone()).collect());
        rows.insert("feed_items", self.feed_items.values().cloned().collect());
        rows.insert("quotes", self.quotes.values().cloned().collect());
        rows.insert("notifications", self.notifications.values().cloned().collect());
        rows.insert(
            "thread_contexts",
            self.thread_contexts
                .iter()
                .map(|uri| json!({"post_uri": uri, "root_author_like_uri": null}))
                .collect(),
        );
        for ((table, key), row) in &self.keyed {
            rows.entry(table).or_default().push(row.clone());
            if *table == "labels" {
                let event = json!({"label_uri": key, "action": "created"});
                rows.entry("label_events").or_default().push(event);
            }
        }
        for (uri, pair) in &self.pairs {
            let is_holder = self.holder(&pair.collection, &pair.pair).as_ref() == Some(uri);
            if is_holder && pair.collection != VERIFICATION {
                rows.entry(table(&pair.collection)).or_default().push(pair.row.clone());
            }
        }
        let viewers = self
            .viewers
            .iter()
            .filter(|(_, viewer)| viewer.like_uri.is_some() || viewer.repost_uri.is_some() || viewer.bookmarked);
        rows.insert(
            "post_viewer_states",
            viewers
                .map(|((post, did), viewer)| {
                    json!({
                        "post_uri": post, "viewer_did": did, "like_uri": viewer.like_uri,
                        "repost_uri": viewer.repost_uri, "bookmarked": viewer.bookmarked, "thread_muted": false,
                        "reply_disabled": false, "embedding_disabled": false, "pinned": false,
                    })
                })
                .collect(),
        );
        rows
    }

    /// The live verifications of each subject, of which one is to have its row.
    pub(crate) fn verifications(&self) -> BTreeMap<&(String, String), Vec<&Pair>> {
        let mut of_subject: BTreeMap<_, Vec<&Pair>> = BTreeMap::new();
        for pair in self.pairs.values().filter(|pair| pair.collection == VERIFICATION) {
            of_subject.entry(&pair.pair).or_default().push(pair);
        }
        of_subject
    }

    /// The counters of every subject that has a row to be counted.
    pub(crate) fn counters(&self) -> BTreeMap<String, BTreeMap<&'static str, i64>> {
        let mut counters: BTreeMap<String, BTreeMap<&'static str, i64>> = BTreeMap::new();
        let mut count = |subject: &str, counter| {
            if subject.starts_with("at://") {
                *counters
                    .entry(subject.to_owned())
                    .or_default()
                    .entry(counter)
                    .or_default() += 1;
            }
        };
        for (uri, pair) in &self.pairs {
            let is_holder = self.holder(&pair.collection, &pair.pair).as_ref() == Some(uri);
            if let Some(counter) = counter(&pair.collection).filter(|_| is_holder) {
                count(&pair.pair.1, counter);
            }
        }
        for post in self.posts.values() {
            if let Some(parent) = post.row["parent_uri"].as_str() {
                count(parent, "reply_count");
            }
        }
        for quote in self.quotes.values() {
            count(&text_of(quote, "quoted_uri"), "quote_count");
        }
        counters
    }

    /// Posts that an op has made what they are: each has a row of counters.
    pub(crate) fn own_posts(&self) -> impl Iterator<Item = &String> {
        self.posts
            .iter()
            .filter(|(_, post)| !post.is_foreign)
            .map(|(uri, _)| uri)
    }
}
