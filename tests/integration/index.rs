//! The index of tests, index.md, is correct: each test that it names exists, and it names each table that the worker
//! writes. So is the list of other consumers' pitfalls in tests/README.md.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::Command;

use crate::support::snapshot::written_tables;

const INDEX: &str = include_str!("index.md");

const PITFALLS: &str = include_str!("../README.md");

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

/// The names of the tests beside the code, which another program runs.
fn unit_tests(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            names.extend(unit_tests(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        let after_attribute = text.split("#[test]\n").skip(1);
        let name = |rest: &str| Some(rest.trim_start().strip_prefix("fn ")?.split('(').next()?.to_owned());
        names.extend(after_attribute.filter_map(name));
    }
    names
}

#[test]
fn every_pitfall_of_other_consumers_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = tests();
    tests.extend(unit_tests(&root.join("src")));
    tests.extend(unit_tests(&root.join("tests/fuzz")));
    let (_, rest) = PITFALLS
        .split_once("## Pitfalls of other consumers\n")
        .expect("the section");
    let section = rest.split("\n## ").next().unwrap_or_default();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 25, "the table is not read: {rows:?}");
    for row in rows {
        let names: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            assert!(tests.contains(name), "there is no test {name}: {row}");
        }
    }
}

#[test]
fn every_table_of_the_worker_is_in_the_index() {
    let indexed: BTreeSet<&str> = rows().into_iter().flat_map(|row| row[1].split(' ')).collect();
    let written: BTreeSet<&str> = written_tables().chain(["rivals"]).collect();
    assert_eq!(indexed, written);
}
