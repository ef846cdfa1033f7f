//! The privileges that a prune needs.

use crate::job::Privilege;

/// The tables that are read, also by a dry run.
const READ: [&str; 17] = [
    "posts",
    "likes",
    "reposts",
    "bookmarks",
    "quotes",
    "follows",
    "feed_items",
    "notifications",
    "post_aggregations",
    "post_viewer_states",
    "thread_contexts",
    "thread_gates",
    "post_gates",
    "generic_records",
    "firehose_worker.rivals",
    "firehose_worker.local_dids",
    "firehose_worker.progress",
];

/// The tables of which nothing is deleted.
const KEPT: [&str; 3] = ["follows", "firehose_worker.local_dids", "firehose_worker.progress"];

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
    let mut needed: Vec<Privilege> = READ.map(|table| (table, "SELECT")).into();
    needed.push(("firehose_worker.local_dids", "INSERT"));
    if !is_dry_run {
        let deleted = READ.into_iter().filter(|table| !KEPT.contains(table));
        needed.extend(deleted.map(|table| (table, "DELETE")));
        needed.extend(WRITTEN);
    }
    needed
}
