//! Compares the columns in the database with those for which the worker's statements are written.
//!
//! Owns which types can stand in for others. An operator must fix any other type, even if PostgreSQL accepts it: COPY
//! in binary form misreads some values and refuses others as if they were bad data.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use postgres::Client;

use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::schema::{self, Column, Table};
use crate::postgres::sql;

/// A column in the database.
pub struct Found {
    pub kind: String,
    pub is_required: bool,
    pub has_default: bool,
    /// Whether the column is part of the table's partition key.
    pub divides: bool,
}

/// A table in the database.
#[derive(Default)]
pub struct FoundTable {
    /// The name with its schema, quoted if necessary.
    pub full_name: String,
    pub columns: BTreeMap<String, Found>,
}

/// Reads the tables with these names. Tables that do not exist are left out.
pub fn read(client: &mut Client, names: &[&str]) -> Result<BTreeMap<String, FoundTable>, ApplyError> {
    let mut tables: BTreeMap<String, FoundTable> = BTreeMap::new();
    for row in Params::new().texts(names.iter()).query(client, sql::CHECK_COLUMNS)? {
        let found = Found {
            kind: row.get("type")?,
            is_required: row.get("is_required")?,
            has_default: row.get("has_default")?,
            divides: row.get("divides")?,
        };
        let table = tables.entry(row.get("table_name")?).or_default();
        table.full_name = row.get("full_name")?;
        table.columns.insert(row.get("column_name")?, found);
    }
    Ok(tables)
}

/// The columns whose types the worker cannot read or write, each with the statement that fixes it.
pub fn of_other_types(client: &mut Client) -> Result<Vec<String>, ApplyError> {
    let used = used_columns();
    let names: Vec<&str> = used.iter().map(|table| table.name).collect();
    let found = read(client, &names)?;
    let mut faults = Vec::new();
    for table in used {
        let Some(there) = found.get(table.name) else { continue };
        for column in &table.columns {
            let mismatch = there.columns.get(column.name).filter(|at| !fits(column.kind, &at.kind));
            faults.extend(mismatch.map(|at| {
                let (fault, remedy) = mismatched(&there.full_name, column, at);
                format!("{fault}: {remedy}")
            }));
        }
    }
    Ok(faults)
}

/// Describes a column of the wrong type, and returns the statement that fixes it.
pub fn mismatched(table: &str, wanted: &Column, found: &Found) -> (String, String) {
    let (column, kind) = (wanted.name, wanted.kind);
    let using = match (kind, found.kind.as_str()) {
        ("timestamp", "timestamp with time zone") => format!("{column} AT TIME ZONE 'UTC'"),
        _ => format!("{column}::{kind}"),
    };
    let change = format!("ALTER COLUMN {column} TYPE {kind} USING {using}");
    // ALTER COLUMN does not convert a default, which may not fit the new type.
    let steps = match (found.has_default, wanted.default()) {
        (false, _) => change,
        (true, None) => format!("ALTER COLUMN {column} DROP DEFAULT, {change}"),
        (true, Some(default)) => {
            format!("ALTER COLUMN {column} DROP DEFAULT, {change}, ALTER COLUMN {column} SET DEFAULT {default}")
        }
    };
    (
        format!(
            "{table}.{column} is {}, and the worker reads and writes {kind}",
            found.kind
        ),
        format!("ALTER TABLE {table} {steps}"),
    )
}

/// The AppView's tables with the columns that the worker uses. Cached, because computing it scans all statements.
fn used_columns() -> &'static [Table] {
    static TABLES: OnceLock<Vec<Table>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut tables = schema::tables();
        for table in &mut tables {
            let name = table.name;
            table.columns.retain(|column| sql::uses(name, column.name));
        }
        tables
    })
}

/// Whether a column of the type `found` accepts every value of the type `wanted`.
pub fn fits(wanted: &str, found: &str) -> bool {
    let length = |kind: &str| kind.rsplit_once('(')?.1.trim_end_matches(')').parse::<u32>().ok();
    match wanted {
        "text" => matches!(found, "text" | "character varying"),
        _ if wanted.starts_with("varchar") => match found {
            "text" | "character varying" => true,
            _ => found.starts_with("character varying(") && length(found) >= length(wanted),
        },
        "integer" | "serial" => matches!(found, "integer" | "bigint"),
        "bigint" | "bigserial" => found == "bigint",
        "timestamp" => found == "timestamp without time zone",
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_fits_if_it_takes_all_that_is_written() {
        for (wanted, found, does_fit) in [
            ("varchar(255)", "character varying(255)", true),
            ("varchar(255)", "character varying(512)", true),
            ("varchar(255)", "character varying(64)", false),
            ("varchar(255)", "text", true),
            ("text", "character varying(512)", false),
            ("timestamp", "timestamp without time zone", true),
            ("timestamp", "timestamp with time zone", false),
            ("integer", "bigint", true),
            ("jsonb", "json", false),
            ("boolean", "boolean", true),
        ] {
            assert_eq!(fits(wanted, found), does_fit, "{wanted} in {found}");
        }
    }
}
