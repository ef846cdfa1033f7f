//! The privileges that a repair needs.

use super::dates;
use crate::job::{OF_HOLD, Privilege};

/// The tables that are read, also by a dry run, besides those with dates.
const READ: [&str; 3] = ["users", "post_aggregations", "post_viewer_states"];

/// The privileges to write, besides those for dates. The latter also cover the locks of posts, lists and feed
/// generators.
const WRITTEN: [Privilege; 12] = [
    ("users", "UPDATE"),
    ("user_settings", "SELECT"),
    ("list_items", "INSERT"),
    ("list_items", "DELETE"),
    ("quotes", "INSERT"),
    ("post_aggregations", "INSERT"),
    ("post_aggregations", "UPDATE"),
    ("post_viewer_states", "INSERT"),
    ("post_viewer_states", "UPDATE"),
    ("firehose_worker.rivals", "SELECT"),
    ("firehose_worker.rivals", "UPDATE"),
    ("firehose_worker.rivals", "DELETE"),
];

pub fn needed(is_dry_run: bool) -> Vec<Privilege> {
    let dated = dates::tables();
    let read = READ.iter().chain(&dated);
    let mut needed: Vec<Privilege> = read.map(|table| (*table, "SELECT")).collect();
    if !is_dry_run {
        needed.extend(dated.iter().map(|table| (*table, "UPDATE")));
        needed.extend(WRITTEN);
        needed.extend(OF_HOLD);
    }
    needed
}
