//! Compares the columns in the database with those for which the worker's statements are written.
//!
//! Owns which types can stand in for others. An operator must fix any other type, even if PostgreSQL accepts it: COPY
//! in binary form misreads some values and refuses others as if they were bad data.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::schema::{self, Column, Table};
use crate::postgres::sql;

/// A column in the database.
pub struct Found {
    pub kind: String,
    pub is_required: bool,
    pub has_default: bool,
}

/// A table in the database.
#[derive(Default)]
pub struct FoundTable {
    /// The name with its schema, quoted if necessary.
    pub full_name: String,
    pub columns: BTreeMap<String, Found>,
}

/// What is wrong with a column, and the statement that fixes it.
pub struct Fault {
    pub found: String,
    pub remedy: String,
}

/// Reads the tables with these names. Tables that do not exist are left out.
pub fn read(client: &mut Client, names: &[&str]) -> Result<BTreeMap<String, FoundTable>, ApplyError> {
    let mut tables: BTreeMap<String, FoundTable> = BTreeMap::new();
    for row in Params::new().texts(names.iter()).query(client, sql::CHECK_COLUMNS)? {
        let found = Found {
            kind: row.get("type")?,
            is_required: row.get("is_required")?,
            has_default: row.get("has_default")?,
        };
        let table = tables.entry(row.get("table_name")?).or_default();
        table.full_name = row.get("full_name")?;
        table.columns.insert(row.get("column_name")?, found);
    }
    Ok(tables)
}

/// The columns whose types the worker cannot read or write, each with the statement that fixes it.
pub fn of_other_types(client: &mut Client) -> Result<Vec<String>, ApplyError> {
    static TABLES: OnceLock<Vec<Table>> = OnceLock::new();
    // Cached, because computing it scans all statements.
    let used = TABLES.get_or_init(|| schema::tables().into_iter().map(used_columns).collect());
    let names: Vec<&str> = used.iter().map(|table| table.name).collect();
    let found = read(client, &names)?;
    let of_table = |table: &Table| Some(found.get(table.name)?.mismatches(table));
    let faults = used.iter().filter_map(of_table).flatten();
    Ok(faults
        .map(|fault| format!("{}: {}", fault.found, fault.remedy))
        .collect())
}

/// The table with only the columns that the worker's statements name.
pub fn used_columns(mut table: Table) -> Table {
    table.columns.retain(|column| sql::uses(table.name, column.name));
    table
}

impl FoundTable {
    /// What keeps the worker from using the table with these columns, and no others.
    pub fn faults(&self, wanted: &Table) -> Vec<Fault> {
        let mut faults = self.mismatches(wanted);
        for column in &wanted.columns {
            let name = column.name;
            match self.columns.get(name) {
                None => {
                    let definition = column.definition_among_rows();
                    faults.push(self.fault(name, "is missing", &format!("ADD COLUMN {definition}")));
                }
                Some(found) if found.is_required && !column.is_required => {
                    faults.push(self.fault(name, "is NOT NULL, but may have no value", &drop_not_null(name)));
                }
                Some(_) => {}
            }
        }
        let is_used = |name: &str| wanted.columns.iter().any(|column| column.name == name);
        for (name, found) in &self.columns {
            if found.is_required && !found.has_default && !is_used(name) {
                let problem = "is NOT NULL without a default, and the worker does not write it";
                faults.push(self.fault(name, problem, &drop_not_null(name)));
            }
        }
        faults
    }

    /// The columns of the wrong type.
    fn mismatches(&self, wanted: &Table) -> Vec<Fault> {
        let columns = wanted.columns.iter();
        let found = columns.filter_map(|column| Some((column, self.columns.get(column.name)?)));
        let misfits = found.filter(|(wanted, found)| !fits(wanted.kind, &found.kind));
        misfits.map(|(wanted, found)| self.mismatch(wanted, found)).collect()
    }

    fn mismatch(&self, wanted: &Column, found: &Found) -> Fault {
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
        let problem = format!("is {}, and the worker reads and writes {kind}", found.kind);
        self.fault(column, &problem, &steps)
    }

    fn fault(&self, column: &str, problem: &str, steps: &str) -> Fault {
        let table = &self.full_name;
        Fault {
            found: format!("{table}.{column} {problem}"),
            remedy: format!("ALTER TABLE {table} {steps}"),
        }
    }
}

fn drop_not_null(column: &str) -> String {
    format!("ALTER COLUMN {column} DROP NOT NULL")
}

/// Whether a column of the type `found` accepts every value of the type `wanted`.
fn fits(wanted: &str, found: &str) -> bool {
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
