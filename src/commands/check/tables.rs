//! The looks at PostgreSQL's tables: are all columns there, of types that take what the worker writes, with the keys that
//! its conflict clauses go by, and may the role use them.

use std::collections::{BTreeMap, BTreeSet};

use postgres::Client;
use postgres::error::SqlState;

use super::postgres::Server;
use super::statements::{self, Failure};
use super::{Looked, Report, Unusable, quoted};
use crate::postgres::columns::{self, FoundTable};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::schema::{self, Key, Table};
use crate::postgres::sql::{self, Statement};

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
                format!(
                    "start the AppView, which makes them, or run as a role that may: firehose-worker schema | {}",
                    server.psql
                ),
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
    let has_columns = check_columns(&tables, &columns, report);
    let is_complete = missing.is_empty() && has_columns;
    if is_complete {
        report.ok("tables", format!("all {} are there, with their columns", tables.len()));
    }
    check_keys(client, &tables, &columns, report).map_err(|error| failed(report, "keys", &error))?;
    let has_own = check_own(client, server, report).map_err(|error| failed(report, "own tables", &error))?;
    check_statements(client, server, &names, has_own, is_complete, report)
        .map_err(|error| failed(report, "statements", &error))
}

fn failed(report: &Report, what: &'static str, error: &ApplyError) -> Unusable {
    report.fail(what, error.describe(), "follow PostgreSQL's message");
    Unusable
}

fn query(client: &mut Client, statement: Statement, names: &[&str]) -> Result<Vec<Row>, ApplyError> {
    Params::new().texts(names.iter()).query(client, statement)
}

/// Whether the tables that are there have their columns.
fn check_columns(tables: &[Table], there: &BTreeMap<String, FoundTable>, report: &Report) -> bool {
    let of_table = |table: &Table| there.get(table.name).map(|found| column_faults(table, found));
    let faults: Vec<(String, String)> = tables.iter().filter_map(of_table).flatten().collect();
    let has_columns = faults.is_empty();
    for (fault, remedy) in faults {
        report.fail("columns", fault, remedy);
    }
    has_columns
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
                let remedy = alter(format!("ADD COLUMN {}", column.definition_among_rows()));
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
            faults.push(columns::mismatched(full_name, column, there));
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

/// The indexes of the tables that are there.
struct Indexes {
    /// The columns, sorted by name, by which ON CONFLICT may go.
    keys: BTreeSet<(String, Vec<String>)>,
    names: BTreeSet<String>,
    with_primary_key: BTreeSet<String>,
    /// Those that each change of a counter writes.
    of_counters: usize,
}

impl Indexes {
    fn read(client: &mut Client, names: &[&str]) -> Result<Indexes, ApplyError> {
        let mut indexes = Indexes {
            keys: BTreeSet::new(),
            names: BTreeSet::new(),
            with_primary_key: BTreeSet::new(),
            of_counters: 0,
        };
        for row in query(client, sql::CHECK_KEYS, names)? {
            let (table, columns): (String, Vec<String>) = (row.get("table_name")?, row.get("columns")?);
            indexes.names.insert(row.get("name")?);
            if row.get("is_primary")? {
                indexes.with_primary_key.insert(table.clone());
            }
            if row.get("is_key")? {
                indexes.keys.insert((table, row.get("key_columns")?));
            } else if table == "post_aggregations" && columns.iter().any(|column| column.ends_with("_count")) {
                indexes.of_counters += 1;
            }
        }
        Ok(indexes)
    }

    /// Whether ON CONFLICT may go by that key.
    fn has(&self, table: &Table, key: &Key) -> bool {
        let columns = key.columns.iter().map(|&column| column.to_owned()).collect();
        self.keys.contains(&(table.name.to_owned(), columns))
    }

    /// How the key is made, under another name than its own where something else has that, or is the primary key.
    fn remedy(&self, table: &Table, there: &FoundTable, key: &Key) -> String {
        let parts = there.columns.iter().filter(|(_, column)| column.divides);
        let parts: Vec<&str> = parts.map(|(name, _)| name.as_str()).collect();
        if !parts.iter().all(|part| key.columns.contains(part)) {
            return format!(
                "it is partitioned by ({}), and a key across partitions has all columns of that: partition it by HASH ({}), or \
                 not at all",
                parts.join(", "),
                key.columns[0]
            );
        }
        let full_name = &there.full_name;
        let mut words = key.statement.split(' ');
        let is_taken = words.any(|word| self.names.contains(word));
        let is_second = key.statement.contains("PRIMARY KEY") && self.with_primary_key.contains(table.name);
        if is_taken || is_second {
            let columns = key.statement.rsplit('(').next().unwrap_or_default();
            return format!("CREATE UNIQUE INDEX ON {full_name} ({columns}");
        }
        let named = key
            .statement
            .replace(&format!(" TABLE {} ", table.name), &format!(" TABLE {full_name} "));
        named.replace(&format!(" ON {} ", table.name), &format!(" ON {full_name} "))
    }
}

fn check_keys(
    client: &mut Client,
    tables: &[Table],
    columns: &BTreeMap<String, FoundTable>,
    report: &Report,
) -> Result<(), ApplyError> {
    let what = "keys";
    report.looking(what);
    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    let indexes = Indexes::read(client, &names)?;
    let is_complete = report_keys(tables, columns, &indexes, report);
    match indexes.of_counters {
        _ if !is_complete => {}
        0 => report.ok(what, "all unique keys are there"),
        n => report.hint(
            what,
            format!("all unique keys are there; {n} indexes on the counters of post_aggregations"),
            "each like, reply and repost writes all of these: drop those that no reader sorts by",
        ),
    }
    Ok(())
}

/// Whether the tables that are there have all keys that the worker's conflict clauses go by.
fn report_keys(tables: &[Table], columns: &BTreeMap<String, FoundTable>, indexes: &Indexes, report: &Report) -> bool {
    let mut is_complete = true;
    let there = tables
        .iter()
        .filter_map(|table| Some((table, columns.get(table.name)?)));
    for (table, there) in there {
        for key in &table.keys {
            // Of a table that is only read, or by a column that numbers its rows, none is gone by.
            let is_gone_by = key.columns.iter().all(|column| sql::uses(table.name, column));
            if is_gone_by && !indexes.has(table, key) {
                is_complete = false;
                report.fail(
                    "keys",
                    format!("{} has no unique key on ({})", there.full_name, key.columns.join(", ")),
                    indexes.remedy(table, there, key),
                );
            }
        }
    }
    is_complete
}

/// Whether published tables are refused updates.
fn check_replica_identity(client: &mut Client, names: &[&str], report: &Report) -> Result<bool, ApplyError> {
    let rows = query(client, sql::CHECK_REPLICA_IDENTITY, names)?;
    for row in &rows {
        let table: &str = row.get("full_name")?;
        let identity = match (row.get("has_primary_key")?, row.get::<_, Option<&str>>("unique_index")?) {
            (true, _) => "DEFAULT".to_owned(),
            (false, Some(index)) => format!("USING INDEX {index}"),
            (false, None) => "FULL".to_owned(),
        };
        report.fail(
            "replica identity",
            format!("{table} is published and has none: PostgreSQL refuses to update and delete its rows"),
            format!("ALTER TABLE {table} REPLICA IDENTITY {identity}"),
        );
    }
    Ok(!rows.is_empty())
}

/// Whether the worker's own tables are there, may be used, and are as it makes them.
fn check_own(client: &mut Client, server: &Server, report: &Report) -> Result<bool, ApplyError> {
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
    let tables = schema::own_tables();
    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    let there = columns::read(client, &names)?;
    let mut missing: Vec<&str> = names.clone();
    missing.retain(|name| !there.contains_key(*name));
    let may_make = if server.has_own_schema {
        server.may_extend_own_schema
    } else {
        server.may_make_schemas
    };
    match (missing.is_empty(), may_make) {
        (true, _) => check_own_form(client, &tables, &there, report)?,
        (false, true) => report.ok(
            what,
            format!("the worker makes them at its start: {}", missing.join(", ")),
        ),
        (false, false) => report.fail(
            what,
            format!(
                "{} are missing, and the role {role} may not make them",
                missing.join(", ")
            ),
            make_own(server),
        ),
    }
    Ok(missing.is_empty())
}

/// The command that makes the worker's own tables for its role.
fn make_own(server: &Server) -> String {
    let grants = [
        format!("GRANT USAGE ON SCHEMA firehose_worker TO {}", server.role),
        format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA firehose_worker TO {}",
            server.role
        ),
    ];
    let grants = grants.map(|grant| format!("-c {}", quoted(&grant)));
    format!(
        "run as a role that may: firehose-worker schema --own | {} -f - {}",
        server.psql,
        grants.join(" ")
    )
}

/// Whether the worker's own tables have the columns, keys and indexes that it makes them with.
fn check_own_form(
    client: &mut Client,
    tables: &[Table],
    there: &BTreeMap<String, FoundTable>,
    report: &Report,
) -> Result<(), ApplyError> {
    let what = "own tables";
    let is_used = |table: &&Table| table.columns.iter().any(|column| sql::uses(table.name, column.name));
    let used: Vec<Table> = tables.iter().filter(is_used).cloned().collect();
    let names: Vec<&str> = used.iter().map(|table| table.name).collect();
    let has_columns = check_columns(&used, there, report);
    let has_keys = report_keys(&used, there, &Indexes::read(client, &names)?, report);
    let indexes: Vec<(String, &str)> = schema::own_indexes().collect();
    let of_indexes: Vec<&str> = indexes.iter().map(|(name, _)| name.as_str()).collect();
    let missing = query(client, sql::MISSING_TABLES, &of_indexes)?;
    for row in &missing {
        let name: &str = row.get(0)?;
        let statement = indexes
            .iter()
            .find(|(index, _)| index == name)
            .map(|(_, statement)| *statement);
        report.warn(
            what,
            format!("the index {name} is missing: what it is for takes longer the more rows there are"),
            statement.unwrap_or_default(),
        );
    }
    if has_columns && has_keys && missing.is_empty() {
        report.ok(what, "the schema firehose_worker is there");
    }
    Ok(())
}

fn check_statements(
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
    let mut all_names = names.to_vec();
    if has_own {
        all_names.extend(schema::own_tables().iter().map(|table| table.name));
    }
    let has_hidden = check_row_security(client, server, &all_names, report)?;
    let has_unidentified = check_replica_identity(client, &all_names, report)?;
    let (refused, mut others): (Vec<&Failure>, Vec<&Failure>) = failures
        .iter()
        .partition(|failure| failure.is(&SqlState::INSUFFICIENT_PRIVILEGE));
    others.retain(|failure| !(has_unidentified && failure.is(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)));
    let may_number = check_sequences(client, server, names, report)?;
    if !refused.is_empty() {
        let first = refused.first().copied().filter(|_| !has_hidden);
        check_rights(client, server, &all_names, first, report)?;
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
            "compare the table with what firehose-worker schema prints: a rule, a generated column, or a publication that \
             leaves out what identifies a row is in the way",
        );
    } else if failures.is_empty() {
        report.ok("statements", "all of the worker's run here");
    }
    Ok(())
}

/// Whether row-level security hides rows from the role.
fn check_row_security(
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
fn check_sequences(
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

fn check_rights(
    client: &mut Client,
    server: &Server,
    names: &[&'static str],
    refused: Option<&Failure>,
    report: &Report,
) -> Result<(), ApplyError> {
    let rights = statements::rights(names);
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
            format!("grant it to {role}, or to the owner of the view or function that PostgreSQL runs there"),
        );
    }
    Ok(())
}
