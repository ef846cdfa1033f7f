//! The index of tests, index.md, is correct: each test that it names exists, and it names each table that the worker
//! writes.

use std::collections::BTreeSet;
use std::env;
use std::process::Command;

use crate::support::snapshot::written_tables;

const INDEX: &str = include_str!("index.md");

/// The cells of each row of the table, without its head.
fn rows() -> Vec<Vec<&'static str>> {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    let lines = INDEX.lines().filter(|line| line.starts_with("| "));
    lines.skip(1).map(cells).collect()
}

/// The names of all tests of this program, without their modules, as the test harness lists them.
fn tests() -> BTreeSet<String> {
    let program = env::current_exe().expect("the path of this program");
    let output = Command::new(program)
        .arg("--list")
        .output()
        .expect("the list of the tests");
    let listed = String::from_utf8(output.stdout).expect("names");
    let tests = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    tests
        .filter_map(|test| test.rsplit("::").next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_index_names_a_test_for_everything_that_can_happen_to_a_record() {
    let tests = tests();
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
    let written: BTreeSet<&str> = written_tables().chain(["rivals"]).collect();
    assert_eq!(indexed, written);
}
