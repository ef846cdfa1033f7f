//! Which indexes of the written tables no query has used.
//!
//! Owns the sentence. Such an index is no fault: the AppView's migrations own it, and only the operator knows which
//! queries are still to come.

use super::report::Report;
use crate::figures::text::{bytes, duration};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;

/// How many are named.
const NAMED: usize = 8;

/// Indexes that are not scanned for less than this time say little: some queries run once a week.
const WEEK: i64 = 7 * 86_400;

/// Reports the indexes of the tables with these names.
///
/// # Errors
///
/// PostgreSQL cannot be asked.
pub fn check(client: &mut Client, tables: &[&str], report: &Report) -> Result<(), ApplyError> {
    report.about("unused indexes");
    let rows = Params::new()
        .texts(tables.iter())
        .query(client, sql::CHECK_UNUSED_INDEXES)?;
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let (all, since, seconds): (i64, &str, i64) = (first.get("searched")?, first.get("since")?, first.get("seconds")?);
    let counted = format!("since {since} ({})", duration(seconds.max(0) as u64));
    let indexes: Vec<(&str, f64)> = rows.iter().map(index).collect::<Result<Vec<_>, _>>()?.concat();
    if indexes.is_empty() {
        report.ok(format!("none: all {all} that only serve searches were used {counted}"));
        return Ok(());
    }
    let total = bytes(indexes.iter().map(|(_, bytes)| bytes).sum());
    let mut named: Vec<String> = indexes
        .iter()
        .take(NAMED)
        .map(|(name, size)| format!("{name} {}", bytes(*size)))
        .collect();
    if let Some(more) = indexes.len().checked_sub(NAMED).filter(|more| *more > 0) {
        named.push(format!("{more} more"));
    }
    let found = format!(
        "{} of {all}, {total}, were not scanned {counted}: {}",
        indexes.len(),
        named.join(", ")
    );
    match seconds < WEEK {
        true => report.hint(
            found,
            "look again after a week of use: PostgreSQL has not counted for long",
        ),
        false => report.hint(
            found,
            "those that no reader needs cost disk and time with each write: DROP INDEX CONCURRENTLY; the AppView's \
             migrations own them and may create them again",
        ),
    }
    Ok(())
}

/// The row's index; none if the row only says since when PostgreSQL counts.
fn index(row: &Row) -> Result<Vec<(&str, f64)>, ApplyError> {
    let name: Option<&str> = row.get("name")?;
    Ok(match name {
        Some(name) => vec![(name, row.get::<_, i64>("bytes")? as f64)],
        None => Vec::new(),
    })
}
