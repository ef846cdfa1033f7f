//! The sizes of tables, from which the space of deleted rows is estimated.

use std::collections::BTreeMap;

use super::STEPS;
use crate::job::Job;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

/// The tables from which rows go and which no step walks through.
const OTHERS: [&str; 6] = [
    "likes",
    "reposts",
    "bookmarks",
    "quotes",
    "feed_items",
    "post_viewer_states",
];

pub struct Sizes(BTreeMap<String, Size>);

struct Size {
    /// With indexes.
    bytes: u64,
    /// As PostgreSQL estimates them; 0 if the table was never analysed.
    n_rows: u64,
}

impl Sizes {
    pub fn read(job: &Job) -> anyhow::Result<Sizes> {
        let tables = || STEPS.iter().map(|step| step.table).chain(OTHERS);
        let rows = job.attempt(|client| {
            transaction(client, |client| {
                Params::new().texts(tables()).query(client, sql::PRUNE_SIZES)
            })
        })?;
        let mut sizes = BTreeMap::new();
        for row in &rows {
            let size = Size {
                bytes: row.get::<_, i64>("bytes")? as u64,
                n_rows: row.get::<_, i64>("n_rows")? as u64,
            };
            sizes.insert(row.get("name")?, size);
        }
        Ok(Sizes(sizes))
    }

    pub fn n_rows(&self, table: &str) -> u64 {
        self.0.get(table).map_or(0, |size| size.n_rows)
    }

    /// The size of so many rows; 0 if the table was never analysed.
    pub fn bytes(&self, table: &str, n_rows: u64) -> u64 {
        let size = self.0.get(table).filter(|size| size.n_rows > 0);
        let bytes = size.map_or(0.0, |size| size.bytes as f64 / size.n_rows as f64 * n_rows as f64);
        bytes as u64
    }
}

/// A number of bytes in a unit of which there are at least ten.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n;
    let mut unit = 0;
    while value >= 10 * 1024 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    format!("{value} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_with_two_digits_or_more() {
        assert_eq!(
            [0, 10_239, 10_240, 75 << 30].map(bytes),
            ["0 B", "10239 B", "10 KiB", "75 GiB"]
        );
    }
}
