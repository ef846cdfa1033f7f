//! Adds the rows of `quotes` that other workers did not write for posts whose embed names a record.

use std::collections::BTreeMap;

use super::{CHUNK, Key, Slice, Step, USUAL, find, repairing};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;

pub const STEP: Step = Step {
    name: "quotes",
    read,
    ..USUAL
};

fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = find(client, sql::REPAIR_QUOTES_FIND, after, length)?;
    Slice::of(&rows, &["last_uri"], |row| row.get("uri"), String::clone, CHUNK, fix)
}

/// Inserts and counts the quotes of posts; returns how many were inserted.
fn fix(client: &mut Client, posts: &[String]) -> Result<u64, ApplyError> {
    repairing(client, |client| insert(client, posts.iter()))
}

/// The same within a transaction.
pub fn insert<'p>(client: &mut Client, posts: impl Iterator<Item = &'p String>) -> Result<u64, ApplyError> {
    let rows = Params::new().texts(posts).query(client, sql::REPAIR_QUOTES_INSERT)?;
    let mut differences: BTreeMap<&str, i32> = BTreeMap::new();
    for row in &rows {
        *differences.entry(row.get("quoted_uri")?).or_default() += 1;
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
}
