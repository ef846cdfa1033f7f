//! The tables with dates from records.
//!
//! Owns which columns contain such dates. `repair` corrects them, and its statements are generated from this list.

use super::keyed::Kind;
use super::{KEYED_TABLES, PairTable};

/// A table with dates from records.
pub struct DatedTable {
    pub name: &'static str,
    pub key: &'static str,
    pub columns: Vec<&'static str>,
    /// The time at which a row was written, in SQL: what replaces a date that is not usable.
    pub written_at: &'static str,
}

/// All tables with dates from records: those that have a description, and those with rows of several collections.
pub fn dated_tables() -> Vec<DatedTable> {
    let others = [
        ("posts", vec!["created_at"]),
        ("quotes", vec!["created_at"]),
        ("notifications", vec!["created_at"]),
        ("feed_items", vec!["created_at", "sort_at"]),
    ];
    let others = others.map(|(name, columns)| DatedTable {
        name,
        key: "uri",
        columns,
        written_at: "indexed_at",
    });
    let pairs = PairTable::ALL.map(|table| {
        let info = table.info();
        let values = info.values.iter().filter(|value| value.kind() == Kind::Time);
        DatedTable {
            name: info.name,
            key: "uri",
            columns: ["created_at"]
                .into_iter()
                .chain(values.map(|value| value.column()))
                .collect(),
            written_at: "indexed_at",
        }
    });
    let keyed = KEYED_TABLES.map(|table| {
        let times = table.columns.iter().filter(|(_, kind)| *kind == Kind::Time);
        DatedTable {
            name: table.name,
            key: table.key.column(),
            columns: times.map(|(name, _)| *name).collect(),
            written_at: table.written_at,
        }
    });
    others.into_iter().chain(pairs).chain(keyed).collect()
}
