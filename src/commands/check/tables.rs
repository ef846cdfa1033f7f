//! Checks PostgreSQL's tables: whether they have the columns, types and keys that the worker's statements need, and
//! whether the role may use them.
//!
//! A fault with a remedy of its own is found in the catalog; EXPLAIN finds the rest.

use std::collections::BTreeMap;

use postgres::error::SqlState;

use super::postgres::Server;
use super::report::{Checked, Report};
use super::statements::{self, Failure};
use crate::figures::text::quoted;
use crate::postgres::client::Client;
use crate::postgres::columns::{self, FoundTable};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::schema::{self, Key, Table};
use crate::postgres::sql::{self, Statement};

/// Checks all tables. The worker's own may not exist yet.
pub fn check(client: &mut Client, server: &Server, report: &Report) -> Checked {
    let tables = schema::tables();
    let is_complete = check_tables(client, &tables, server, report)?;
    if check_keys(client, &tables, report)? {
        report_keys(client, report)?;
    }
    let own_tables = check_own(client, server, report)?;
    let has_own = own_tables.is_some();
    let names = names(tables.iter().chain(own_tables.iter().flatten()));
    check_statements(client, &names, has_own, is_complete, report)
}

fn names<'t>(tables: impl IntoIterator<Item = &'t Table>) -> Vec<&'static str> {
    tables.into_iter().map(|table| table.name).collect()
}

/// Reports the rows of a statement that finds faults, and returns whether there are any.
fn find(client: &mut Client, statement: Statement, params: Params<'_>, report: &Report) -> Result<bool, ApplyError> {
    let rows = params.query(client, statement)?;
    for row in &rows {
        report.fail(row.get::<_, &str>("found")?, row.get::<_, &str>("remedy")?);
    }
    Ok(!rows.is_empty())
}

/// Whether the AppView's tables exist with their columns.
fn check_tables(client: &mut Client, tables: &[Table], server: &Server, report: &Report) -> Checked<bool> {
    report.about("tables");
    let found = columns::read(client, &names(tables))?;
    let missing = missing(tables, &found);
    if !missing.is_empty() {
        let (missing, role) = (missing.join(", "), &server.role);
        match server.may_use_public {
            true => report.fail(
                format!("missing: {missing}"),
                format!(
                    "start the AppView, which creates them, or run as a role that may: firehose-worker schema | {}",
                    server.psql
                ),
            ),
            false => report.fail(
                format!("missing or hidden: {missing}; the role {role} may not use the schema public"),
                format!("GRANT USAGE ON SCHEMA public TO {role}"),
            ),
        }
    }
    let is_complete = check_columns(tables, &found, report) && missing.is_empty();
    if is_complete {
        report.ok(format!("all {} exist with their columns", tables.len()));
    }
    Ok(is_complete)
}

fn missing(tables: &[Table], found: &BTreeMap<String, FoundTable>) -> Vec<&'static str> {
    names(tables.iter().filter(|table| !found.contains_key(table.name)))
}

/// Whether the columns of the tables that exist fit the worker's statements.
fn check_columns(tables: &[Table], found: &BTreeMap<String, FoundTable>, report: &Report) -> bool {
    let of_table = |table: &Table| Some(found.get(table.name)?.faults(&columns::used_columns(table.clone())));
    let faults: Vec<columns::Fault> = tables.iter().filter_map(of_table).flatten().collect();
    if !faults.is_empty() {
        report.about("columns");
    }
    for fault in &faults {
        report.fail(&fault.found, &fault.remedy);
    }
    faults.is_empty()
}

/// Whether the tables that exist have the keys that ON CONFLICT needs.
fn check_keys(client: &mut Client, tables: &[Table], report: &Report) -> Result<bool, ApplyError> {
    report.about("keys");
    let keys = tables
        .iter()
        .flat_map(|table| table.keys.iter().map(move |key| (table.name, key)));
    // The statements do not rely on a key of a column that they do not name, such as one that numbers the rows.
    let is_needed = |(table, key): &(&str, &Key)| key.columns.split(", ").all(|column| sql::uses(table, column));
    let keys: Vec<(&str, &Key)> = keys.filter(is_needed).collect();
    let params = Params::new()
        .texts(keys.iter().map(|(table, _)| *table))
        .texts(keys.iter().map(|(_, key)| key.columns))
        .texts(keys.iter().map(|(_, key)| key.statement.as_str()));
    Ok(!find(client, sql::CHECK_KEYS, params, report)?)
}

fn report_keys(client: &mut Client, report: &Report) -> Result<(), ApplyError> {
    let rows = Params::new().query(client, sql::CHECK_COUNTER_INDEXES)?;
    let number: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
    match number {
        0 => report.ok("all unique keys exist"),
        n => report.hint(
            format!("all unique keys exist; {n} indexes on the counters of post_aggregations"),
            "each like, reply and repost writes all of these: drop those by which no reader sorts",
        ),
    }
    Ok(())
}

/// The worker's own tables, if they exist and may be used.
fn check_own(client: &mut Client, server: &Server, report: &Report) -> Checked<Option<Vec<Table>>> {
    report.about("own tables");
    let role = &server.role;
    if !server.may_use_own_schema {
        report.fail(
            format!("the role {role} may not use the schema firehose_worker"),
            format!("GRANT USAGE ON SCHEMA firehose_worker TO {role}"),
        );
        return Ok(None);
    }
    let tables = schema::own_tables();
    let found = columns::read(client, &names(&tables))?;
    let missing = missing(&tables, &found).join(", ");
    if !missing.is_empty() {
        match server.may_create_own_tables {
            true => report.ok(format!("the worker creates them at its start: {missing}")),
            false => report.fail(
                format!("{missing} are missing, and the role {role} may not create them"),
                create_own(server),
            ),
        }
        return Ok(None);
    }
    let has_indexes = check_own_indexes(client, report)?;
    let is_used = |table: &&Table| table.columns.iter().any(|column| sql::uses(table.name, column.name));
    let used: Vec<Table> = tables.iter().filter(is_used).cloned().collect();
    let has_columns = check_columns(&used, &found, report);
    if check_keys(client, &used, report)? && has_columns && has_indexes {
        report.about("own tables");
        report.ok("the schema firehose_worker is complete");
    }
    Ok(Some(tables))
}

/// The command that creates the worker's own tables for its role.
fn create_own(server: &Server) -> String {
    let role = &server.role;
    let grants = [
        format!("GRANT USAGE ON SCHEMA firehose_worker TO {role}"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA firehose_worker TO {role}"),
    ];
    let grants = grants.map(|grant| format!("-c {}", quoted(&grant))).join(" ");
    let psql = &server.psql;
    format!("run as a role that may: firehose-worker schema --own | {psql} -f - {grants}")
}

fn check_own_indexes(client: &mut Client, report: &Report) -> Result<bool, ApplyError> {
    let statements: BTreeMap<String, &str> = schema::own_indexes().collect();
    let missing = Params::new()
        .texts(statements.keys())
        .query(client, sql::MISSING_TABLES)?;
    for row in &missing {
        let name: &str = row.get(0)?;
        report.warn(
            format!("the index {name} is missing, and the worker slows down as rows accumulate"),
            statements.get(name).copied().unwrap_or_default(),
        );
    }
    Ok(missing.is_empty())
}

fn check_statements(
    client: &mut Client,
    names: &[&'static str],
    has_own: bool,
    is_complete: bool,
    report: &Report,
) -> Checked {
    let failures = statements::failures(client, has_own, || report.about("statements"))
        .map_err(|source| ApplyError::of_statement(sql::CHECK_BEGIN, source))?;
    let tables = || Params::new().texts(names.iter());
    report.about("row-level security");
    let has_hidden = find(client, sql::CHECK_ROW_SECURITY, tables(), report)?;
    report.about("replica identity");
    let has_unidentified = find(client, sql::CHECK_REPLICA_IDENTITY, tables(), report)?;
    report.about("rights");
    let lacks_sequences = find(client, sql::CHECK_SEQUENCES, tables(), report)?;
    let (refused, others): (Vec<&Failure>, Vec<&Failure>) = failures
        .iter()
        .filter(|failure| !(has_unidentified && failure.is(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)))
        .partition(|failure| failure.is(&SqlState::INSUFFICIENT_PRIVILEGE));
    if refused.is_empty() {
        if !lacks_sequences {
            report.ok("the role may do everything that the worker does");
        }
    } else if !check_rights(client, names, &refused, report)? && !has_hidden {
        // The statements on tables with hidden rows are refused, too.
        let first = refused[0];
        report.fail(
            format!("the statement {}: {}", first.statement.name, first.reason),
            "grant it to the role, or to the owner of the view or function through which PostgreSQL reads",
        );
    }
    report.about("statements");
    // What is missing was reported before, in more detail than a statement's failure has.
    if let Some(first) = others.first().filter(|_| is_complete) {
        let (number, name, reason) = (others.len(), first.statement.name, &first.reason);
        report.fail(
            format!("{number} would not run; the first is {name}: {reason}"),
            "compare the table with the output of firehose-worker schema: a rule, a generated column, or a publication that \
             omits the replica identity is in the way",
        );
    } else if failures.is_empty() {
        report.ok("all of the worker's would run");
    }
    Ok(())
}

/// Reports the privileges that the refused statements lack, and returns whether there are any.
fn check_rights(
    client: &mut Client,
    names: &[&'static str],
    refused: &[&Failure],
    report: &Report,
) -> Result<bool, ApplyError> {
    let needed: Vec<(&str, &str)> = refused.iter().flat_map(|failure| failure.privileges(names)).collect();
    let params = Params::new()
        .texts(needed.iter().map(|(table, _)| *table))
        .texts(needed.iter().map(|(_, privilege)| *privilege));
    find(client, sql::CHECK_RIGHTS, params, report)
}
