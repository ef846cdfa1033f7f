//! Whether a violated constraint concerns columns that the worker writes.
//!
//! Owns this decision for NOT NULL, CHECK and foreign keys. If the worker does not write the columns, no op caused the
//! error.

use postgres::error::{DbError, SqlState};

use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;

/// Whether the error is about a constraint of which the worker writes no column.
pub fn is_not_ours(client: &mut Client, error: &DbError) -> Result<bool, ApplyError> {
    let kinds = [
        &SqlState::NOT_NULL_VIOLATION,
        &SqlState::CHECK_VIOLATION,
        &SqlState::FOREIGN_KEY_VIOLATION,
    ];
    let (true, Some(table)) = (kinds.contains(&error.code()), error.table()) else {
        return Ok(false);
    };
    let columns = match (error.column(), error.constraint(), error.schema()) {
        (Some(column), _, _) => vec![column.to_owned()],
        (None, Some(constraint), Some(schema)) => columns(client, schema, table, constraint)?,
        _ => Vec::new(),
    };
    Ok(!columns.is_empty() && !columns.iter().any(|column| sql::writes(table, column)))
}

fn columns(client: &mut Client, schema: &str, table: &str, constraint: &str) -> Result<Vec<String>, ApplyError> {
    let rows = Params::new()
        .text(schema)
        .text(table)
        .text(constraint)
        .query(client, sql::CONSTRAINT_COLUMNS)?;
    rows.iter().map(|row| row.get(0)).collect()
}
