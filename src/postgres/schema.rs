//! The tables as defined by sql/schema.sql and sql/own_schema.sql. `check` compares the database with them.
//!
//! Owns the parsing of these two files. Their form is regular: one column, constraint or index per line.

use crate::postgres::sql;

/// A table that the worker reads or writes.
#[derive(Clone, Debug)]
pub struct Table {
    pub name: &'static str,
    pub columns: Vec<Column>,
    pub keys: Vec<Key>,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: &'static str,
    /// The type as written in the file.
    pub kind: &'static str,
    pub is_required: bool,
    /// The whole line, in the form that ALTER TABLE accepts.
    pub definition: &'static str,
}

impl Column {
    /// The value of the column in a row that does not specify one.
    pub fn default(&self) -> Option<&'static str> {
        let (_, default) = self.definition.split_once(" DEFAULT ")?;
        Some(default.trim_end_matches(" NOT NULL"))
    }

    /// The definition for a table that has rows. A required column without a default gets one for the existing rows.
    pub fn definition_among_rows(&self) -> String {
        if !self.is_required || self.default().is_some() || self.kind.ends_with("serial") {
            return self.definition.to_owned();
        }
        let value = match self.kind {
            "timestamp" => "now()",
            "jsonb" => "'{}'",
            "boolean" => "false",
            "integer" | "bigint" => "0",
            _ => "''",
        };
        format!("{} DEFAULT {value}", self.definition)
    }
}

/// A unique key.
#[derive(Clone, Debug)]
pub struct Key {
    /// The columns as in the file, separated by `, `.
    pub columns: &'static str,
    /// The statement that creates the key.
    pub statement: String,
}

/// The AppView's tables.
pub fn tables() -> Vec<Table> {
    parse(sql::SCHEMA)
}

/// The statements that create the worker's own indexes, each with the index's name.
pub fn own_indexes() -> impl Iterator<Item = (String, &'static str)> {
    sql::OWN_SCHEMA.lines().filter_map(|line| {
        let rest = line.strip_prefix("CREATE INDEX IF NOT EXISTS ")?;
        let name = rest.split(' ').next()?;
        Some((format!("firehose_worker.{name}"), line.trim_end_matches(';')))
    })
}

/// The worker's own tables.
pub fn own_tables() -> Vec<Table> {
    parse(sql::OWN_SCHEMA)
}

fn parse(text: &'static str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("CREATE TABLE IF NOT EXISTS ") {
            tables.push(Table {
                name: rest.split_whitespace().next().unwrap_or_default(),
                columns: Vec::new(),
                keys: Vec::new(),
            });
        } else if let Some(table) = tables.last_mut() {
            table.take(line);
        }
    }
    tables
}

impl Table {
    fn take(&mut self, line: &'static str) {
        let definition = line.trim_end_matches([',', ';']);
        if line.starts_with("CREATE UNIQUE INDEX") {
            self.add_key(definition, definition.to_owned());
        } else if definition.starts_with("CONSTRAINT") || definition.starts_with("UNIQUE") {
            self.add_key(definition, format!("ALTER TABLE {} ADD {definition}", self.name));
        } else if is_column(definition) {
            self.add_column(definition);
        }
    }

    fn add_column(&mut self, definition: &'static str) {
        let (name, rest) = definition.split_once(' ').unwrap_or((definition, ""));
        let kind = rest.split(' ').next().unwrap_or_default();
        let is_key = definition.ends_with("PRIMARY KEY");
        self.columns.push(Column {
            name,
            kind,
            is_required: is_key || definition.contains("NOT NULL") || kind.ends_with("serial"),
            definition,
        });
        if is_key {
            let statement = format!("ALTER TABLE {} ADD PRIMARY KEY ({name})", self.name);
            self.keys.push(Key {
                columns: name,
                statement,
            });
        }
    }

    fn add_key(&mut self, definition: &'static str, statement: String) {
        let columns = definition.rsplit_once('(').map_or("", |(_, rest)| rest);
        let columns = columns.trim_end_matches(')');
        self.keys.push(Key { columns, statement });
    }
}

fn is_column(definition: &str) -> bool {
    let is_name = definition.starts_with(|first: char| first.is_ascii_lowercase());
    is_name && definition.contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_tables_columns_and_keys_are_found() {
        let tables = tables();
        assert_eq!(tables.len(), sql::SCHEMA.matches("CREATE TABLE").count(), "{tables:?}");
        let table = |name| tables.iter().find(|table| table.name == name).unwrap();
        let likes = table("likes");
        assert_eq!(likes.columns[0].name, "uri");
        assert_eq!(likes.columns[0].kind, "varchar(512)");
        assert!(likes.columns[0].is_required);
        let via = likes.columns.iter().find(|column| column.name == "via").unwrap();
        assert!(!via.is_required);
        let keys: Vec<&str> = likes.keys.iter().map(|key| key.columns).collect();
        assert_eq!(keys, ["uri", "user_did, post_uri"]);
        for table in &tables {
            assert!(table.columns.len() > 2, "{table:?}");
        }
    }

    #[test]
    fn the_own_tables_are_found_with_their_keys() {
        let tables = own_tables();
        assert_eq!(tables.len(), sql::OWN_SCHEMA.matches("CREATE TABLE").count());
        let mut tables = tables.iter();
        let rivals = tables.find(|table| table.name == "firehose_worker.rivals").unwrap();
        assert_eq!(rivals.keys[0].columns, "uri");
    }
}
