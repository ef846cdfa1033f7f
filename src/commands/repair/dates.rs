//! Corrects rows that are dated before the year 0100, which the AppView's readers misread as another year or as no
//! date.

use super::{CHUNK, Key, Slice, Step, USUAL, find, in_tables, repairing};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql::Statement;
use crate::postgres::templates;

/// The tables with dates from records.
pub fn tables() -> Vec<&'static str> {
    templates::dates().iter().map(|statements| statements.table).collect()
}

pub const STEP: Step = Step {
    name: "dates",
    key_columns: 2,
    read,
    not_known: Some("the dates in these records: their rows now have the time at which they were written"),
    ..USUAL
};

fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    in_tables(
        templates::dates(),
        |of| of.table,
        after,
        |statements, after| {
            let rows = find(client, statements.find, &[after], length)?;
            let describe = |key: &String| format!("{}: {key}", statements.table);
            let fix = |client: &mut Client, keys: &[String]| fix(client, statements.set, keys);
            Slice::of(&rows, &["last_key"], |row| row.get("key"), describe, CHUNK, fix)
        },
    )
}

/// Sets the dates of rows to the time at which they were written; returns the number of rows.
fn fix(client: &mut Client, set: Statement, keys: &[String]) -> Result<u64, ApplyError> {
    repairing(client, |client| Params::new().texts(keys.iter()).execute(client, set))
}
