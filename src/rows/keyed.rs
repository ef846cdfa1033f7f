//! Tables whose rows depend only on their own record.
//!
//! Owns the description of such a table and the form of its rows. `keyed_tables` lists the tables. The SQL statements
//! are generated from the descriptions: to add a table, add its description and its columns in sql/schema.sql.
//!
//! Invariant: a row has one value per column, of that column's kind. A test checks this.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use super::{Ignored, Record};
use crate::micros::Micros;

/// The description of a table.
pub struct KeyedTable {
    pub name: &'static str,
    /// `None` for the table of all collections that have no table of their own.
    pub collection: Option<&'static str>,
    pub key: Key,
    /// The columns that follow the key, without indexed_at.
    pub columns: &'static [(&'static str, Kind)],
    pub indexed_at: IndexedAt,
    /// The time at which a row was written, in SQL, as far as the table reveals it.
    pub written_at: &'static str,
    /// Whether a users row of the repo must exist before a row of the table.
    pub needs_user: bool,
    /// Whether records are ignored if their account forbids data collection.
    pub heeds_opt_out: bool,
    /// Whether each new row comes with a row of `label_events`.
    pub has_events: bool,
    /// The values of a record's row, in the order of `columns`. `None` if the absence of a row represents the record.
    pub(super) values: for<'r, 'a> fn(Record<'r, 'a>) -> Result<Option<Vec<Value<'a>>>, Ignored>,
}

/// What identifies a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The record's own URI.
    Record,
    /// The record's own URI; a repo has only one such record, with the rkey `self`.
    Singleton,
    /// The URI of the post that has the record's rkey.
    Post,
}

impl Key {
    pub fn column(self) -> &'static str {
        match self {
            Key::Record | Key::Singleton => "uri",
            Key::Post => "post_uri",
        }
    }
}

/// The kind of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Json,
    Bool,
    Time,
}

impl Kind {
    /// The type in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Json => "jsonb",
            Kind::Bool => "boolean",
            Kind::Time => "timestamp",
        }
    }
}

/// The `indexed_at` column, by which readers order rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexedAt {
    /// The table has no such column.
    Absent,
    /// The time of the op that created the row.
    OfCreation,
    /// The time of the last change.
    OfChange,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Text(Option<Cow<'a, str>>),
    /// JSON text.
    Json(String),
    Bool(bool),
    Time(Micros),
}

impl<'a> Value<'a> {
    pub fn text(text: Cow<'a, str>) -> Value<'a> {
        Value::Text(Some(text))
    }

    pub fn as_text(&self) -> &Option<Cow<'a, str>> {
        match self {
            Value::Text(text) => text,
            _ => &None,
        }
    }

    pub fn as_json(&self) -> &str {
        match self {
            Value::Json(json) => json,
            _ => "null",
        }
    }

    pub fn as_time(&self) -> Option<Micros> {
        match self {
            Value::Time(time) => Some(*time),
            _ => None,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Value::Text(_) => Kind::Text,
            Value::Json(_) => Kind::Json,
            Value::Bool(_) => Kind::Bool,
            Value::Time(_) => Kind::Time,
        }
    }
}

/// A row without its key.
#[derive(Debug)]
pub struct KeyedRow<'a> {
    pub table: &'static KeyedTable,
    pub values: Vec<Value<'a>>,
    pub indexed_at: Micros,
}

/// Tables are identified and ordered by their names.
impl PartialEq for KeyedTable {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for KeyedTable {}

impl PartialOrd for KeyedTable {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyedTable {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(other.name)
    }
}

impl Hash for KeyedTable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl std::fmt::Debug for KeyedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
