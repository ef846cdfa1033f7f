//! Posts and their side effects.

use serde_json::json;

use super::super::columns::{Put, mentions, quoted};
use super::{Model, Post, authority, feed_item, is_post, notification};
use crate::records::with;

impl Model {
    pub(super) fn put_post(&mut self, put: &Put) {
        let uri = put.uri();
        self.keep_read(&uri);
        self.forget_foreign_post(&uri);
        let times = self.times.puts(&uri, &put.time());
        let old_time = self.posts.get(&uri).map(|post| post.row["indexed_at"].clone());
        if old_time.is_some() {
            self.take_back_post(&uri);
        }
        let row = with(
            put.row(),
            json!({"indexed_at": old_time.unwrap_or_else(|| times.clone())}),
        );
        let created_at = put.created_at();
        let item = feed_item(&uri, &uri, put.repo, "post", put.cid, &created_at);
        let time = self.times.of_effect(&uri, times.clone());
        self.feed_items
            .insert(uri.clone(), with(item, json!({"indexed_at": time})));
        let quote = quoted(&row["embed"]);
        if let Some((quoted, quoted_cid)) = &quote {
            let quote_uri = format!("{uri}#quote");
            let row = json!({
                "uri": quote_uri, "cid": put.cid, "post_uri": uri, "quoted_uri": quoted, "quoted_cid": quoted_cid,
                "created_at": created_at, "indexed_at": self.times.of_effect(&quote_uri, times),
            });
            self.quotes.insert(quote_uri, row);
        }
        let mut notify = |suffix: &str, reason: &str, recipient: &str| {
            let is_somebody = recipient.starts_with("did:") && recipient != put.repo;
            if is_somebody {
                let own = format!("{uri}#notification/{suffix}");
                let row = notification(
                    &own,
                    recipient,
                    put.repo,
                    reason,
                    json!(uri),
                    json!(put.cid),
                    &created_at,
                );
                self.notify(own, row);
            }
        };
        if let Some(parent) = row["parent_uri"].as_str() {
            notify("reply", "reply", authority(parent));
        }
        if let Some((quoted, _)) = quote.filter(|(quoted, _)| is_post(quoted)) {
            notify("quote", "quote", authority(&quoted));
        }
        for did in mentions(&row["facets"]) {
            notify(&format!("mention/{did}"), "mention", &did);
        }
        self.posts.insert(uri, Post { row, is_foreign: false });
    }

    /// A post that others made is met: whatever they have counted, its parent and what it quotes are counted anew.
    pub(super) fn forget_foreign_post(&mut self, uri: &str) {
        if let Some(post) = self.posts.get(uri).filter(|post| post.is_foreign) {
            if let Some(parent) = post.row["parent_uri"].as_str() {
                self.open.counters.remove(&(parent.to_owned(), "reply_count"));
            }
            if let Some((quoted, _)) = quoted(&post.row["embed"]) {
                self.open.counters.remove(&(quoted, "quote_count"));
            }
        }
    }

    pub(super) fn delete_post(&mut self, uri: &str) {
        self.forget_read(uri);
        self.forget_foreign_post(uri);
        self.take_back_post(uri);
        self.posts.remove(uri);
        self.thread_contexts.remove(uri);
    }

    pub(super) fn take_back_post(&mut self, uri: &str) {
        let own = format!("{uri}#");
        for rows in [&mut self.feed_items, &mut self.quotes, &mut self.notifications] {
            rows.retain(|key, row| {
                let goes = key == uri || key.starts_with(&own);
                if goes {
                    self.times.goes(key, &row["indexed_at"]);
                }
                !goes
            });
        }
    }
}
