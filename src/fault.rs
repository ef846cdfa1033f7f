//! What can go wrong while a batch is applied, and what is to be done about it.
//!
//! Owns the classes of stream.md 5.8 to 5.10, told by SQLSTATE and error kind, never by text.

use postgres::error::SqlState;
use thiserror::Error;

use crate::sql::Statement;

/// Why a batch was not applied. Nothing of it is in the database.
#[derive(Debug, Error)]
pub enum ApplyError {
    #[error("failed to get a connection to postgresql")]
    Connect(#[source] r2d2::Error),
    #[error("failed to run sql/{name}.sql")]
    Statement {
        name: &'static str,
        #[source]
        source: postgres::Error,
    },
    /// Somebody else deleted a row between two statements; the next try sees it gone.
    #[error("a row of {0} vanished while it was written")]
    Vanished(&'static str),
}

impl ApplyError {
    pub fn of_statement(statement: Statement, source: postgres::Error) -> Self {
        ApplyError::Statement {
            name: statement.name,
            source,
        }
    }

    /// The server's code for the error, if the server answered.
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            ApplyError::Statement { source, .. } => source.code(),
            _ => None,
        }
    }

    /// Whether the connection is gone, and with it the answer.
    pub fn is_disconnect(&self) -> bool {
        matches!(self, ApplyError::Statement { source, .. } if source.is_closed() || source.code().is_none())
    }

    /// Whether no server has said no: the worker found the rows other than it had left them.
    pub fn is_ours(&self) -> bool {
        matches!(self, ApplyError::Vanished(_))
    }

    /// The error on one line, without the parts of PostgreSQL's answer that can hold a record's text.
    pub fn describe(&self) -> String {
        match self {
            ApplyError::Connect(source) => format!("{self}: {}", one_line(&source.to_string())),
            ApplyError::Statement { source, .. } => format!("{self}: {}", describe_postgres(source)),
            ApplyError::Vanished(_) => self.to_string(),
        }
    }

    pub fn fault(&self) -> Fault {
        match self {
            ApplyError::Connect(_) | ApplyError::Vanished(_) => Fault::Transient,
            ApplyError::Statement { source, .. } => match source.code() {
                None => Fault::Transient,
                Some(state) => fault_of(state.code()),
            },
        }
    }
}

/// What is to be done about a batch that was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Try again: it passes by itself.
    Transient,
    /// Wait for the operator: something is missing or not allowed.
    Operator,
    /// Something in the batch can never be applied: find it.
    Data,
}

/// The class of an SQLSTATE.
fn fault_of(state: &str) -> Fault {
    // The worker's values break no NOT NULL and no foreign key of the AppView's schema: who does has changed it.
    const SCHEMA: [&str; 2] = ["23502", "23503"];
    match &state[..state.len().min(2)] {
        _ if SCHEMA.contains(&state) => Fault::Operator,
        "22" | "23" | "54" | "21" => Fault::Data,
        "28" | "42" | "3D" | "3F" | "0A" => Fault::Operator,
        _ => Fault::Transient,
    }
}

/// A PostgreSQL error on one line: severity, message and SQLSTATE, without the detail, which quotes values.
pub fn describe_postgres(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} (SQLSTATE {})", one_line(db.message()), db.code().code()),
        None => {
            let mut text = one_line(&error.to_string());
            let mut source = std::error::Error::source(error);
            while let Some(inner) = source {
                text = format!("{text}: {}", one_line(&inner.to_string()));
                source = inner.source();
            }
            text
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_fall_into_the_contracts_classes() {
        for (state, fault) in [
            ("22001", Fault::Data),
            ("22P05", Fault::Data),
            ("23505", Fault::Data),
            ("23514", Fault::Data),
            ("54000", Fault::Data),
            ("23502", Fault::Operator),
            ("42P01", Fault::Operator),
            ("42501", Fault::Operator),
            ("28P01", Fault::Operator),
            ("3D000", Fault::Operator),
            ("08006", Fault::Transient),
            ("25006", Fault::Transient),
            ("40P01", Fault::Transient),
            ("53100", Fault::Transient),
            ("57P03", Fault::Transient),
            ("55P03", Fault::Transient),
            ("XX000", Fault::Transient),
        ] {
            assert_eq!(fault_of(state), fault, "{state}");
        }
    }
}
