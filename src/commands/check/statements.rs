//! Whether the worker's statements would run.
//!
//! Each statement is tried with EXPLAIN, which does everything that precedes its execution: it resolves names and
//! types, finds the keys of ON CONFLICT, and checks the rights to each column.

use postgres::error::SqlState;

use crate::postgres::client::Client;
use crate::postgres::fault::describe_postgres;
use crate::postgres::sql::{self, Statement, words};

const PRIVILEGES: [&str; 4] = ["DELETE", "INSERT", "SELECT", "UPDATE"];

/// A statement that would not run.
pub struct Failure {
    pub statement: &'static Statement,
    state: SqlState,
    pub reason: String,
}

impl Failure {
    pub fn is(&self, state: &SqlState) -> bool {
        self.state == *state
    }

    /// The privileges that the statement may lack: those on the tables that it names, as far as it names them.
    pub fn privileges<'t>(&self, tables: &'t [&str]) -> Vec<(&'t str, &'static str)> {
        let words = words(self.statement.text);
        let tables = tables.iter().filter(|table| words.contains(table));
        let privileges = PRIVILEGES
            .iter()
            .filter(|name| **name == "SELECT" || words.contains(name));
        tables
            .flat_map(|table| privileges.clone().map(move |privilege| (*table, *privilege)))
            .collect()
    }
}

/// Whether a statement is the worker's own and can be explained: EXPLAIN takes one statement.
fn is_explained(statement: &&Statement) -> bool {
    let is_one = !statement.text.trim_end().trim_end_matches(';').contains(';');
    statement.is_of_worker() && is_one
}

/// Explains one statement after the other.
///
/// # Errors
///
/// The connection broke.
pub fn failures(
    client: &mut Client,
    has_own_tables: bool,
    mut begins: impl FnMut(),
) -> Result<Vec<Failure>, postgres::Error> {
    let statements = sql::queries().filter(is_explained);
    let mut failures = Vec::new();
    client.batch_execute(sql::CHECK_BEGIN.text)?;
    for statement in statements.filter(|statement| has_own_tables || !statement.text.contains("firehose_worker.")) {
        begins();
        let Err(error) = client.batch_execute(&format!("EXPLAIN {}", without_parameters(statement.text))) else {
            continue;
        };
        let Some(state) = error.code().cloned() else {
            return Err(error);
        };
        let reason = describe_postgres(&error);
        failures.push(Failure {
            statement,
            state,
            reason,
        });
        client.batch_execute(&format!("ROLLBACK; {}", sql::CHECK_BEGIN.text))?;
    }
    client.batch_execute("ROLLBACK")?;
    Ok(failures)
}

/// The statement with NULL for each parameter; all parameters have a cast.
fn without_parameters(text: &str) -> String {
    let mut parts = text.split('$');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|next: char| next.is_ascii_digit());
        let value = if rest.len() < part.len() { "NULL" } else { "$" };
        text + value + rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::templates;
    use crate::rows::PairTable;

    #[test]
    fn a_statement_that_is_refused_lacks_rights_that_it_names() {
        let privileges = |statement: &'static Statement| {
            let failure = Failure {
                statement,
                state: SqlState::INSUFFICIENT_PRIVILEGE,
                reason: String::new(),
            };
            failure.privileges(&["likes", "users", "firehose_worker.rivals"])
        };
        let likes = templates::pair(PairTable::Likes);
        assert_eq!(privileges(&likes.insert), [("likes", "INSERT"), ("likes", "SELECT")]);
        assert_eq!(privileges(&likes.delete), [("likes", "DELETE"), ("likes", "SELECT")]);
        let rivals = [
            ("firehose_worker.rivals", "DELETE"),
            ("firehose_worker.rivals", "SELECT"),
        ];
        assert_eq!(privileges(&sql::RIVALS_TAKE), rivals);
        for statement in sql::queries().filter(is_explained) {
            assert!(
                !privileges(statement).contains(&("users", "DELETE")),
                "{}",
                statement.name
            );
        }
    }

    #[test]
    fn every_parameter_is_replaced_and_no_other_dollar_sign() {
        assert_eq!(
            without_parameters("SELECT $1::text, $12::int, '$'"),
            "SELECT NULL::text, NULL::int, '$'"
        );
        assert_eq!(without_parameters("SELECT 1"), "SELECT 1");
    }
}
