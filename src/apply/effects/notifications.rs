//! The notifications that a record causes, and their recipients.
//!
//! Owns the rule for recipients: the recipient is the authority of the URI that the record is about. Recipients
//! therefore do not depend on which record was stored first. An account gets no notification of its own actions.

use std::borrow::Cow;

use super::Text;
use crate::decode::text::fits;
use crate::entry::Position;
use crate::micros::Micros;
use crate::rows::{DID_MAX, Mention, PairRow, PairTable, Post};

pub struct Notification<'e> {
    pub uri: String,
    pub recipient_did: Text<'e>,
    pub author_did: Text<'e>,
    pub reason: &'static str,
    pub reason_subject: Option<Text<'e>>,
    /// Unknown for a row that another program wrote without it.
    pub cid: Option<Text<'e>>,
    pub created_at: Micros,
    /// The position of the op that causes it.
    pub(super) position: Position,
}

/// The URI of the single notification that a row of the table may cause.
pub fn pair_notification_uri(table: PairTable, uri: &str) -> Option<String> {
    matches!(table, PairTable::Likes | PairTable::Reposts | PairTable::Follows).then(|| format!("{uri}#notification"))
}

/// The notification that a row causes, if any.
pub fn pair_notification<'e>(table: PairTable, row: &'e PairRow<'e>) -> Option<Notification<'e>> {
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
        position: row.position,
    })
}

/// The record's CID, unless the row was read from a table that has no column for it.
pub(super) fn known_cid<'e>(row: &'e PairRow<'e>) -> Option<Text<'e>> {
    (!row.cid.is_empty()).then_some(Cow::Borrowed(row.cid.as_ref()))
}

/// The URIs of all notifications that a post with these mentions may cause.
pub fn post_notification_uris(uri: &str, mentions: impl Iterator<Item: AsRef<str>>) -> Vec<String> {
    let mut uris = vec![reply_notification_uri(uri), quote_notification_uri(uri)];
    uris.extend(mentions.map(|did| mention_uri(uri, did.as_ref())));
    uris
}

/// The URI of the notification that a post causes as a reply.
pub fn reply_notification_uri(uri: &str) -> String {
    format!("{uri}#notification/reply")
}

/// The URI of the notification that a post causes as a quote.
pub fn quote_notification_uri(uri: &str) -> String {
    format!("{uri}#notification/quote")
}

fn mention_uri(uri: &str, did: &str) -> String {
    format!("{uri}#notification/mention/{did}")
}

/// What of a post causes notifications.
pub struct PostCauses<'e> {
    pub uri: &'e str,
    pub cid: &'e str,
    pub author_did: &'e str,
    pub parent_uri: Option<&'e str>,
    pub quoted_uri: Option<&'e str>,
    pub mentions: &'e [Mention<'e>],
    pub created_at: Micros,
    pub position: Position,
}

/// The notifications that a post causes if they are switched on.
pub fn post_notifications<'e>(post: &'e Post<'e>) -> Vec<Notification<'e>> {
    notifications_of(&PostCauses {
        uri: &post.uri,
        cid: &post.cid,
        author_did: &post.author_did,
        parent_uri: post.parent_uri.as_deref(),
        quoted_uri: post.quoted.as_ref().map(|quoted| quoted.uri.as_ref()),
        mentions: &post.mentions,
        created_at: post.created_at,
        position: post.position,
    })
}

pub fn notifications_of<'e>(post: &PostCauses<'e>) -> Vec<Notification<'e>> {
    let parent_author = post.parent_uri.and_then(authority);
    let quoted_author = post.quoted_uri.and_then(post_author);
    let mut wanted = Vec::new();
    wanted.extend(parent_author.map(|did| ("reply", reply_notification_uri(post.uri), did)));
    wanted.extend(quoted_author.map(|did| ("quote", quote_notification_uri(post.uri), did)));
    wanted.extend(
        post.mentions
            .iter()
            .map(|did| ("mention", mention_uri(post.uri, did), did.as_ref())),
    );
    wanted
        .into_iter()
        .filter(|&(_, _, recipient)| recipient != post.author_did)
        .map(|(reason, uri, recipient)| Notification {
            uri,
            recipient_did: Cow::Borrowed(recipient),
            author_did: Cow::Borrowed(post.author_did),
            reason,
            reason_subject: Some(Cow::Borrowed(post.uri)),
            cid: Some(Cow::Borrowed(post.cid)),
            created_at: post.created_at,
            position: post.position,
        })
        .collect()
}

/// The DID in the authority of an `at://` URI.
pub fn authority(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("at://")?;
    let did = rest.split('/').next()?;
    (did.starts_with("did:") && fits(did, DID_MAX)).then_some(did)
}

/// The DID in the authority of a post's URI. Owners of other records are not notified.
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
