//! The index of tests, index.md, is right: every test that it names is there, and no table and no fault is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const INDEX: &str = include_str!("index.md");

/// Read by the worker, never written.
const READ_ONLY: &str = "user_settings";

/// Begins the second table.
const FAULTS: &str = "# Index of the faults that check names";

/// The rows of the table on rows.
fn rows() -> Vec<Vec<&'static str>> {
    cells_of(INDEX.split(FAULTS).next().unwrap_or_default())
}

/// The rows of the table on faults.
fn faults() -> Vec<Vec<&'static str>> {
    cells_of(INDEX.split(FAULTS).nth(1).unwrap_or_default())
}

/// The cells of each row of a table, without those of its head.
fn cells_of(text: &'static str) -> Vec<Vec<&'static str>> {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    text.lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .map(cells)
        .collect()
}

/// The text of each file of code below a folder of this repository.
pub(crate) fn code_in(folder: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).expect("a folder of code") {
            let path = file.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(fs::read_to_string(&path).expect("a file of code"));
            }
        }
    }
    texts
}

/// The names of all tests below a folder.
fn tests_in(folder: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for text in code_in(folder) {
        let of_tests = text.split("#[test]\n").skip(1);
        let name = |rest: &str| Some(rest.trim_start().strip_prefix("fn ")?.split_once('(')?.0.to_owned());
        names.extend(of_tests.filter_map(name));
    }
    names
}

pub(crate) fn tables_in(schema: &'static str) -> impl Iterator<Item = &'static str> {
    let names = schema
        .lines()
        .filter_map(|line| line.strip_prefix("CREATE TABLE IF NOT EXISTS "));
    names.filter_map(|rest| rest.split([' ', '(']).next()?.rsplit('.').next())
}

#[test]
fn the_index_names_a_test_for_everything_that_can_happen_to_a_record() {
    let tests = tests_in("tests/integration");
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
    let written: BTreeSet<&str> = tables_in(firehose_worker::postgres::sql::SCHEMA)
        .filter(|table| *table != READ_ONLY)
        .chain(["rivals"])
        .collect();
    assert_eq!(indexed, written);
}

/// The calls by which `check` warns or fails, each as far as its closing parenthesis.
fn calls() -> Vec<String> {
    const BEGINS: [&str; 5] = [
        "report.fail(",
        "report.warn(",
        "finding(Level::Warn,",
        "finding(Level::Fail,",
        "out.take(Finding {",
    ];
    let mut calls = Vec::new();
    for text in code_in("src/commands/check") {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        // In one form, however the lines are broken.
        let code = code.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(");
        for begin in BEGINS {
            calls.extend(code.match_indices(begin).map(|(at, _)| call(&code[at..]).to_owned()));
        }
    }
    calls
}

fn call(code: &str) -> &str {
    let mut depth = 0;
    for (at, character) in code.char_indices() {
        depth += match character {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth == 0 && character == ')' {
            return &code[..at];
        }
    }
    code
}

#[test]
fn the_index_names_a_test_for_every_fault_that_check_names() {
    let mut tests = tests_in("tests/integration");
    tests.append(&mut tests_in("src"));
    let (calls, faults) = (calls(), faults());
    assert!(calls.len() > 40, "the calls are not found: {calls:?}");
    for row in &faults {
        let [_, words, test] = row.as_slice() else {
            panic!("a row of other cells: {row:?}");
        };
        let words = words.trim_matches('`');
        assert!(
            calls.iter().any(|call| call.contains(words)),
            "check warns or fails nowhere with the words {words}"
        );
        assert!(
            test.starts_with("none: ") || tests.contains(test.trim_matches('`')),
            "there is no test {test}"
        );
    }
    let is_indexed = |call: &&String| faults.iter().any(|row| call.contains(row[1].trim_matches('`')));
    let missing: Vec<&String> = calls.iter().filter(|call| !is_indexed(call)).collect();
    assert!(missing.is_empty(), "not in index.md: {missing:#?}");
}
