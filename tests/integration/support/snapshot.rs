//! The contents of a database as values, so that two runs can be compared.
//!
//! Excludes values that depend on the time of the run (columns with the wall clock, serial ids), and rows without
//! information: an aggregation of zeros without a post, a viewer state in which nothing is set.

use std::collections::BTreeMap;

use postgres::Client;
use serde_json::Value;

/// Read by the worker, never written.
const READ_ONLY: &str = "user_settings";

/// The rows that count, of the tables in which not all do.
const COUNTING: [(&str, &str); 2] = [
    (
        "post_viewer_states",
        "like_uri is not null or repost_uri is not null or bookmarked or thread_muted or reply_disabled \
         or embedding_disabled or pinned",
    ),
    (
        "post_aggregations",
        "(like_count, repost_count, reply_count, bookmark_count, quote_count) <> (0, 0, 0, 0, 0) \
         or exists (select from posts p where p.uri = post_uri)",
    ),
];

/// Columns that depend on the time of the run, or on the IDs of its entries.
const WALL_CLOCK: [&str; 3] = ["indexed_at", "updated_at", "id"];

/// Rows shown of a table in each direction where two snapshots differ.
const N_SHOWN: usize = 5;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    tables: BTreeMap<&'static str, Vec<Value>>,
}

impl Snapshot {
    pub(crate) fn take(client: &mut Client) -> Self {
        Self::take_but_for(client, &WALL_CLOCK)
    }

    /// The same with `indexed_at`, for a test that knows when it may have been.
    pub(crate) fn take_with_times(client: &mut Client) -> Self {
        Self::take_but_for(client, &WALL_CLOCK[1..])
    }

    fn take_but_for(client: &mut Client, columns: &[&str]) -> Self {
        let rows = |table| {
            let counting = COUNTING.iter().find(|(of, _)| *of == table);
            rows_where(client, table, counting.map_or("true", |(_, filter)| filter), columns)
        };
        let tables: Vec<_> = written_tables().collect();
        Self {
            tables: tables.iter().copied().zip(tables.iter().copied().map(rows)).collect(),
        }
    }

    pub(crate) fn rows(&self, table: &str) -> &[Value] {
        self.tables
            .get(table)
            .unwrap_or_else(|| panic!("{table} is not part of a snapshot"))
    }

    /// The number of rows per table.
    pub(crate) fn sizes(&self) -> BTreeMap<&'static str, usize> {
        self.tables.iter().map(|(&table, rows)| (table, rows.len())).collect()
    }

    /// The same without some tables, and with every row put through `change`.
    pub(crate) fn map(mut self, left_out: &[&str], change: impl Fn(&mut Value)) -> Self {
        self.tables.retain(|table, _| !left_out.contains(table));
        for rows in self.tables.values_mut() {
            rows.iter_mut().for_each(&change);
            rows.sort_by_cached_key(Value::to_string);
        }
        self
    }
}

/// The names of the tables that a schema creates.
pub(crate) fn tables_in(schema: &'static str) -> impl Iterator<Item = &'static str> {
    let names = schema
        .lines()
        .filter_map(|line| line.strip_prefix("CREATE TABLE IF NOT EXISTS "));
    names.filter_map(|rest| rest.split([' ', '(']).next()?.rsplit('.').next())
}

/// Every table of the AppView that the worker writes, or, as `thread_contexts`, only deletes from.
pub(crate) fn written_tables() -> impl Iterator<Item = &'static str> {
    tables_in(firehose_worker::postgres::sql::SCHEMA).filter(|table| *table != READ_ONLY)
}

/// Fails with the rows that one has and the other has not, table by table.
#[track_caller]
pub(crate) fn assert_same(left: &Snapshot, right: &Snapshot) {
    let differences: Vec<String> = left
        .tables
        .keys()
        .filter(|table| left.tables[*table] != right.tables[*table])
        .map(|table| difference(table, left.rows(table), right.rows(table)))
        .collect();
    assert!(
        differences.is_empty(),
        "two snapshots differ:\n{}",
        differences.join("\n")
    );
}

/// All rows of a table, without the wall clock, sorted.
pub(crate) fn rows(client: &mut Client, table: &str) -> Vec<Value> {
    rows_where(client, table, "true", &WALL_CLOCK)
}

/// The rows of a query as JSON objects.
pub(crate) fn query(client: &mut Client, query: &str) -> Vec<Value> {
    let wrapped = format!("select to_jsonb(q)::text from ({query}) q");
    let rows = client
        .query(&wrapped, &[])
        .unwrap_or_else(|error| panic!("{error}\nin {query}"));
    rows.iter()
        .map(|row| serde_json::from_str(row.get(0)).expect("PostgreSQL's JSON is JSON"))
        .collect()
}

fn rows_where(client: &mut Client, table: &str, filter: &str, left_out: &[&str]) -> Vec<Value> {
    let mut rows = query(client, &format!("select * from public.{table} where {filter}"));
    rows.iter_mut().for_each(|row| forget_wall_clock(table, row, left_out));
    rows.sort_by_cached_key(Value::to_string);
    rows
}

fn forget_wall_clock(table: &str, row: &mut Value, columns: &[&str]) {
    let row = row.as_object_mut().expect("a row is an object");
    for column in columns {
        row.remove(*column);
    }
    // The other tables' created_at is the record's own time.
    if [
        "users",
        "post_aggregations",
        "post_viewer_states",
        "thread_contexts",
        "label_events",
    ]
    .contains(&table)
    {
        row.remove("created_at");
    }
}

fn difference(table: &str, left: &[Value], right: &[Value]) -> String {
    let mut text = format!("{table}: {} rows against {}", left.len(), right.len());
    for (sign, rows) in [('-', missing(left, right)), ('+', missing(right, left))] {
        for row in rows.iter().take(N_SHOWN) {
            text.push_str(&format!("\n  {sign} {row}"));
        }
        if rows.len() > N_SHOWN {
            text.push_str(&format!("\n  {sign} … {} rows in all", rows.len()));
        }
    }
    text
}

/// The rows of `these` that `those` has not. Both are sorted by their text.
fn missing<'a>(these: &'a [Value], those: &[Value]) -> Vec<&'a Value> {
    let mut n_there: BTreeMap<String, usize> = BTreeMap::new();
    for row in those {
        *n_there.entry(row.to_string()).or_default() += 1;
    }
    these
        .iter()
        .filter(|row| match n_there.get_mut(&row.to_string()) {
            Some(n) if *n > 0 => {
                *n -= 1;
                false
            }
            _ => true,
        })
        .collect()
}
