//! The worker's statements against the database: what tables, columns and rights they need, and whether they would run.
//!
//! A statement is tried with EXPLAIN, which does all that comes before running it: names, types, the keys of ON CONFLICT,
//! and the rights to each column.

use std::collections::BTreeSet;
use std::error::Error;

use postgres::Client;
use postgres::error::SqlState;
use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::postgres::fault::describe_postgres;
use crate::postgres::sql::{self, Statement, words};

/// A parameter without a value, of whatever type the statement says.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// What a statement needs of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    pub table: &'static str,
    pub privilege: &'static str,
}

/// Whether it is the worker's own, not a repair's, and can be explained: several in one message cannot, and touch no rows
/// that others do not.
fn is_the_workers(statement: &&Statement) -> bool {
    let is_one = !statement.text.trim_end().trim_end_matches(';').contains(';');
    !statement.name.starts_with("repair_") && is_one && statement.name != "missing_tables"
}

/// All statements of the worker that read or write rows of these tables only, or of none.
fn statements() -> impl Iterator<Item = &'static Statement> {
    sql::queries().filter(is_the_workers)
}

/// Tries one statement after the other; what the server says of those that would not run.
pub fn failures(
    client: &mut Client,
    has_own_tables: bool,
    mut begins: impl FnMut(),
) -> Result<Vec<Failure>, postgres::Error> {
    let mut failures = Vec::new();
    client.batch_execute(sql::CHECK_BEGIN.text)?;
    for statement in statements().filter(|statement| has_own_tables || !statement.text.contains("firehose_worker.")) {
        begins();
        let types = parameter_types(statement.text);
        let parameters: Vec<_> = types
            .into_iter()
            .map(|kind| (&Null as &(dyn ToSql + Sync), kind))
            .collect();
        let Err(error) = client.query_typed(&format!("EXPLAIN {}", statement.text), &parameters) else {
            continue;
        };
        let Some(code) = error.code() else {
            return Err(error);
        };
        failures.push(Failure {
            statement: statement.name,
            state: code.clone(),
            reason: describe_postgres(&error),
        });
        client.batch_execute("ROLLBACK")?;
        client.batch_execute(sql::CHECK_BEGIN.text)?;
    }
    client.batch_execute("ROLLBACK")?;
    Ok(failures)
}

/// A statement that would not run.
pub struct Failure {
    pub statement: &'static str,
    state: SqlState,
    pub reason: String,
}

impl Failure {
    pub fn is(&self, state: &SqlState) -> bool {
        self.state == *state
    }
}

/// The types of a statement's parameters: what it says itself, and any for one that it does not use.
fn parameter_types(text: &str) -> Vec<Type> {
    let numbers: BTreeSet<usize> = text
        .split('$')
        .skip(1)
        .filter_map(|rest| {
            let end = rest.find(|next: char| !next.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok()
        })
        .collect();
    let highest = numbers.last().copied().unwrap_or(0);
    let of = |number: usize| {
        if numbers.contains(&number) {
            Type::UNKNOWN
        } else {
            Type::TEXT
        }
    };
    (1..=highest).map(of).collect()
}

/// The rights that the worker's statements need on these tables.
pub fn rights(tables: &[&'static str]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for statement in statements().chain(sql::copies()) {
        let words = words(statement.text);
        for table in tables {
            let privileges = privileges(&words, table);
            rights.extend(privileges.into_iter().map(|privilege| Right { table, privilege }));
        }
    }
    rights
}

fn privileges(words: &[&str], table: &str) -> BTreeSet<&'static str> {
    let has = |first: &str, second: &str| words.windows(2).any(|pair| pair == [first, second]);
    let mut privileges = BTreeSet::new();
    for (index, _) in words.iter().enumerate().filter(|(_, word)| **word == table) {
        let before = if index > 0 { words[index - 1] } else { "" };
        match before {
            "COPY" => {
                privileges.insert("INSERT");
            }
            "INTO" => {
                privileges.insert("INSERT");
                if has("ON", "CONFLICT") || words.contains(&"RETURNING") {
                    privileges.insert("SELECT");
                }
                if has("DO", "UPDATE") {
                    privileges.insert("UPDATE");
                }
            }
            "UPDATE" => privileges.extend(["SELECT", "UPDATE"]),
            "FROM" if index > 1 && words[index - 2] == "DELETE" => privileges.extend(["SELECT", "DELETE"]),
            "FROM" | "JOIN" => {
                privileges.insert("SELECT");
                if has("FOR", "UPDATE") {
                    privileges.insert("UPDATE");
                }
            }
            _ => {}
        }
    }
    privileges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::templates;
    use crate::rows::PairTable;

    #[test]
    fn the_rights_of_a_statement_are_read_from_it() {
        let of = |text, table| {
            privileges(&words(text), table)
                .into_iter()
                .collect::<Vec<_>>()
                .join(" ")
        };
        let likes = templates::pair(PairTable::Likes);
        assert_eq!(of(likes.insert.text, "likes"), "INSERT SELECT");
        assert_eq!(of(likes.bulk.as_ref().unwrap().copy.text, "likes"), "INSERT");
        assert_eq!(of(likes.delete.text, "likes"), "DELETE SELECT");
        assert_eq!(of(likes.existing.text, "likes"), "SELECT UPDATE");
        assert_eq!(of(sql::COUNTERS_ADD.text, "post_aggregations"), "INSERT SELECT UPDATE");
        assert_eq!(of(sql::COUNTERS_RECOUNT.text, "likes"), "SELECT");
        assert_eq!(of(sql::RIVALS_TAKE.text, "firehose_worker.rivals"), "DELETE SELECT");
    }

    #[test]
    fn users_are_never_deleted_and_every_table_is_needed() {
        let tables: Vec<&str> = crate::postgres::schema::tables()
            .iter()
            .map(|table| table.name)
            .collect();
        let rights = rights(&tables);
        let has = |table, privilege| rights.contains(&Right { table, privilege });
        assert!(has("users", "INSERT") && has("users", "UPDATE") && !has("users", "DELETE"));
        for table in tables {
            assert!(rights.iter().any(|right| right.table == table), "{table}: {rights:?}");
        }
    }

    #[test]
    fn a_parameter_that_is_not_used_has_a_type_all_the_same() {
        assert_eq!(
            parameter_types("SELECT $1, $3"),
            [Type::UNKNOWN, Type::TEXT, Type::UNKNOWN]
        );
        assert_eq!(parameter_types("SELECT 1"), []);
    }
}
