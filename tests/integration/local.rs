//! Notifications and viewer states for the accounts that the AppView serves only, and what these accounts get afterwards.

mod fill;
mod histories;
mod scope;

use serde_json::Value;

use crate::support::{Stack, WorkerBuilder};

/// The switches, with these accounts in LOCAL_DIDS.
fn local(dids: &str) -> [(&str, &str); 3] {
    [
        ("WRITE_NOTIFICATIONS", "local"),
        ("WRITE_VIEWER_STATES", "local"),
        ("LOCAL_DIDS", dids),
    ]
}

/// A worker or command that writes for local accounts only.
fn local_worker(stack: &Stack) -> WorkerBuilder {
    let env = local("");
    env.iter()
        .fold(stack.worker(), |worker, (name, value)| worker.env(name, value))
}

/// What accounts have: their notifications, and their viewer states that are not empty. Left out are the times at which
/// rows were written, and the CIDs of likes and follows, which no table but notifications has.
fn inbox(stack: &Stack, dids: &[&str]) -> Vec<Value> {
    let dids: Vec<String> = dids.iter().map(|did| format!("'{did}'")).collect();
    let dids = dids.join(", ");
    let mut rows = stack.query(&format!(
        "SELECT uri, recipient_did, author_did, reason, reason_subject, is_read, created_at,
             CASE WHEN reason NOT IN ('like', 'follow') THEN cid END AS cid
         FROM notifications WHERE recipient_did IN ({dids}) ORDER BY uri"
    ));
    rows.extend(stack.query(&format!(
        "SELECT post_uri, viewer_did, like_uri, repost_uri, bookmarked, thread_muted
         FROM post_viewer_states
         WHERE viewer_did IN ({dids}) AND (like_uri IS NOT NULL OR repost_uri IS NOT NULL OR bookmarked)
         ORDER BY post_uri, viewer_did"
    )));
    rows
}
