//! Rows that are dated before the year 0100, which the AppView's readers take for another year or for no date.

use postgres::Client;

use super::{Key, Slice, Wrong, in_tables, sliced};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

/// The tables with dates out of records.
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

/// Rows of one table.
pub struct Ancient {
    pub table: String,
    pub keys: Vec<String>,
}

pub fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    in_tables(&TABLES, after, |table, after| {
        let rows = Params::new()
            .text(table)
            .text(after)
            .long(length.into())
            .query(client, sql::REPAIR_DATES_FIND)?;
        let ancient = |keys| {
            Wrong::Dates(Ancient {
                table: table.to_owned(),
                keys,
            })
        };
        sliced(&rows, "last_key", |row| row.get("key"), ancient)
    })
}

/// Dates rows as of when they were written; answers how many.
pub fn mend(client: &mut Client, table: &str, keys: &[String]) -> Result<u64, ApplyError> {
    transaction(client, |client| {
        Params::new().query(client, sql::REPAIR_YIELD)?;
        let rows = Params::new()
            .text(table)
            .texts(keys.iter())
            .query(client, sql::REPAIR_DATES_SET)?;
        Ok(rows.first().map_or(Ok(0), |row| row.get::<_, i64>(0))? as u64)
    })
}
