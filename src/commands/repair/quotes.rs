//! Quotes of posts whose embed names a record, where other workers have written no row of `quotes`.

use std::collections::BTreeMap;

use postgres::Client;

use super::{Key, Slice, Wrong};
use crate::apply::params::Params;
use crate::apply::transaction;
use crate::servers::fault::ApplyError;
use crate::servers::sql;

/// Posts whose quotes share a transaction.
pub const CHUNK: usize = 500;

pub fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = Params::new()
        .text(&after[0])
        .long(length.into())
        .query(client, sql::REPAIR_QUOTES_FIND)?;
    let Some(last) = rows.first().and_then(|row| row.get::<_, Option<String>>("last_uri")) else {
        return Ok(None);
    };
    let mut posts: Vec<String> = rows.iter().filter_map(|row| row.get("uri")).collect();
    posts.sort_unstable();
    Ok(Some(Slice {
        last: vec![last],
        looked_at: rows[0].get::<_, i64>("n") as u64,
        wrong: Wrong::Quotes(posts),
    }))
}

/// Inserts the quotes of posts and counts them; answers how many were inserted.
pub fn mend(client: &mut Client, posts: &[String]) -> Result<u64, ApplyError> {
    transaction(client, |client| {
        Params::new().query(client, sql::REPAIR_YIELD)?;
        let rows = Params::new()
            .texts(posts.iter())
            .query(client, sql::REPAIR_QUOTES_INSERT)?;
        let mut differences: BTreeMap<&str, i32> = BTreeMap::new();
        for row in &rows {
            *differences.entry(row.get("quoted_uri")).or_default() += 1;
        }
        let none = || differences.values().map(|_| 0);
        Params::new()
            .texts(differences.keys().copied())
            .ints(none())
            .ints(none())
            .ints(none())
            .ints(none())
            .ints(differences.values().copied())
            .query(client, sql::COUNTERS_ADD)?;
        Ok(rows.len() as u64)
    })
}
