//! The errors of applying a batch, and how the worker reacts to them.
//!
//! Owns the classes of errors, each with its own reaction. They are distinguished by SQLSTATE and error kind, never by
//! text.

use postgres::error::{DbError, SqlState};
use thiserror::Error;

use crate::postgres::sql::Statement;

/// Why a batch was not applied. Its transaction was rolled back; users that it needs may already have been created. If
/// the connection broke during COMMIT, the transaction may nevertheless have been committed.
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
    /// The type of a column is not the one that the worker reads.
    #[error("sql/{statement}.sql answers {name} as {kind}, which the worker does not read")]
    Column {
        statement: &'static str,
        name: String,
        kind: String,
        #[source]
        source: postgres::Error,
    },
    /// Another program deleted a row between two statements. The retry sees that it is deleted.
    #[error("a row of {0} vanished while it was written")]
    Vanished(&'static str),
    /// The process that now has the name applies the same entries, and newer ones that must not be overwritten.
    #[error("the consumer name was not renewed in time: another process may hold it")]
    NameLapsed,
    /// The batch must be written again with versions.
    #[error("another process has joined while the batch was written")]
    Joined,
    /// The batch must be written again with the side effects for the new accounts.
    #[error("accounts became local while the batch was written")]
    LocalDidsChanged { number: i64 },
    /// Other processes may have applied the entries that this process holds, and newer ops after them. `members` stops
    /// the process.
    #[error("another process declared this one dead")]
    Removed,
    /// The job is continued by another process, so this one must not write.
    #[error("another process has taken the job over and continues it")]
    TakenOver,
}

impl ApplyError {
    pub fn of_statement(statement: Statement, source: postgres::Error) -> Self {
        ApplyError::Statement {
            name: statement.name,
            source,
        }
    }

    /// The server's error code, if the server replied.
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            ApplyError::Statement { source, .. } => source.code(),
            _ => None,
        }
    }

    /// Whether a row has a key that already exists.
    pub fn is_unique_violation(&self) -> bool {
        self.sqlstate() == Some(&SqlState::UNIQUE_VIOLATION)
    }

    /// The server's error, if the server replied.
    pub fn db_error(&self) -> Option<&DbError> {
        match self {
            ApplyError::Statement { source, .. } => source.as_db_error(),
            _ => None,
        }
    }

    /// Whether the connection broke, so that the server's reply, if any, is unknown.
    pub fn is_of_connection(&self) -> bool {
        matches!(self, ApplyError::Statement { source, .. } if source.as_db_error().is_none())
    }

    /// Whether a reply did not arrive in time.
    pub fn is_timeout(&self) -> bool {
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<std::io::Error>() {
                return error.kind() == std::io::ErrorKind::TimedOut;
            }
            cause = error.source();
        }
        false
    }

    /// Whether an immediate retry would most likely fail as well: lack of disk, memory or connections, a lock, or a
    /// server that is read-only or hangs.
    pub fn is_slow_to_pass(&self) -> bool {
        let state = self.sqlstate().map_or("", SqlState::code);
        ["53", "55"].contains(&state.get(..2).unwrap_or_default())
            || ["25006", "25P04", "57014"].contains(&state)
            || self.is_timeout()
    }

    /// Whether fewer rows may succeed: the server reached a limit on memory, locks, time or statement size.
    pub fn is_of_size(&self) -> bool {
        let state = self.sqlstate().map_or("", SqlState::code);
        state.starts_with("54") || ["53000", "53200", "53400", "57014", "25P04"].contains(&state)
    }

    /// Whether a single op may be at fault while the others are not.
    pub fn may_be_of_one_op(&self) -> bool {
        matches!(self.fault(), Fault::Data | Fault::Unknown) || self.is_ours()
    }

    /// Whether the session ended during the transaction. The transaction itself may have caused that; a server, or a
    /// pooler in front of it, may report no more than the end.
    pub fn ended_session(&self) -> bool {
        let state = self.sqlstate().map_or("", SqlState::code);
        self.is_of_connection() || ["08P01", "25P03", "57P01", "57P02"].contains(&state)
    }

    /// Whether the error comes from the worker and not from the server: the worker found the rows changed since its
    /// last statement.
    pub fn is_ours(&self) -> bool {
        matches!(self, ApplyError::Vanished(_))
    }

    /// The error on one line, without the parts of PostgreSQL's message that can hold a record's text.
    pub fn describe(&self) -> String {
        match self {
            ApplyError::Connect(source) => format!("{self}: {}", one_line(&source.to_string())),
            ApplyError::Statement { source, .. } => format!("{self}: {}", describe_postgres(source)),
            ApplyError::Column { .. } => {
                format!("{self}; give the column the type that `firehose-worker schema` prints")
            }
            ApplyError::Vanished(_)
            | ApplyError::NameLapsed
            | ApplyError::Joined
            | ApplyError::LocalDidsChanged { .. }
            | ApplyError::Removed
            | ApplyError::TakenOver => self.to_string(),
        }
    }

    pub fn fault(&self) -> Fault {
        match self {
            ApplyError::Connect(_)
            | ApplyError::Vanished(_)
            | ApplyError::NameLapsed
            | ApplyError::Joined
            | ApplyError::LocalDidsChanged { .. }
            | ApplyError::Removed => Fault::Transient,
            ApplyError::Column { .. } | ApplyError::TakenOver => Fault::Operator,
            ApplyError::Statement { source, .. } => match source.code() {
                None => Fault::Transient,
                Some(state) => fault_of(state.code()),
            },
        }
    }
}

/// How the worker reacts to a batch that was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Retry: the cause goes away by itself.
    Transient,
    /// Wait for the operator: something is missing or not permitted.
    Operator,
    /// Find the op or entry that can never be applied.
    Data,
    /// Unknown cause. If the error persists for one op while the others are applied, it is that op's fault. Otherwise
    /// it may go away.
    Unknown,
}

/// Classifies an SQLSTATE.
fn fault_of(state: &str) -> Fault {
    match &state[..state.len().min(2)] {
        "21" | "22" | "23" | "54" => Fault::Data,
        "28" | "3D" | "3F" | "42" => Fault::Operator,
        // A published table without a replica identity, which refuses updates and deletes.
        _ if state == "55000" => Fault::Operator,
        "08" | "25" | "40" | "53" | "55" | "57" => Fault::Transient,
        // Includes data that the server cannot read, for example one corrupt index page.
        _ => Fault::Unknown,
    }
}

/// The advice for an SQLSTATE, if the server's message does not contain it.
fn advice(state: &str) -> Option<&'static str> {
    Some(match state {
        "42501" => {
            "grant the role USAGE on the schemas public and firehose_worker, SELECT, INSERT, UPDATE, DELETE on their tables \
             and USAGE on their sequences; if row-level security is named, ALTER ROLE ... BYPASSRLS, or switch it off for the \
             table"
        }
        "42P01" | "42703" | "3F000" => "run the AppView's migrations, or `firehose-worker schema | psql`",
        "28P01" | "28000" => "check the user and password in DATABASE_URL, and pg_hba.conf",
        "3D000" => "create the database, or correct its name in DATABASE_URL",
        "25006" => "DATABASE_URL must name the primary, and default_transaction_read_only must be off",
        "25P04" => "raise transaction_timeout of the role, the database or the pooler, or set it to 0",
        "53100" => "free space on the server's disk",
        "53200" => "raise max_locks_per_transaction, or give the server more memory",
        "53400" => "raise the limit that PostgreSQL names, such as temp_file_limit",
        // PgBouncer's code for all of its own errors.
        "08P01" => {
            "if it persists, check the server behind PgBouncer, and that its pool_mode is transaction or session"
        }
        "53300" => "raise max_connections, or lower PARALLEL_CONSUMERS",
        "55000" => {
            "`firehose-worker check` prints what to do; a published table needs a primary key, or ALTER TABLE ... REPLICA \
             IDENTITY FULL"
        }
        "55P03" => "another session holds a lock: see pg_locks",
        "57014" => "a statement takes too long: see pg_stat_activity and pg_locks",
        _ => return None,
    })
}

/// A PostgreSQL error on one line: message, SQLSTATE and advice, without the detail, which quotes values.
pub fn describe_postgres(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let said = format!("{} (SQLSTATE {})", one_line(db.message()), db.code().code());
            match advice(db.code().code()) {
                Some(advice) => format!("{said}; {advice}"),
                None => said,
            }
        }
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
            ("23502", Fault::Data),
            ("42P01", Fault::Operator),
            ("42501", Fault::Operator),
            ("28P01", Fault::Operator),
            ("3D000", Fault::Operator),
            ("55000", Fault::Operator),
            ("55P03", Fault::Transient),
            ("08006", Fault::Transient),
            ("08P01", Fault::Transient),
            ("25006", Fault::Transient),
            ("25P04", Fault::Transient),
            ("53200", Fault::Transient),
            ("40P01", Fault::Transient),
            ("53100", Fault::Transient),
            ("57P03", Fault::Transient),
            ("55P03", Fault::Transient),
            ("58030", Fault::Unknown),
            ("0A000", Fault::Unknown),
            ("P0001", Fault::Unknown),
            ("XX000", Fault::Unknown),
        ] {
            assert_eq!(fault_of(state), fault, "{state}");
        }
    }
}
