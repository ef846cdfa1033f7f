//! Corrects rows that are dated before the year 0100, which the AppView's readers misread as another year or as no
//! date.

use postgres::Client;

use super::{CHUNK, Key, Slice, Step, USUAL, find, in_tables, repairing};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;

/// The tables with dates from records.
pub const TABLES: [&str; 20] = [
    "posts",
    "likes",
    "reposts",
    "bookmarks",
    "follows",
    "blocks",
    "list_blocks",
    "list_items",
    "lists",
    "feed_generators",
    "starter_packs",
    "labeler_services",
    "labels",
    "verifications",
    "quotes",
    "notifications",
    "feed_items",
    "generic_records",
    "thread_gates",
    "post_gates",
];

pub const STEP: Step = Step {
    name: "dates",
    key_columns: 2,
    read,
    not_known: Some("the dates in these records: their rows now have the time at which they were written"),
    ..USUAL
};

fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    in_tables(&TABLES, after, |table, after| {
        let rows = find(client, sql::REPAIR_DATES_FIND, &[table, after], length)?;
        let describe = |key: &String| format!("{table}: {key}");
        let fix = move |client: &mut Client, keys: &[String]| fix(client, table, keys);
        Slice::of(&rows, &["last_key"], |row| row.get("key"), describe, CHUNK, fix)
    })
}

/// Sets the dates of rows to the time at which they were written; returns the number of rows.
fn fix(client: &mut Client, table: &str, keys: &[String]) -> Result<u64, ApplyError> {
    repairing(client, |client| {
        let rows = Params::new()
            .text(table)
            .texts(keys.iter())
            .query(client, sql::REPAIR_DATES_SET)?;
        Ok(rows.first().map_or(Ok(0), |row| row.get::<_, i64>(0))? as u64)
    })
}
