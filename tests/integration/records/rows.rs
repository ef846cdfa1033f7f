//! The rows that plain records become, column by column without the wall clock.
//!
//! A test about anything else than a plain record names the columns that differ, see `with`.

use serde_json::{Value, json};

use super::{AVATAR, BANNER, CREATED_ROW, LATER, LATER_ROW, POST, Record, uri, with};

/// The record's own time as a row has it. A record that is about its time is for its test to name.
fn created(record: &Record) -> &'static str {
    if record.value["createdAt"] == LATER || record.value["cts"] == LATER {
        LATER_ROW
    } else {
        CREATED_ROW
    }
}

/// The users row of an account that a record mentions.
pub(crate) fn user_row(did: &str) -> Value {
    json!({
        "did": did, "handle": "handle.invalid", "display_name": null, "avatar_url": null, "banner_url": null,
        "description": null, "profile_record": null, "pinned_post": null, "search_vector": null,
    })
}

/// The users row of the owner of a `profile`.
pub(crate) fn profile_row(profile: &Record) -> Value {
    with(
        user_row(&profile.repo),
        json!({
            "display_name": "Some One", "description": "about me", "avatar_url": AVATAR, "banner_url": BANNER,
            "profile_record": profile.value, "pinned_post": profile.value["pinnedPost"],
        }),
    )
}

/// The row of a plain `post`. `seq` is the entry's.
pub(crate) fn post_row(post: &Record, seq: u32) -> Value {
    json!({
        "uri": post.uri(), "cid": post.cid, "author_did": post.repo, "text": post.value["text"], "langs": ["en"],
        "parent_uri": null, "parent_cid": null, "root_uri": null, "root_cid": null, "embed": null, "facets": null,
        "violates_thread_gate": false, "violates_embedding_rules": false, "has_thread_gate": false,
        "has_post_gate": false, "tags": [], "search_vector": null, "created_at": created(post), "commit_time": null,
        "commit_seq": seq.to_string(), "commit_rev": null,
    })
}

/// The columns in which the row of a `reply` differs from that of a plain post.
pub(crate) fn reply_columns(parent: &Record, root: &Record) -> Value {
    json!({"parent_uri": parent.uri(), "parent_cid": parent.cid, "root_uri": root.uri(), "root_cid": root.cid})
}

pub(crate) fn feed_item_row(record: &Record, post_uri: &str, kind: &str) -> Value {
    json!({
        "uri": record.uri(), "post_uri": post_uri, "originator_did": record.repo, "type": kind,
        "sort_at": created(record), "cid": record.cid, "created_at": created(record),
    })
}

/// A row of likes or reposts.
pub(crate) fn subject_row(record: &Record, subject: &Record, seq: u32) -> Value {
    json!({
        "uri": record.uri(), "user_did": record.repo, "post_uri": subject.uri(), "subject_cid": subject.cid,
        "via": null, "created_at": created(record), "commit_time": null, "commit_seq": seq.to_string(),
        "commit_rev": null,
    })
}

pub(crate) fn bookmark_row(record: &Record, subject: &Record) -> Value {
    json!({
        "uri": record.uri(), "user_did": record.repo, "post_uri": subject.uri(), "created_at": created(record),
    })
}

pub(crate) fn follow_row(follow: &Record, seq: u32) -> Value {
    json!({
        "uri": follow.uri(), "follower_did": follow.repo, "following_did": follow.value["subject"],
        "created_at": created(follow), "commit_time": null, "commit_seq": seq.to_string(), "commit_rev": null,
    })
}

pub(crate) fn block_row(block: &Record, seq: u32) -> Value {
    json!({
        "uri": block.uri(), "blocker_did": block.repo, "blocked_did": block.value["subject"],
        "created_at": created(block), "commit_time": null, "commit_seq": seq.to_string(), "commit_rev": null,
    })
}

pub(crate) fn list_row(list: &Record) -> Value {
    json!({
        "uri": list.uri(), "cid": list.cid, "creator_did": list.repo, "name": "people",
        "purpose": "app.bsky.graph.defs#curatelist", "description": "some people", "avatar_url": AVATAR,
        "created_at": created(list),
    })
}

pub(crate) fn list_item_row(item: &Record) -> Value {
    json!({
        "uri": item.uri(), "cid": item.cid, "list_uri": item.value["list"], "subject_did": item.value["subject"],
        "created_at": created(item),
    })
}

pub(crate) fn list_block_row(block: &Record) -> Value {
    json!({
        "uri": block.uri(), "blocker_did": block.repo, "list_uri": block.value["subject"], "created_at": created(block),
    })
}

pub(crate) fn starter_pack_row(pack: &Record) -> Value {
    let feeds = pack.value["feeds"].as_array().into_iter().flatten();
    let feeds: Vec<&Value> = feeds.map(|feed| &feed["uri"]).collect();
    json!({
        "uri": pack.uri(), "cid": pack.cid, "creator_did": pack.repo, "name": "newcomers",
        "description": "where to begin", "list_uri": pack.value["list"], "feeds": feeds, "created_at": created(pack),
    })
}

pub(crate) fn verification_row(verification: &Record) -> Value {
    json!({
        "uri": verification.uri(), "cid": verification.cid, "subject_did": verification.value["subject"],
        "handle": "somebody.example", "verified_at": created(verification), "created_at": created(verification),
    })
}

pub(crate) fn generator_row(generator: &Record) -> Value {
    json!({
        "uri": generator.uri(), "cid": generator.cid, "creator_did": generator.repo, "did": "did:web:feeds.example",
        "display_name": "Cats", "description": "only cats", "avatar_url": AVATAR, "like_count": 0,
        "created_at": created(generator),
    })
}

/// The row of a thread gate that allows no replies.
pub(crate) fn thread_gate_row(gate: &Record) -> Value {
    json!({
        "post_uri": uri(&gate.repo, POST, &gate.rkey), "owner_did": gate.repo, "allow_mentions": false,
        "allow_following": false, "allow_list_members": false, "allow_list_uris": [], "created_at": created(gate),
    })
}

pub(crate) fn post_gate_row(gate: &Record, rules: Value) -> Value {
    json!({"post_uri": uri(&gate.repo, POST, &gate.rkey), "created_at": created(gate), "embedding_rules": rules})
}

pub(crate) fn labeler_row(labeler: &Record) -> Value {
    json!({
        "uri": labeler.uri(), "cid": labeler.cid, "creator_did": labeler.repo,
        "policies": {"labelValues": ["spam"], "labelValueDefinitions": []}, "like_count": 0,
        "created_at": created(labeler),
    })
}

pub(crate) fn label_row(label: &Record, subject: &str) -> Value {
    json!({
        "uri": label.uri(), "src": label.repo, "subject": subject, "val": "spam", "neg": false,
        "created_at": created(label),
    })
}

/// The event that a label has once.
pub(crate) fn label_event_row(label: &Record) -> Value {
    json!({"label_uri": label.uri(), "action": "created"})
}

pub(crate) fn generic_row(record: &Record) -> Value {
    json!({
        "uri": record.uri(), "cid": record.cid, "author_did": record.repo, "record_type": record.collection,
        "record": record.value, "created_at": created(record),
    })
}

/// The row of quotes that `post`, created at `CREATED`, makes of `quoted`.
pub(crate) fn quote_row(post: &Record, quoted: &Record) -> Value {
    json!({
        "uri": format!("{}#quote", post.uri()), "cid": post.cid, "post_uri": post.uri(), "quoted_uri": quoted.uri(),
        "quoted_cid": quoted.cid, "created_at": created(post),
    })
}

/// The viewer state of `viewer` for `subject` in which nothing is set.
pub(crate) fn viewer_row(subject: &Record, viewer: &str) -> Value {
    json!({
        "post_uri": subject.uri(), "viewer_did": viewer, "like_uri": null, "repost_uri": null, "bookmarked": false,
        "thread_muted": false, "reply_disabled": false, "embedding_disabled": false, "pinned": false,
    })
}

/// A row of post_aggregations: `counts` names the counters that are not zero.
pub(crate) fn aggregation_row(subject: &str, counts: Value) -> Value {
    with(
        json!({
            "post_uri": subject, "like_count": 0, "repost_count": 0, "reply_count": 0, "bookmark_count": 0,
            "quote_count": 0,
        }),
        counts,
    )
}

/// A notification of `record`; `suffix` is what follows its URI, `subject` the reason_subject.
fn notification_row(record: &Record, suffix: &str, recipient: &str, reason: &str, subject: Option<String>) -> Value {
    json!({
        "uri": format!("{}#notification{suffix}", record.uri()), "recipient_did": recipient,
        "author_did": record.repo, "reason": reason, "reason_subject": subject, "cid": record.cid, "is_read": false,
        "created_at": created(record),
    })
}

pub(crate) fn reply_notification(reply: &Record, recipient: &str) -> Value {
    notification_row(reply, "/reply", recipient, "reply", Some(reply.uri()))
}

pub(crate) fn quote_notification(quote: &Record, recipient: &str) -> Value {
    notification_row(quote, "/quote", recipient, "quote", Some(quote.uri()))
}

pub(crate) fn mention_notification(post: &Record, recipient: &str) -> Value {
    notification_row(
        post,
        &format!("/mention/{recipient}"),
        recipient,
        "mention",
        Some(post.uri()),
    )
}

/// The notification of a like or a repost.
pub(crate) fn subject_notification(record: &Record, reason: &str, subject: &Record) -> Value {
    notification_row(record, "", &subject.repo, reason, Some(subject.uri()))
}

pub(crate) fn follow_notification(follow: &Record, recipient: &str) -> Value {
    notification_row(follow, "", recipient, "follow", None)
}
