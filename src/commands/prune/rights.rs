//! The privileges that a prune needs.

use crate::job::{OF_HOLD, Privilege};
use crate::local::register;

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

/// The privileges to write, besides those to delete.
const WRITTEN: [Privilege; 4] = [
    ("post_aggregations", "INSERT"),
    ("post_aggregations", "UPDATE"),
    ("post_viewer_states", "INSERT"),
    ("post_viewer_states", "UPDATE"),
];

pub fn needed(is_dry_run: bool) -> Vec<Privilege> {
    let read = DELETED.into_iter().chain(["follows"]);
    let mut needed: Vec<Privilege> = read.map(|table| (table, "SELECT")).collect();
    needed.extend(register::PRIVILEGES);
    if !is_dry_run {
        needed.extend(DELETED.map(|table| (table, "DELETE")));
        needed.extend(WRITTEN);
        needed.extend(OF_HOLD);
    }
    needed
}
