//! The AppView and other workers: their changes to the tables, and the SQL for these.

use serde_json::{Value, json};

use super::super::columns::quoted;
use super::super::history::{Act, is_refused, tag};
use super::{ANY, Model, Pair, Post, columns, counter, pair_of, table};
use crate::records::*;

impl Model {
    /// What they do, and the SQL that does it; nothing where it would make no sense.
    pub(crate) fn act(&mut self, act: &Act) -> Option<String> {
        match act {
            Act::OptOut { did, is_out } => Some(self.opt_out(did, *is_out)),
            Act::Touch => Some(self.touch()),
            Act::Insert {
                repo,
                path,
                record,
                is_counted,
            } => self.app_inserts(repo, path, record, *is_counted),
            Act::Delete { repo, path, is_counted } => self.app_deletes(repo, path, *is_counted),
            Act::Undo {
                repo, path, is_counted, ..
            } => self.app_undoes(repo, path, *is_counted),
        }
    }

    pub(super) fn opt_out(&mut self, did: &str, is_out: bool) -> String {
        let time = self.times.now();
        self.users
            .entry(did.to_owned())
            .or_insert_with(|| with(user_row(did), json!({"indexed_at": time})));
        if is_out {
            self.opted_out.insert(did.to_owned());
            let own = self.pairs.values_mut().filter(|pair| pair.actor == did);
            own.for_each(|pair| pair.may_be_forgotten = true);
        } else {
            self.opted_out.remove(did);
        }
        format!(
            "INSERT INTO users (did, handle) VALUES ('{did}', 'handle.invalid') ON CONFLICT DO NOTHING;
             INSERT INTO user_settings (user_did, data_collection_forbidden) VALUES ('{did}', {is_out})
             ON CONFLICT (user_did) DO UPDATE SET data_collection_forbidden = excluded.data_collection_forbidden;"
        )
    }

    pub(super) fn touch(&mut self) -> String {
        for row in self.notifications.values_mut() {
            row["is_read"] = json!(true);
        }
        for row in self.keyed.values_mut().filter(|row| row.get("like_count").is_some()) {
            row["like_count"] = json!(7);
        }
        let thread = self
            .posts
            .iter()
            .find(|(_, post)| !post.is_foreign)
            .map(|(uri, _)| uri.clone());
        let mine = |column: &str| format!("{column} LIKE '%{}%'", tag(self.seed));
        let mut sql = format!(
            "UPDATE notifications SET is_read = true WHERE {};
             UPDATE feed_generators SET like_count = 7 WHERE {};
             UPDATE labeler_services SET like_count = 7 WHERE {};",
            mine("uri"),
            mine("uri"),
            mine("uri"),
        );
        if let Some(uri) = thread {
            sql.push_str(&format!(
                "INSERT INTO thread_contexts (post_uri) VALUES ('{uri}') ON CONFLICT DO NOTHING;"
            ));
            self.thread_contexts.insert(uri);
        }
        sql
    }

    pub(super) fn app_inserts(&mut self, repo: &str, path: &str, record: &Value, is_counted: bool) -> Option<String> {
        let (collection, _) = path.split_once('/')?;
        let uri = format!("at://{repo}/{path}");
        if collection == POST {
            return self.app_inserts_post(repo, &uri, record, is_counted);
        }
        let pair = pair_of(collection, repo, record);
        let has_effects = self.notifications.contains_key(&format!("{uri}#notification"));
        if self.pairs.contains_key(&uri) || has_effects || self.holder(collection, &pair).is_some() {
            return None;
        }
        let (a, b) = columns(collection);
        let mut row = json!({
            "uri": uri, a: pair.0, b: pair.1, "created_at": "2023-01-01T00:00:00", "indexed_at": self.times.now(),
        });
        if collection != BOOKMARK {
            row = with(
                row,
                json!({"commit_time": null, "commit_seq": null, "commit_rev": null}),
            );
        }
        if matches!(collection, LIKE | REPOST) {
            row = with(row, json!({"subject_cid": null, "via": null}));
        }
        let mut sql = format!(
            "INSERT INTO {} (uri, {a}, {b}, created_at) VALUES ('{uri}', '{}', '{}', '2023-01-01');",
            table(collection),
            pair.0,
            pair.1,
        );
        sql.extend(counter(collection).map(|counter| self.app_counts(&pair.1, counter, 1, is_counted)));
        let new = Pair {
            collection: collection.to_owned(),
            actor: repo.to_owned(),
            pair,
            times: row["indexed_at"].clone(),
            row,
            cid: ANY.to_owned(),
            place: (0, 0),
            is_foreign: true,
            had_rival: false,
            was_next: false,
            may_be_forgotten: false,
        };
        self.pairs.insert(uri, new);
        Some(sql)
    }

    /// A bare post. One that was miscounted has its quote counted, though there is no row of it.
    pub(super) fn app_inserts_post(
        &mut self,
        repo: &str,
        uri: &str,
        record: &Value,
        is_counted: bool,
    ) -> Option<String> {
        let has_effects = self.feed_items.contains_key(uri);
        if self.posts.contains_key(uri) || has_effects || is_refused(record) {
            return None;
        }
        let quoted = quoted(&record["embed"]).map(|(quoted, _)| quoted);
        let embed = quoted.as_ref().map_or(Value::Null, |_| record["embed"].clone());
        let row = json!({
            "uri": uri, "cid": "cid of the app", "author_did": repo, "text": "text of the app", "langs": null,
            "parent_uri": record["reply"]["parent"]["uri"], "parent_cid": null, "root_uri": null, "root_cid": null,
            "embed": embed, "facets": null, "violates_thread_gate": false,
            "violates_embedding_rules": false, "has_thread_gate": false, "has_post_gate": false, "tags": [],
            "search_vector": null, "created_at": "2023-01-01T00:00:00", "indexed_at": self.times.now(), "commit_time": null, "commit_seq": null,
            "commit_rev": null,
        });
        let mut sql = format!(
            "INSERT INTO posts (uri, cid, author_did, text, parent_uri, embed, created_at)
             SELECT uri, cid, author_did, text, parent_uri, nullif(embed, 'null'), created_at
             FROM jsonb_to_record('{row}') AS row (uri text, cid text, author_did text, text text, parent_uri text,
                 embed jsonb, created_at timestamp);"
        );
        if let Some(parent) = row["parent_uri"].as_str() {
            sql.push_str(&self.app_counts(parent, "reply_count", 1, is_counted));
        }
        if let Some(quoted) = quoted.filter(|_| !is_counted) {
            sql.push_str(&app_sets(&quoted, "quote_count", 1));
            self.open.counters.insert((quoted, "quote_count"));
        }
        self.posts.insert(uri.to_owned(), Post { row, is_foreign: true });
        Some(sql)
    }

    /// Only rows for which rivals wait that its delete brings forth. Whoever counted the row, the delete counts anew.
    fn app_undoes(&mut self, repo: &str, path: &str, is_counted: bool) -> Option<String> {
        let (collection, _) = path.split_once('/')?;
        let uri = format!("at://{repo}/{path}");
        let pair = self.pairs.get(&uri)?.pair.clone();
        let mut of_pair = self.pairs.iter().filter(|(_, other)| other.is_of(collection, &pair));
        let has_rival = of_pair.any(|(other, _)| *other != uri);
        let is_holder = self.holder(collection, &pair).as_ref() == Some(&uri);
        if !has_rival || !is_holder || self.opted_out.contains(repo) {
            return None;
        }
        self.pairs.get_mut(&uri).expect("just found").is_foreign = true;
        let mut sql = format!("DELETE FROM {} WHERE uri = '{uri}';", table(collection));
        sql.extend(counter(collection).map(|counter| self.app_counts(&pair.1, counter, -1, is_counted)));
        Some(sql)
    }

    /// Deletes only rows that have a notification and never had a rival: for other rows, the worker cannot know the
    /// subject of the deleted row.
    pub(super) fn app_deletes(&mut self, repo: &str, path: &str, is_counted: bool) -> Option<String> {
        let (collection, _) = path.split_once('/')?;
        let uri = format!("at://{repo}/{path}");
        let pair = self.pairs.get(&uri).filter(|pair| !pair.had_rival)?.clone();
        self.notifications.get(&format!("{uri}#notification"))?;
        self.pairs.remove(&uri);
        self.states_left.insert(uri.clone(), pair.pair.1.clone());
        let mut sql = format!("DELETE FROM {} WHERE uri = '{uri}';", table(collection));
        sql.extend(counter(collection).map(|counter| self.app_counts(&pair.pair.1, counter, -1, is_counted)));
        Some(sql)
    }

    pub(super) fn app_counts(
        &mut self,
        subject: &str,
        counter: &'static str,
        difference: i32,
        is_counted: bool,
    ) -> String {
        if is_counted {
            return app_sets(subject, counter, difference);
        }
        self.open.counters.insert((subject.to_owned(), counter));
        String::new()
    }
}

fn app_sets(subject: &str, counter: &str, difference: i32) -> String {
    format!(
        "INSERT INTO post_aggregations AS a (post_uri, {counter}) VALUES ('{subject}', {difference})
         ON CONFLICT (post_uri) DO UPDATE SET {counter} = a.{counter} + {difference};"
    )
}
