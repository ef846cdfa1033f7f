//! Parts of entries: identifiers in the network's format, and records of the common kinds.
//!
//! Everything here is deterministic, so that a test can state the row that it expects.

use serde_json::{Value, json};

use crate::generator::cid::{Codec, cid, digest};

/// The DID of an account with this name.
pub(crate) fn did(name: &str) -> String {
    let text = cid(Codec::Raw, &digest(&[name.as_bytes()]));
    format!("did:plc:{}", &text[text.len() - 24..])
}

pub(crate) fn uri(repo: &str, path: &str) -> String {
    format!("at://{repo}/{path}")
}

/// The CID with which `Stack::create` and `Stack::update` send this record under this path.
pub(crate) fn cid_for(path: &str, record: &Value) -> String {
    cid(
        Codec::DagCbor,
        &digest(&[path.as_bytes(), record.to_string().as_bytes()]),
    )
}

/// The CID of a blob of this content.
pub(crate) fn blob_cid(content: &str) -> String {
    cid(Codec::Raw, &digest(&[content.as_bytes()]))
}

pub(crate) const CREATED_AT: &str = "2026-01-02T03:04:05.678Z";

pub(crate) fn post(text: &str) -> Value {
    json!({"$type": "app.bsky.feed.post", "text": text, "langs": ["en"], "createdAt": CREATED_AT})
}

pub(crate) fn like(subject: &str) -> Value {
    json!({"$type": "app.bsky.feed.like", "subject": strong_ref(subject), "createdAt": CREATED_AT})
}

pub(crate) fn repost(subject: &str) -> Value {
    json!({"$type": "app.bsky.feed.repost", "subject": strong_ref(subject), "createdAt": CREATED_AT})
}

pub(crate) fn follow(subject: &str) -> Value {
    json!({"$type": "app.bsky.graph.follow", "subject": subject, "createdAt": CREATED_AT})
}

pub(crate) fn block(subject: &str) -> Value {
    json!({"$type": "app.bsky.graph.block", "subject": subject, "createdAt": CREATED_AT})
}

/// A reference to a record, with a CID made up from its URI.
pub(crate) fn strong_ref(uri: &str) -> Value {
    json!({"uri": uri, "cid": cid(Codec::DagCbor, &digest(&[uri.as_bytes()]))})
}
