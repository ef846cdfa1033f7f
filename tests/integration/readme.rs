//! The README is right about what the program says.

use std::path::Path;

use crate::index::code_in;

const README: &str = include_str!("../../README.md");

/// Words that the README has in place of what the code puts together.
const PUT_TOGETHER: [&str; 2] = ["waiting for redis: ", "waiting for postgresql: "];

/// Pieces that are too short to tell a line by.
const SHORTEST: usize = 6;

#[test]
fn every_line_that_the_readme_explains_is_one_that_the_program_says() {
    let section = README.split("## What the log asks of you").nth(1).unwrap_or_default();
    let rows: Vec<&str> = section
        .split("\n## ")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    assert!(rows.len() > 20, "the table is not read: {rows:?}");
    let code = code_in("src")
        .concat()
        .replace("{DEAD_LETTERS}", "firehose:dead-letters");
    // A string that goes on in the next line is one.
    let code: Vec<&str> = code.split("\\\n").map(str::trim_start).collect();
    let code = code.concat();
    for row in rows {
        let lines = row.trim_start_matches("| ").split(" | ").next().unwrap_or_default();
        let pieces = lines.split('`').step_by(2).zip(lines.split('`').skip(1).step_by(2));
        for (_, line) in pieces {
            let line = line.replace("\\|", "|");
            for piece in line
                .split('…')
                .filter(|piece| piece.len() >= SHORTEST && !PUT_TOGETHER.contains(piece))
            {
                assert!(code.contains(piece), "the program never says {piece:?}, of {line:?}");
            }
        }
    }
}

#[test]
fn every_file_that_the_readme_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths: Vec<&str> = README
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| {
            ["src/", "sql/", "tests/", "systemd/"]
                .iter()
                .any(|folder| text.starts_with(folder))
        })
        .filter(|path| !path.contains('*'))
        .collect();
    assert!(paths.len() > 20, "the map is not read: {paths:?}");
    for path in paths {
        assert!(root.join(path).exists(), "README.md names {path}, which is not there");
    }
}
