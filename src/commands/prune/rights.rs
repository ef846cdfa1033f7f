//! The privileges that a prune needs.

use crate::job::Privilege;

/// The tables from which a prune deletes rows.
pub const DELETED: [&str; 14] = [
    "posts",
    "likes",
    "reposts",
    "bookmarks",
    "quotes",
    "feed_items",
    "notifications",
    "post_aggregations",
    "post_viewer_states",
    "thread_contexts",
    "thread_gates",
    "post_gates",
    "generic_records",
    "firehose_worker.rivals",
];

/// The other tables that are read, also by a dry run.
const READ: [&str; 3] = ["follows", "firehose_worker.local_dids", "firehose_worker.progress"];

/// The other privileges to write.
const WRITTEN: [Privilege; 7] = [
    ("post_aggregations", "INSERT"),
    ("post_aggregations", "UPDATE"),
    ("post_viewer_states", "INSERT"),
    ("post_viewer_states", "UPDATE"),
    ("firehose_worker.progress", "INSERT"),
    ("firehose_worker.progress", "UPDATE"),
    ("firehose_worker.progress", "DELETE"),
];

pub fn needed(is_dry_run: bool) -> Vec<Privilege> {
    let read = DELETED.into_iter().chain(READ);
    let mut needed: Vec<Privilege> = read.map(|table| (table, "SELECT")).collect();
    needed.push(("firehose_worker.local_dids", "INSERT"));
    if !is_dry_run {
        needed.extend(DELETED.map(|table| (table, "DELETE")));
        needed.extend(WRITTEN);
    }
    needed
}
