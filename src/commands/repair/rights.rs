//! The privileges that a repair needs.
//!
//! Owns the list, so that all missing privileges of a role are reported at the start.

use postgres::Client;

use super::dates;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

/// The tables that are read, also by a dry run, besides those with dates.
const READ: [&str; 3] = ["users", "post_aggregations", "post_viewer_states"];

/// The privileges to write, besides those for dates. The latter also cover the locks of posts, lists and feed
/// generators.
const WRITTEN: [(&str, &str); 16] = [
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
    ("firehose_worker.progress", "SELECT"),
    ("firehose_worker.progress", "INSERT"),
    ("firehose_worker.progress", "UPDATE"),
    ("firehose_worker.progress", "DELETE"),
];

/// The privileges that the role lacks, with the remedy.
pub fn lacking(client: &mut Client, is_dry_run: bool) -> Result<Option<String>, ApplyError> {
    let dated = dates::tables();
    let read = READ.iter().chain(&dated);
    let mut needed: Vec<(&str, &str)> = read.map(|table| (*table, "SELECT")).collect();
    if !is_dry_run {
        needed.extend(dated.iter().map(|table| (*table, "UPDATE")));
        needed.extend(WRITTEN);
    }
    let rows = transaction(client, |client| {
        Params::new()
            .texts(needed.iter().map(|(table, _)| *table))
            .texts(needed.iter().map(|(_, privilege)| *privilege))
            .query(client, sql::REPAIR_RIGHTS)
    })?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (role, lacks): (&str, Option<&str>) = (row.get(0)?, row.get(1)?);
    Ok(lacks.map(|lacks| {
        format!("the role {role} lacks {lacks}; GRANT them, or repair as the role that the worker runs as")
    }))
}
