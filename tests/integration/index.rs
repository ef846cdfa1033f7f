//! The index of the tests on rows, index.md, is right: every test that it names is there, and no table is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const INDEX: &str = include_str!("index.md");

/// Read by the worker, never written.
const READ_ONLY: &str = "user_settings";

/// The cells of each row of the table, without those of its head.
fn rows() -> Vec<Vec<&'static str>> {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    INDEX
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .map(cells)
        .collect()
}

/// The names of all tests below a directory.
fn tests_in(directory: &Path, names: &mut BTreeSet<String>) {
    for file in fs::read_dir(directory).expect("a directory of tests") {
        let path = file.expect("an entry of it").path();
        if path.is_dir() {
            tests_in(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a file of tests");
            let of_tests = text.split("#[test]\nfn ").skip(1);
            names.extend(of_tests.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
}

fn tables_in(schema: &'static str) -> impl Iterator<Item = &'static str> {
    let names = schema
        .lines()
        .filter_map(|line| line.strip_prefix("CREATE TABLE IF NOT EXISTS "));
    names.filter_map(|rest| rest.split([' ', '(']).next()?.rsplit('.').next())
}

#[test]
fn the_index_names_a_test_for_everything_that_can_happen_to_a_record() {
    let mut tests = BTreeSet::new();
    tests_in(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration")),
        &mut tests,
    );
    let rows = rows();
    assert!(rows.len() > 20, "the table of index.md is not read: {rows:?}");
    for row in rows {
        let [record, _, of_ops @ ..] = row.as_slice() else {
            panic!("a row of fewer cells: {row:?}");
        };
        assert_eq!(of_ops.len(), 4, "{record}: create, update, delete, repeat");
        for name in of_ops {
            assert!(
                tests.contains(name.trim_matches('`')),
                "{record}: there is no test {name}"
            );
        }
    }
}

#[test]
fn every_table_of_the_worker_is_in_the_index() {
    let indexed: BTreeSet<&str> = rows().into_iter().flat_map(|row| row[1].split(' ')).collect();
    let written: BTreeSet<&str> = tables_in(firehose_worker::sql::SCHEMA)
        .filter(|table| *table != READ_ONLY)
        .chain(["rivals"])
        .collect();
    assert_eq!(indexed, written);
}
