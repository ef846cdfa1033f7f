//! A row of a query result.
//!
//! Owns the reading of columns. The tables belong to the AppView, whose migrations may change a column's type while
//! the worker runs. `postgres::Row::get` panics on an unexpected type, so all reads go through this type.

use std::fmt::Display;

use postgres::row::RowIndex;
use postgres::types::FromSql;

use crate::entry::{EntryId, Position};
use crate::postgres::fault::ApplyError;
use crate::postgres::sql::Statement;

pub struct Row {
    row: postgres::Row,
    /// The name of the statement that returned the row, for errors.
    statement: &'static str,
}

impl Row {
    pub fn new(row: postgres::Row, statement: Statement) -> Row {
        Row {
            row,
            statement: statement.name,
        }
    }

    /// The value of a column.
    ///
    /// # Errors
    ///
    /// Returns an error if the column is missing or has another type.
    pub fn get<'r, I, T>(&'r self, column: I) -> Result<T, ApplyError>
    where
        I: RowIndex + Display + Copy,
        T: FromSql<'r>,
    {
        self.row
            .try_get(column)
            .map_err(|source| self.unreadable(&column.to_string(), source))
    }

    /// Reads an entry's ID from two columns.
    ///
    /// # Errors
    ///
    /// As for `get`.
    pub fn entry_id(&self, ms: &str, n: &str) -> Result<EntryId, ApplyError> {
        // The worker wrote both values by casting u64 to i64.
        Ok(EntryId {
            ms: self.get::<_, i64>(ms)? as u64,
            n: self.get::<_, i64>(n)? as u64,
        })
    }

    /// Reads the position of an op from the columns `entry_ms`, `entry_n` and `op`.
    ///
    /// # Errors
    ///
    /// As for `get`.
    pub fn position(&self) -> Result<Position, ApplyError> {
        Ok(Position {
            entry: self.entry_id("entry_ms", "entry_n")?,
            op: self.get::<_, i32>("op")? as u32,
        })
    }

    #[cold]
    fn unreadable(&self, wanted: &str, source: postgres::Error) -> ApplyError {
        let columns = self.row.columns();
        let column = columns
            .iter()
            .find(|column| column.name() == wanted)
            .or_else(|| columns.get(wanted.parse::<usize>().ok()?));
        ApplyError::Column {
            statement: self.statement,
            name: column.map_or(wanted, |column| column.name()).to_owned(),
            kind: column.map_or("missing", |column| column.type_().name()).to_owned(),
            source,
        }
    }
}
