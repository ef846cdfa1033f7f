//! Whose a constraint is that refused a row.
//!
//! Owns the answer for NOT NULL, CHECK and foreign keys: on columns that the worker does not write, no op is to blame.

use postgres::Client;
use postgres::error::{DbError, SqlState};

use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;

/// Whether the error is of a constraint all of whose columns the worker leaves alone.
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
