//! Builds the expected columns of a record's row, for the records that occur in histories.

use serde_json::{Value, json};

use super::history::{Event, START};
use crate::records::*;

/// A record at its place in the stream.
pub(crate) struct Put<'e> {
    pub(crate) repo: &'e str,
    pub(crate) collection: &'e str,
    pub(crate) rkey: &'e str,
    pub(crate) cid: &'e str,
    pub(crate) record: &'e Value,
    pub(crate) event: &'e Event,
    /// What commit_seq holds: the entry's seq, or its ID.
    pub(crate) seq: String,
}

impl Put<'_> {
    pub(crate) fn uri(&self) -> String {
        uri(self.repo, self.collection, self.rkey)
    }

    pub(crate) fn created_at(&self) -> Value {
        created_at(self.record, self.event.second)
    }

    pub(crate) fn text(&self, name: &str) -> Value {
        self.record.get(name).cloned().unwrap_or(Value::Null)
    }

    /// The CID of a blob in the record.
    fn blob(&self, name: &str) -> Value {
        self.record[name]["ref"]["$link"].clone()
    }

    /// What the tables of the record's kind hold of it under its URI.
    pub(crate) fn row(&self) -> Value {
        let seq = &self.seq;
        match self.collection {
            POST => self.post(),
            LIKE | REPOST => json!({
                "uri": self.uri(), "user_did": self.repo, "post_uri": self.record["subject"]["uri"],
                "subject_cid": self.record["subject"]["cid"], "via": self.text("via"),
                "created_at": self.created_at(), "commit_time": null, "commit_seq": seq, "commit_rev": null,
            }),
            BOOKMARK => json!({
                "uri": self.uri(), "user_did": self.repo, "post_uri": self.record["subject"]["uri"],
                "created_at": self.created_at(),
            }),
            FOLLOW => json!({
                "uri": self.uri(), "follower_did": self.repo, "following_did": self.record["subject"],
                "created_at": self.created_at(), "commit_time": null, "commit_seq": seq, "commit_rev": null,
            }),
            BLOCK => json!({
                "uri": self.uri(), "blocker_did": self.repo, "blocked_did": self.record["subject"],
                "created_at": self.created_at(), "commit_time": null, "commit_seq": seq, "commit_rev": null,
            }),
            LISTBLOCK => json!({
                "uri": self.uri(), "blocker_did": self.repo, "list_uri": self.record["subject"],
                "created_at": self.created_at(),
            }),
            LISTITEM => json!({
                "uri": self.uri(), "cid": self.cid, "list_uri": self.record["list"],
                "subject_did": self.record["subject"], "created_at": self.created_at(),
            }),
            VERIFICATION => json!({
                "uri": self.uri(), "cid": self.cid, "subject_did": self.record["subject"],
                "handle": self.record["handle"], "verified_at": self.created_at(), "created_at": self.created_at(),
            }),
            _ => self.keyed(),
        }
    }

    fn keyed(&self) -> Value {
        let head =
            json!({"uri": self.uri(), "cid": self.cid, "creator_did": self.repo, "created_at": self.created_at()});
        let post_uri = uri(self.repo, POST, self.rkey);
        match self.collection {
            LIST => with(
                head,
                json!({
                    "name": self.record["name"], "purpose": self.record["purpose"],
                    "description": self.text("description"), "avatar_url": self.blob("avatar"),
                }),
            ),
            GENERATOR => with(
                head,
                json!({
                    "did": self.record["did"], "display_name": self.record["displayName"], "like_count": 0,
                    "description": self.text("description"), "avatar_url": self.blob("avatar"),
                }),
            ),
            STARTERPACK => with(
                head,
                json!({
                    "name": self.record["name"], "description": self.text("description"),
                    "list_uri": self.record["list"],
                    "feeds": uris(&self.record["feeds"]),
                }),
            ),
            LABELER => with(head, json!({"policies": self.record["policies"], "like_count": 0})),
            LABEL => json!({
                "uri": self.uri(), "src": self.repo, "subject": self.record["uri"], "val": self.record["val"],
                "neg": false, "created_at": self.created_at(),
            }),
            THREADGATE => self.thread_gate(post_uri),
            POSTGATE => json!({
                "post_uri": post_uri, "created_at": self.created_at(),
                "embedding_rules": {"detachedEmbeddingUris": self.record["detachedEmbeddingUris"]},
            }),
            _ => json!({
                "uri": self.uri(), "cid": self.cid, "author_did": self.repo, "record_type": self.record["$type"],
                "record": self.record, "created_at": self.created_at(),
            }),
        }
    }

    fn thread_gate(&self, post_uri: String) -> Value {
        let rules = self.record["allow"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of_type = |name: &str| {
            let full = format!("{THREADGATE}#{name}");
            rules.iter().filter(move |rule| rule["$type"] == full)
        };
        let lists: Vec<&Value> = of_type("listRule").map(|rule| &rule["list"]).collect();
        json!({
            "post_uri": post_uri, "owner_did": self.repo, "allow_mentions": of_type("mentionRule").count() > 0,
            "allow_following": of_type("followingRule").count() > 0, "allow_list_members": !lists.is_empty(),
            "allow_list_uris": lists, "created_at": self.created_at(),
        })
    }

    fn post(&self) -> Value {
        let record = self.record;
        let list_or_null = |name: &str| match &record[name] {
            Value::Array(items) if !items.is_empty() => json!(items),
            _ => Value::Null,
        };
        let tags = list_or_null("tags");
        json!({
            "uri": self.uri(), "cid": self.cid, "author_did": self.repo,
            "text": record["text"].as_str().unwrap_or_default().replace('\0', ""),
            "langs": list_or_null("langs"), "parent_uri": record["reply"]["parent"]["uri"],
            "parent_cid": record["reply"]["parent"]["cid"], "root_uri": record["reply"]["root"]["uri"],
            "root_cid": record["reply"]["root"]["cid"],
            "embed": if record["embed"].is_object() { record["embed"].clone() } else { Value::Null },
            "facets": list_or_null("facets"), "violates_thread_gate": false, "violates_embedding_rules": false,
            "has_thread_gate": false, "has_post_gate": false, "tags": if tags.is_null() { json!([]) } else { tags },
            "search_vector": null, "created_at": self.created_at(), "commit_time": null, "commit_seq": self.seq,
            "commit_rev": null,
        })
    }

    /// The columns of users that a profile sets.
    pub(crate) fn profile(&self) -> Value {
        json!({
            "display_name": self.text("displayName"), "description": self.text("description"),
            "avatar_url": self.blob("avatar"), "banner_url": self.blob("banner"), "profile_record": self.record,
            "pinned_post": self.text("pinnedPost"),
        })
    }
}

fn uris(items: &Value) -> Vec<&Value> {
    items
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| &item["uri"])
        .collect()
}

/// The record's own time as PostgreSQL prints it; the entry's where it has none, or one ahead of the entry.
fn created_at(record: &Value, second: u64) -> Value {
    match record["createdAt"].as_str() {
        Some("2023-05-06") => json!("2023-05-06T00:00:00"),
        Some("2023-05-06T09:08:09+02:00") => json!("2023-05-06T07:08:09"),
        Some("2023-05-06T07:08:09.1234567Z") => json!("2023-05-06T07:08:09.123456"),
        Some("2023-05-06T07:08:10Z") => json!("2023-05-06T07:08:10"),
        _ => {
            let time = chrono::DateTime::from_timestamp((START + second) as i64, 0).expect("a time in 2024");
            json!(time.format("%Y-%m-%dT%H:%M:%S").to_string())
        }
    }
}

/// The record that a post's embed quotes: its URI and CID.
pub(crate) fn quoted(embed: &Value) -> Option<(String, Value)> {
    let reference = match embed["$type"].as_str()? {
        "app.bsky.embed.record" => &embed["record"],
        "app.bsky.embed.recordWithMedia" => &embed["record"]["record"],
        _ => return None,
    };
    let uri = reference["uri"].as_str()?;
    uri.starts_with("at://")
        .then(|| (uri.to_owned(), reference["cid"].clone()))
}

/// The DIDs that a post's facets mention, each once.
pub(crate) fn mentions(facets: &Value) -> Vec<String> {
    let mut dids = Vec::new();
    for facet in facets.as_array().into_iter().flatten() {
        let did = text_of(&facet["features"][0], "did");
        if !dids.contains(&did) {
            dids.push(did);
        }
    }
    dids
}
