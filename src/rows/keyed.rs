//! Tables whose rows depend on nothing but their record.
//!
//! Owns what such a table is, and the form of its rows. Which tables there are is in `keyed_tables`. The statements are
//! made from their descriptions, so a table is added by its description and by its columns in sql/schema.sql.
//!
//! Invariant: a row has as many values as its table has columns, each of its column's kind; a test holds it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use super::{Ignored, Record};
use crate::micros::Micros;

/// What a table is.
pub struct KeyedTable {
    pub name: &'static str,
    /// `None`: every collection that has no table of its own.
    pub collection: Option<&'static str>,
    pub key: Key,
    /// The columns that follow the key, without indexed_at.
    pub columns: &'static [(&'static str, Kind)],
    pub indexed_at: IndexedAt,
    /// Whether a users row of the repo must exist before a row of the table.
    pub needs_user: bool,
    /// Whether an account that forbids that its data be collected keeps its records from being applied.
    pub heeds_opt_out: bool,
    /// A row of `label_events` goes with each new row.
    pub has_events: bool,
    /// The values of a record's row, as `columns` lists them. `None` where the table tells the record by having no row.
    pub(super) values: for<'r, 'a> fn(Record<'r, 'a>) -> Result<Option<Vec<Value<'a>>>, Ignored>,
}

/// What identifies a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The record's own URI.
    Record,
    /// The same, and a repo has one such record: `self`.
    Singleton,
    /// The URI of the post with the record's rkey.
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
    /// Its type in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Json => "jsonb",
            Kind::Bool => "boolean",
            Kind::Time => "timestamp",
        }
    }
}

/// The column by which readers order rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexedAt {
    /// The table has none.
    Absent,
    /// The time of the op that made the row.
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

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => text.as_deref(),
            _ => None,
        }
    }

    pub fn as_json(&self) -> Option<&str> {
        match self {
            Value::Json(json) => Some(json),
            _ => None,
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

/// A row, without its key.
#[derive(Debug)]
pub struct KeyedRow<'a> {
    pub table: &'static KeyedTable,
    pub values: Vec<Value<'a>>,
    pub indexed_at: Micros,
}

/// Tables are told apart, and written in the order of, their names.
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
