//! The looks at PostgreSQL's tables: are all columns there, of types that take what the worker writes, with the keys that
//! its conflict clauses go by, and may the role use them.

use std::collections::{BTreeMap, BTreeSet};

use postgres::Client;

use super::postgres::Server;
use super::statements::{self, Failure};
use super::{Looked, Report, Unusable};
use crate::apply::Params;
use crate::servers::columns::{self, FoundTable};
use crate::servers::fault::ApplyError;
use crate::servers::row::Row;
use crate::servers::schema::{self, Table};
use crate::servers::sql::{self, Statement};

/// Looks at all tables. The worker's own may not be there yet.
pub fn look(client: &mut Client, server: &Server, report: &Report) -> Looked {
    report.looking("tables");
    let tables = schema::tables();
    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    let columns = columns::read(client, &names).map_err(|error| failed(report, "tables", &error))?;
    let missing: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !columns.contains_key(*name))
        .collect();
    if !missing.is_empty() {
        let found = format!("missing: {}", missing.join(", "));
        match server.may_use_public {
            true => report.fail(
                "tables",
                found,
                "start the AppView, which makes them, or run firehose-worker schema | psql",
            ),
            false => report.fail(
                "tables",
                format!(
                    "{found}, or hidden: the role {} may not use the schema public",
                    server.role
                ),
                format!("GRANT USAGE ON SCHEMA public TO {}", server.role),
            ),
        }
    }
    let mut faults = Vec::new();
    for table in &tables {
        if let Some(found) = columns.get(table.name) {
            faults.extend(column_faults(table, found));
        }
    }
    let is_complete = missing.is_empty() && faults.is_empty();
    for (fault, remedy) in faults {
        report.fail("columns", fault, remedy);
    }
    if is_complete {
        report.ok("tables", format!("all {} are there, with their columns", tables.len()));
    }
    look_at_keys(client, &tables, &columns, report).map_err(|error| failed(report, "keys", &error))?;
    let has_own = look_at_own(client, server, report).map_err(|error| failed(report, "own tables", &error))?;
    look_at_statements(client, server, &names, has_own, is_complete, report)
        .map_err(|error| failed(report, "statements", &error))
}

fn failed(report: &Report, what: &'static str, error: &ApplyError) -> Unusable {
    report.fail(what, error.describe(), "see to what PostgreSQL says");
    Unusable
}

fn query(client: &mut Client, statement: Statement, names: &[&str]) -> Result<Vec<Row>, ApplyError> {
    Params::new().texts(names.iter()).query(client, statement)
}

/// What is wrong with a table's columns, each with its remedy.
fn column_faults(table: &Table, there: &FoundTable) -> Vec<(String, String)> {
    let (name, full_name, found) = (table.name, &there.full_name, &there.columns);
    let alter = |rest: String| format!("ALTER TABLE {full_name} {rest}");
    let mut faults = Vec::new();
    for column in &table.columns {
        let full = format!("{full_name}.{}", column.name);
        let Some(there) = found.get(column.name) else {
            if sql::uses(name, column.name) {
                let remedy = alter(format!("ADD COLUMN {}", column.definition));
                faults.push((format!("{full} is missing"), remedy));
            }
            continue;
        };
        if !sql::uses(name, column.name) {
            if there.is_required && !there.has_default {
                faults.push(unwritten(full_name, column.name));
            }
            continue;
        }
        if !columns::fits(column.kind, &there.kind) {
            faults.push(columns::mismatched(full_name, column.name, column.kind, &there.kind));
        }
        if there.is_required && !column.is_required {
            let remedy = alter(format!("ALTER COLUMN {} DROP NOT NULL", column.name));
            faults.push((format!("{full} is NOT NULL, and may have no value"), remedy));
        }
    }
    let is_known = |name: &str| table.columns.iter().any(|column| column.name == name);
    let strange = found.iter().filter(|(column, _)| !is_known(column));
    let in_the_way = strange.filter(|(_, there)| there.is_required && !there.has_default);
    faults.extend(in_the_way.map(|(column, _)| unwritten(full_name, column)));
    faults
}

fn unwritten(table: &str, column: &str) -> (String, String) {
    (
        format!("{table}.{column} is NOT NULL without a default, and the worker does not write it"),
        format!("ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL"),
    )
}

fn look_at_keys(
    client: &mut Client,
    tables: &[Table],
    columns: &BTreeMap<String, FoundTable>,
    report: &Report,
) -> Result<(), ApplyError> {
    report.looking("keys");
    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    let mut keys: BTreeSet<(String, Vec<String>)> = BTreeSet::new();
    let mut counter_indexes = 0;
    for row in query(client, sql::CHECK_KEYS, &names)? {
        let (table, columns): (String, Vec<String>) = (row.get("table_name")?, row.get("columns")?);
        if row.get("is_key")? {
            keys.insert((table, columns));
        } else if table == "post_aggregations" && columns.iter().any(|column| column.ends_with("_count")) {
            counter_indexes += 1;
        }
    }
    let mut is_complete = true;
    for (table, there) in tables
        .iter()
        .filter_map(|table| Some((table, columns.get(table.name)?)))
    {
        for key in &table.keys {
            let wanted: Vec<String> = key.columns.iter().map(|&column| column.to_owned()).collect();
            // Of a table that is only read, or by a column that numbers its rows, none is gone by.
            let is_gone_by = key.columns.iter().all(|column| sql::uses(table.name, column));
            if is_gone_by && !keys.contains(&(table.name.to_owned(), wanted)) {
                is_complete = false;
                report.fail(
                    "keys",
                    format!("{} has no unique key on ({})", table.name, key.columns.join(", ")),
                    key.statement
                        .replace(
                            &format!(" TABLE {} ", table.name),
                            &format!(" TABLE {} ", there.full_name),
                        )
                        .replace(&format!(" ON {} ", table.name), &format!(" ON {} ", there.full_name)),
                );
            }
        }
    }
    match counter_indexes {
        _ if !is_complete => {}
        0 => report.ok("keys", "all unique keys are there"),
        n => report.hint(
            "keys",
            format!("all unique keys are there; {n} indexes on the counters of post_aggregations"),
            "each like, reply and repost writes all of these: drop those that no reader sorts by",
        ),
    }
    Ok(())
}

/// Whether the worker's own tables are there and may be used.
fn look_at_own(client: &mut Client, server: &Server, report: &Report) -> Result<bool, ApplyError> {
    let what = "own tables";
    report.looking(what);
    let role = &server.role;
    if server.has_own_schema && !server.may_use_own_schema {
        report.fail(
            what,
            format!("the role {role} may not use the schema firehose_worker"),
            format!("GRANT USAGE ON SCHEMA firehose_worker TO {role}"),
        );
        return Ok(false);
    }
    let names: Vec<&str> = schema::own_tables().iter().map(|table| table.name).collect();
    let there = columns::read(client, &names)?;
    let missing: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !there.contains_key(*name))
        .collect();
    let may_make = if server.has_own_schema {
        server.may_extend_own_schema
    } else {
        server.may_make_schemas
    };
    match (missing.is_empty(), may_make) {
        (true, _) => report.ok(what, "the schema firehose_worker is there"),
        (false, true) => report.ok(what, format!("the worker makes them at its start: {}", missing.join(", "))),
        (false, false) => report.fail(
            what,
            format!("{} are missing, and the role {role} may not make them", missing.join(", ")),
            "run firehose-worker schema --own | psql as a role that may, and grant USAGE on the schema and SELECT, INSERT, \
             UPDATE, DELETE on its tables",
        ),
    }
    Ok(missing.is_empty())
}

fn look_at_statements(
    client: &mut Client,
    server: &Server,
    names: &[&'static str],
    has_own: bool,
    is_complete: bool,
    report: &Report,
) -> Result<(), ApplyError> {
    report.looking("statements");
    let failures = statements::failures(client, has_own, || report.looking("statements"))
        .map_err(|source| ApplyError::of_statement(sql::CHECK_BEGIN, source))?;
    let has_hidden = look_at_row_security(client, server, names, report)?;
    let (refused, others): (Vec<&Failure>, Vec<&Failure>) = failures.iter().partition(|failure| failure.is_refusal);
    let may_number = look_at_sequences(client, server, names, report)?;
    if !refused.is_empty() {
        let first = refused.first().copied().filter(|_| !has_hidden);
        look_at_rights(client, server, names, has_own, first, report)?;
    } else if may_number {
        report.ok(
            "rights",
            format!("the role {} may do all that the worker does", server.role),
        );
    }
    // What is missing was said in words that tell more than a statement's failure.
    if let Some(first) = others.first().filter(|_| is_complete) {
        report.fail(
            "statements",
            format!(
                "{} would not run; sql/{}.sql: {}",
                others.len(),
                first.statement,
                first.reason
            ),
            "compare the table with what firehose-worker schema prints",
        );
    } else if failures.is_empty() {
        report.ok("statements", "all of the worker's run here");
    }
    Ok(())
}

/// Whether row-level security hides rows from the role.
fn look_at_row_security(
    client: &mut Client,
    server: &Server,
    names: &[&'static str],
    report: &Report,
) -> Result<bool, ApplyError> {
    let rows = query(client, sql::CHECK_ROW_SECURITY, names)?;
    let tables: Vec<&str> = rows.iter().map(|row| row.get("full_name")).collect::<Result<_, _>>()?;
    if tables.is_empty() {
        return Ok(false);
    }
    let role = &server.role;
    report.fail(
        "row-level security",
        format!(
            "it would hide rows of {} from the role {role}, and the worker waits instead",
            tables.join(", ")
        ),
        format!("ALTER ROLE {role} BYPASSRLS"),
    );
    Ok(true)
}

/// Whether the role may draw the numbers of rows.
fn look_at_sequences(
    client: &mut Client,
    server: &Server,
    names: &[&'static str],
    report: &Report,
) -> Result<bool, ApplyError> {
    let rows = query(client, sql::CHECK_SEQUENCES, names)?;
    let sequences: Vec<&str> = rows.iter().map(|row| row.get("sequence")).collect::<Result<_, _>>()?;
    if sequences.is_empty() {
        return Ok(true);
    }
    let (role, sequences) = (&server.role, sequences.join(", "));
    report.fail(
        "rights",
        format!("the role {role} may not draw from {sequences}"),
        format!("GRANT USAGE ON SEQUENCE {sequences} TO {role}"),
    );
    Ok(false)
}

fn look_at_rights(
    client: &mut Client,
    server: &Server,
    names: &[&'static str],
    has_own: bool,
    refused: Option<&Failure>,
    report: &Report,
) -> Result<(), ApplyError> {
    let mut names = names.to_vec();
    if has_own {
        names.extend(schema::own_tables().iter().map(|table| table.name));
    }
    let rights = statements::rights(&names);
    let rows = Params::new()
        .texts(rights.iter().map(|right| right.table))
        .texts(rights.iter().map(|right| right.privilege))
        .query(client, sql::CHECK_RIGHTS)?;
    let role = &server.role;
    // Tables that lack the same share a line.
    let mut grants: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        grants
            .entry(row.get("privileges")?)
            .or_default()
            .push(row.get("full_name")?);
    }
    for (privileges, tables) in &grants {
        let tables = tables.join(", ");
        report.fail(
            "rights",
            format!("the role {role} lacks {privileges} on {tables}"),
            format!("GRANT {privileges} ON {tables} TO {role}"),
        );
    }
    if let Some(first) = refused.filter(|_| grants.is_empty()) {
        report.fail(
            "rights",
            format!("sql/{}.sql: {}", first.statement, first.reason),
            format!("grant it to {role}"),
        );
    }
    Ok(())
}
