//! No statement of the worker scans a table: EXPLAIN of each file in `sql/`, on a million posts and likes.
//!
//! A plan is right only if every table is reached by an index condition: while the tables are empty, as at a first
//! start, before they were ever analysed, as after a restore, and afterwards. A pair must be reached by an index of
//! both its columns: one account may own most rows of a table, and one post may have most of the likes.

use std::collections::BTreeMap;

use firehose_worker::postgres::sql::{self, Statement};
use firehose_worker::rows::PairTable;
use postgres::{Client, SimpleQueryMessage};
use serde_json::Value;

use crate::support::PostgresServer;
use crate::support::postgres::Database;

/// The tables that grow without end, and their rows.
const LARGE: [&str; 2] = ["posts", "likes"];
const N_ROWS: usize = 1_000_000;

/// Rows of every other table.
const N_OTHER_ROWS: usize = 20_000;

/// Elements of each array parameter: a usual batch.
const N_ELEMENTS: usize = 200;

/// The tables with a key of two columns, each of which also has a separate index.
fn with_half_keys() -> impl Iterator<Item = &'static str> {
    let pairs = PairTable::ALL.into_iter().filter(|table| table.info().key_b.is_some());
    pairs.map(PairTable::name).chain(["post_viewer_states"])
}

/// Statements that mean all rows of a subject, or a bounded number of a viewer's.
const OF_WHOLE_SUBJECTS: [&str; 15] = [
    "bookmarks_fill_find",
    "counters_recount",
    "fill_follows_find",
    "likes_fill_find",
    "pairs_forgotten",
    "repair_counters_bound",
    "repair_counters_find",
    "reposts_fill_find",
    "prune_counters_delete",
    "prune_counts",
    "prune_followed_read",
    "prune_pairs_find",
    "prune_states_find",
    "prune_subjects_find",
    "prune_touched_find",
];

/// Statements that name no rows: settings, locks, queries of the catalogue, and those that read all members, of which
/// there are few.
const WITHOUT_ROWS: [&str; 11] = [
    "begin",
    "own_schema_lock",
    "missing_tables",
    "members_check",
    "members_gate",
    "members_read",
    "repair_list_items_lock",
    "job_rights",
    "job_yield",
    "prune_clock",
    "prune_sizes",
];

#[test]
fn no_statement_scans_a_table_of_a_million_rows() {
    let database = Database::empty(PostgresServer::shared(), "plans");
    let mut client = database.client();
    make_tables(&mut client);
    client.batch_execute(sql::SCHEMA).expect("the schema makes its indexes");
    // Scans cost nothing here and are planned anew when there are rows, but a wrong index would be used forever.
    explain_all(&mut client, "while the tables are empty", &[half_key]);
    drop_all(&mut client);
    make_tables(&mut client);
    fill(&mut client);
    explain_all(&mut client, "before the tables are analysed", &[scan, half_key]);
    client.batch_execute("ANALYZE").unwrap();
    explain_all(&mut client, "after the tables are analysed", &[scan, half_key]);
}

fn drop_all(client: &mut Client) {
    client
        .batch_execute(
            "SET client_min_messages = warning; DROP SCHEMA public CASCADE; DROP SCHEMA firehose_worker CASCADE;
             CREATE SCHEMA public",
        )
        .expect("the schemas go");
}

/// Makes the tables without their indexes but those of primary keys.
fn make_tables(client: &mut Client) {
    for statement in sql::SCHEMA
        .split_inclusive(";\n")
        .filter(|statement| statement.contains("CREATE TABLE"))
    {
        client.batch_execute(statement).expect("the schema makes its tables");
    }
    client.batch_execute(sql::OWN_SCHEMA).expect("the own schema");
}

/// Fills the tables and then makes the indexes, in this order since it takes a third of the time.
fn fill(client: &mut Client) {
    client
        .batch_execute("SET maintenance_work_mem = '256MB'")
        .expect("a setting");
    for (table, columns) in columns(client) {
        let n_rows = if LARGE.contains(&table.as_str()) {
            N_ROWS
        } else {
            N_OTHER_ROWS
        };
        let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let insert = format!(
            "INSERT INTO {table} ({}) SELECT {} FROM generate_series(1, {n_rows}) AS i",
            names.join(", "),
            values.join(", ")
        );
        client
            .batch_execute(&insert)
            .unwrap_or_else(|error| panic!("{insert}: {error:?}"));
    }
    client.batch_execute(sql::SCHEMA).expect("the schema makes its indexes");
}

/// The columns of each table that have no default, with an expression over `i` for each; tables in the schema's order,
/// so that what is referred to comes first.
fn columns(client: &mut Client) -> Vec<(String, Vec<(String, String)>)> {
    let rows = client
        .query(
            "SELECT c.oid::regclass::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
             FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
             WHERE c.relkind = 'r' AND c.relnamespace IN ('public'::regnamespace, 'firehose_worker'::regnamespace)
                 AND a.attnum > 0 AND NOT a.atthasdef AND a.attnotnull
             ORDER BY c.oid, a.attnum",
            &[],
        )
        .expect("the catalogue");
    let mut tables: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for row in rows {
        let (table, column, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let value = value(&table, &column, &kind);
        match tables.last_mut().filter(|(last, _)| *last == table) {
            Some((_, columns)) => columns.push((column, value)),
            None => tables.push((table, vec![(column, value)])),
        }
    }
    tables
}

fn value(table: &str, column: &str, kind: &str) -> String {
    let value = match kind {
        "bigint" | "integer" => "i",
        "boolean" => "false",
        "jsonb" => "'{}'",
        kind if kind.starts_with("timestamp") => "now()",
        "character varying(32)" | "character varying(64)" | "character varying(128)" => "i",
        _ if column == "post_uri" => "'at://did:plc:' || i / 3 * 3 || '/app.bsky.feed.post/' || i",
        // One account in two of the rows of each table, and as many accounts as the other rows.
        _ if with_half_keys().any(|half| half == table)
            && ["user_did", "follower_did", "blocker_did", "viewer_did"].contains(&column) =>
        {
            "'did:plc:' || CASE WHEN i % 2 = 0 THEN 0 ELSE i END"
        }
        _ if column.ends_with("did") => "'did:plc:' || i",
        _ => "'at://did:plc:' || i || '/app.bsky.feed.post/' || i",
    };
    value.to_owned()
}

/// What is wrong about a node of a plan, if anything is.
type Rule = fn(node: &Value, statement: &str) -> Option<String>;

fn explain_all(client: &mut Client, when: &str, rules: &[Rule]) {
    let mut faults = Vec::new();
    for statement in sql::queries().filter(|statement| !WITHOUT_ROWS.contains(&statement.name)) {
        let plan = explain(client, statement);
        let mut found = Vec::new();
        collect(&plan[0]["Plan"], statement.name, rules, &mut found);
        if !found.is_empty() {
            faults.push(format!("sql/{}.sql {}", statement.name, found.join(", ")));
        }
    }
    assert!(faults.is_empty(), "{when}:\n{}", faults.join("\n"));
}

/// The statement's plan as the worker would get it: with its settings and for arrays of a usual length.
fn explain(client: &mut Client, statement: &Statement) -> Value {
    let types = parameter_types(statement.text);
    let arguments: Vec<String> = types.iter().map(|kind| argument(kind)).collect();
    client.batch_execute(sql::BEGIN.text).expect("a transaction begins");
    // Without parameters there are no parentheses.
    let in_parentheses = |list: Vec<String>| match list.is_empty() {
        true => String::new(),
        false => format!("({})", list.join(", ")),
    };
    let prepare = format!(
        "SET LOCAL plan_cache_mode = force_custom_plan; PREPARE statement {} AS {}",
        in_parentheses(types),
        statement.text
    );
    let execute = format!("EXPLAIN (FORMAT JSON) EXECUTE statement {}", in_parentheses(arguments));
    let answer = client
        .batch_execute(&prepare)
        .and_then(|()| client.simple_query(&execute))
        .unwrap_or_else(|error| panic!("sql/{}.sql: {error:?}", statement.name));
    client
        .batch_execute("ROLLBACK; DEALLOCATE statement")
        .expect("a transaction ends");
    let plan = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    serde_json::from_str(plan.expect("EXPLAIN answers with a row")).expect("a plan is JSON")
}

/// The types that the statement casts its parameters to, in the order of their numbers; unused ones are text arrays.
fn parameter_types(text: &str) -> Vec<String> {
    let mut types = BTreeMap::new();
    let parameters = text
        .split('$')
        .skip(1)
        .filter(|part| part.starts_with(|c: char| c.is_ascii_digit()));
    for part in parameters {
        let (number, rest) = part.split_once("::").expect("every parameter is cast");
        let kind: String = rest
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "[]".contains(*c))
            .collect();
        types.insert(number.parse::<usize>().expect("a parameter's number"), kind);
    }
    let last = types.keys().copied().max().unwrap_or_default();
    (1..=last)
        .map(|number| types.remove(&number).unwrap_or_else(|| "text[]".to_owned()))
        .collect()
}

fn argument(kind: &str) -> String {
    let element = |i: usize| match kind {
        "text[]" | "text" => format!("'at://did:plc:{i}/app.bsky.feed.post/{i}'"),
        "jsonb[]" => "'{}'".to_owned(),
        "timestamp[]" | "timestamp" => "'2026-01-01'".to_owned(),
        "boolean[]" => "true".to_owned(),
        "integer[]" | "bigint[]" => "1".to_owned(),
        "bigint" => N_ELEMENTS.to_string(),
        "jsonb" => "'{}'".to_owned(),
        other => panic!("no argument is known for {other}"),
    };
    if !kind.ends_with("[]") {
        return element(1);
    }
    let elements: Vec<String> = (1..=N_ELEMENTS).map(element).collect();
    format!("ARRAY[{}]::{kind}", elements.join(","))
}

fn collect(node: &Value, statement: &str, rules: &[Rule], found: &mut Vec<String>) {
    found.extend(rules.iter().filter_map(|rule| rule(node, statement)));
    for child in node["Plans"].as_array().into_iter().flatten() {
        collect(child, statement, rules, found);
    }
}

/// A table is read other than by an index condition; of members there are a few.
fn scan(node: &Value, _: &str) -> Option<String> {
    let kind = node["Node Type"].as_str().unwrap_or_default();
    let reads_table = kind.ends_with("Scan") && node["Relation Name"].is_string() && node["Relation Name"] != "members";
    let is_by_key = kind == "Bitmap Heap Scan" || node["Index Cond"].is_string() || node["TID Cond"].is_string();
    (reads_table && !is_by_key).then(|| format!("reads {} by {kind}", node["Relation Name"]))
}

/// A table of pairs is read by an index of half of its key.
fn half_key(node: &Value, statement: &str) -> Option<String> {
    let index = node["Index Name"].as_str()?;
    let of_pairs = |table: &str| index.strip_prefix("idx_").is_some_and(|rest| rest.starts_with(table));
    let is_half = with_half_keys().any(of_pairs) && index != "idx_post_viewer_states_post_viewer";
    (is_half && !OF_WHOLE_SUBJECTS.contains(&statement)).then(|| format!("reads by {index}, half of a key"))
}
