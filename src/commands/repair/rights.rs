//! The rights that a repair needs.
//!
//! Owns the list, so that a role that lacks one is told at once, and of all of them.

use postgres::Client;

use crate::apply::params::Params;
use crate::apply::transaction;
use crate::servers::fault::ApplyError;
use crate::servers::sql;

/// What is read, in a dry run too.
const READ: [&str; 7] = [
    "posts",
    "likes",
    "reposts",
    "bookmarks",
    "quotes",
    "post_aggregations",
    "post_viewer_states",
];

/// What is written besides; UPDATE on posts is for their locks.
const WRITTEN: [(&str, &str); 10] = [
    ("posts", "UPDATE"),
    ("quotes", "INSERT"),
    ("post_aggregations", "INSERT"),
    ("post_aggregations", "UPDATE"),
    ("post_viewer_states", "INSERT"),
    ("post_viewer_states", "UPDATE"),
    ("firehose_worker.progress", "SELECT"),
    ("firehose_worker.progress", "INSERT"),
    ("firehose_worker.progress", "UPDATE"),
    ("firehose_worker.progress", "DELETE"),
];

/// What the role may not do of what it must, with the remedy.
pub fn lacking(client: &mut Client, is_dry_run: bool) -> Result<Option<String>, ApplyError> {
    let mut needed: Vec<(&str, &str)> = READ.iter().map(|table| (*table, "SELECT")).collect();
    if !is_dry_run {
        needed.extend(WRITTEN);
    }
    let rows = transaction(client, |client| {
        Params::new()
            .texts(needed.iter().map(|(table, _)| *table))
            .texts(needed.iter().map(|(_, privilege)| *privilege))
            .query(client, sql::REPAIR_RIGHTS)
    })?;
    let row = rows
        .first()
        .map(|row| (row.get::<_, &str>(0), row.get::<_, Option<&str>>(1)));
    Ok(match row {
        Some((role, Some(lacks))) => Some(format!(
            "the role {role} lacks {lacks}; GRANT them, or repair as the role that the worker runs as"
        )),
        _ => None,
    })
}
