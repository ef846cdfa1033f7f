//! Generates the statements of tables that differ only in names and columns, from templates in sql/ and the
//! descriptions of the tables.
//!
//! Each template is expanded once for each of its tables. A name in braces is replaced according to `pair_names`,
//! `keyed_names` or `dated_names`. `firehose-worker schema --statements` prints the result.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::sql::{self, Statement};
use crate::rows::keyed::{IndexedAt, Kind};
use crate::rows::pairs::{ForeignWhen, PairTableInfo, PairValue};
use crate::rows::{DatedTable, KEYED_TABLES, KeyedTable, PairTable, dated_tables};

/// The statements of a pair table.
pub struct PairStatements {
    pub insert: Statement,
    pub existing: Statement,
    pub update: Statement,
    pub delete: Statement,
    pub bulk: Option<Bulk>,
    /// For tables of rows about posts: finds those about an account's posts.
    pub about: Option<Statement>,
    /// For tables of rows about posts: finds the posts of an account's rows.
    pub subjects: Option<Statement>,
}

/// The statements for many new rows, for tables that get many.
pub struct Bulk {
    pub held: Statement,
    pub copy: Statement,
}

/// The statements of a table whose rows depend only on their own record.
pub struct KeyedStatements {
    pub upsert: Statement,
    pub delete: Statement,
}

/// The statements with which `repair` corrects the dates of a table.
pub struct DatesStatements {
    pub table: &'static str,
    pub find: Statement,
    pub set: Statement,
}

pub fn pair(table: PairTable) -> &'static PairStatements {
    static STATEMENTS: LazyLock<[PairStatements; PairTable::ALL.len()]> =
        LazyLock::new(|| PairTable::ALL.map(|table| pair_statements(table.info())));
    &STATEMENTS[table as usize]
}

pub fn keyed(table: &KeyedTable) -> &'static KeyedStatements {
    static STATEMENTS: LazyLock<BTreeMap<&KeyedTable, KeyedStatements>> =
        LazyLock::new(|| KEYED_TABLES.map(|table| (table, keyed_statements(table))).into());
    &STATEMENTS[table]
}

/// The statements with which `prune` finds what is left of posts that are not stored, each with its table.
pub fn leftovers() -> &'static [(&'static str, Statement)] {
    static STATEMENTS: LazyLock<Vec<(&'static str, Statement)>> = LazyLock::new(|| {
        let find = |(table, time): (&'static str, &str)| {
            let names = vec![("{table}", table.to_owned()), ("{time}", time.to_owned())];
            (
                table,
                expand(sql::PRUNE_LEFTOVERS_FIND, format!("prune_{table}_find"), &names),
            )
        };
        LEFTOVERS.into_iter().map(find).collect()
    });
    &STATEMENTS
}

/// The tables whose rows belong to a post and are found by its URI alone, each with the column that tells their age.
const LEFTOVERS: [(&str, &str); 3] = [
    ("thread_contexts", "created_at"),
    ("thread_gates", "updated_at"),
    ("post_gates", "created_at"),
];

pub fn dates() -> &'static [DatesStatements] {
    static STATEMENTS: LazyLock<Vec<DatesStatements>> =
        LazyLock::new(|| dated_tables().iter().map(dates_statements).collect());
    &STATEMENTS
}

/// All statements except COPY.
pub(super) fn queries() -> impl Iterator<Item = &'static Statement> {
    let pairs = PairTable::ALL.into_iter().map(pair).flat_map(|statements| {
        let held = statements.bulk.iter().map(|bulk| &bulk.held);
        let found = statements.about.iter().chain(&statements.subjects);
        [
            &statements.insert,
            &statements.existing,
            &statements.update,
            &statements.delete,
        ]
        .into_iter()
        .chain(held)
        .chain(found)
    });
    let keyed = KEYED_TABLES.into_iter().map(keyed);
    let keyed = keyed.flat_map(|statements| [&statements.upsert, &statements.delete]);
    let dates = dates()
        .iter()
        .flat_map(|statements| [&statements.find, &statements.set]);
    let leftovers = leftovers().iter().map(|(_, statement)| statement);
    pairs.chain(keyed).chain(dates).chain(leftovers)
}

pub(super) fn copies() -> impl Iterator<Item = &'static Statement> {
    let bulk = PairTable::ALL.into_iter().filter_map(|table| pair(table).bulk.as_ref());
    bulk.map(|bulk| &bulk.copy)
}

fn pair_statements(table: &PairTableInfo) -> PairStatements {
    let names = pair_names(table);
    let expand = |template, kind| expand(template, format!("{}_{kind}", table.name), &names);
    let is_about_posts = table.key_b == Some("post_uri");
    PairStatements {
        insert: expand(sql::PAIRS_INSERT, "insert"),
        existing: expand(sql::PAIRS_EXISTING, "existing"),
        update: expand(sql::PAIRS_UPDATE, "update"),
        delete: expand(sql::PAIRS_DELETE, "delete"),
        bulk: table.is_large.then(|| Bulk {
            held: expand(sql::PAIRS_HELD, "held"),
            copy: expand(sql::PAIRS_COPY, "copy"),
        }),
        about: is_about_posts.then(|| expand(sql::FILL_PAIRS_FIND, "fill_find")),
        subjects: is_about_posts.then(|| expand(sql::FILL_STATES_FIND, "fill_subjects")),
    }
}

fn keyed_statements(table: &KeyedTable) -> KeyedStatements {
    let names = keyed_names(table);
    let expand = |template, kind| expand(template, format!("{}_{kind}", table.name), &names);
    KeyedStatements {
        upsert: match table.has_events {
            true => sql::LABELS_UPSERT,
            false => expand(sql::KEYED_UPSERT, "upsert"),
        },
        delete: expand(sql::KEYED_DELETE, "delete"),
    }
}

fn dates_statements(table: &DatedTable) -> DatesStatements {
    let names = dated_names(table);
    let expand = |template, kind| expand(template, format!("repair_{}_dates_{kind}", table.name), &names);
    DatesStatements {
        table: table.name,
        find: expand(sql::REPAIR_DATES_FIND, "find"),
        set: expand(sql::REPAIR_DATES_SET, "set"),
    }
}

type Names = Vec<(&'static str, String)>;

/// The replacements in the templates for pair tables.
fn pair_names(table: &PairTableInfo) -> Names {
    let keys: Vec<&str> = [table.key_a].into_iter().chain(table.key_b).collect();
    let mut columns = vec!["uri"];
    columns.extend(&keys);
    columns.push("created_at");
    columns.extend(table.values.iter().map(|value| value.column()));
    let mut parameters = vec!["$1::text[]".to_owned(), "$2::text[]".to_owned()];
    parameters.extend(table.key_b.map(|_| "$3::text[]".to_owned()));
    parameters.push("$4::timestamp[]".to_owned());
    parameters.extend(table.values.iter().map(|value| parameter(*value)));
    let assigned = columns[1..].iter().map(|column| format!("{column} = new.{column}"));
    let values = PairValue::ALL.map(|value| read(table, value));
    let is_foreign = match table.foreign {
        ForeignWhen::Never => "false",
        ForeignWhen::WithoutCommitSeq => "commit_seq IS NULL",
        ForeignWhen::Always => "true",
    };
    vec![
        ("{table}", table.name.to_owned()),
        ("{key_a}", table.key_a.to_owned()),
        ("{key_b}", table.key_b.unwrap_or("''::text").to_owned()),
        ("{pair}", keys.join(", ")),
        ("{pair_values}", ["pair.key_a", "pair.key_b"][..keys.len()].join(", ")),
        ("{assignments}", assigned.collect::<Vec<_>>().join(", ")),
        ("{columns}", columns.join(", ")),
        ("{parameters}", parameters.join(", ")),
        ("{values}", values.join(", ")),
        ("{is_foreign}", is_foreign.to_owned()),
    ]
}

/// The parameters of `PairValue::ALL` follow those of the URI, the pair and created_at.
fn parameter(value: PairValue) -> String {
    format!("${}::{}[]", 5 + value as usize, value.kind().sql())
}

/// How a value is read; NULL from a table that lacks it. JSON is read as text.
fn read(table: &PairTableInfo, value: PairValue) -> String {
    let column = value.column();
    match (table.has(value), value.kind()) {
        (true, Kind::Json) => format!("{column}::text AS {column}"),
        (true, _) => column.to_owned(),
        (false, Kind::Time) => format!("NULL::timestamp AS {column}"),
        (false, _) => format!("NULL::text AS {column}"),
    }
}

/// The replacements in the templates for keyed tables.
fn keyed_names(table: &KeyedTable) -> Names {
    let key = table.key.column();
    let mut columns = vec![(key, "text")];
    columns.extend(table.columns.iter().map(|(name, kind)| (*name, kind.sql())));
    if table.indexed_at != IndexedAt::Absent {
        columns.push(("indexed_at", "timestamp"));
    }
    let names = || table.columns.iter().map(|(name, _)| *name);
    let of = |prefix: &str| names().map(|name| format!("{prefix}.{name}")).collect::<Vec<_>>();
    let mut assigned: Vec<String> = names().map(|name| format!("{name} = excluded.{name}")).collect();
    if table.indexed_at == IndexedAt::OfChange {
        assigned.push("indexed_at = date_trunc('milliseconds', now())".to_owned());
    }
    let parameters = columns.iter().zip(1..).map(|((_, kind), n)| format!("${n}::{kind}[]"));
    vec![
        ("{table}", table.name.to_owned()),
        ("{key}", key.to_owned()),
        ("{parameters}", parameters.collect::<Vec<_>>().join(", ")),
        (
            "{columns}",
            columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
        ),
        ("{assignments}", assigned.join(", ")),
        ("{old}", of("r").join(", ")),
        ("{new}", of("excluded").join(", ")),
    ]
}

/// The replacements in the templates for tables with dates.
fn dated_names(table: &DatedTable) -> Names {
    let written_at = table.written_at;
    let assigned = table
        .columns
        .iter()
        .map(|column| format!("{column} = CASE WHEN {column} < '0100-01-01' THEN {written_at} ELSE {column} END"));
    vec![
        ("{table}", table.name.to_owned()),
        ("{key}", table.key.to_owned()),
        ("{dated}", format!("least({})", table.columns.join(", "))),
        ("{assignments}", assigned.collect::<Vec<_>>().join(", ")),
    ]
}

/// Expands a template for a table. The result is leaked and lives as long as the program.
fn expand(template: Statement, name: String, names: &Names) -> Statement {
    let fill = |text: &str| {
        let filled = names
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        &*filled.leak()
    };
    Statement {
        name: name.leak(),
        header: fill(template.header),
        text: fill(template.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_template_is_left() {
        for statement in queries().chain(copies()) {
            assert!(!statement.text.contains('{'), "{}: {}", statement.name, statement.text);
            assert!(
                !statement.header.contains('{'),
                "{}: {}",
                statement.name,
                statement.header
            );
        }
    }
}
