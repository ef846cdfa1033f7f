//! Formats dead letters as a table.
//!
//! Owns the columns and their widths. Pure: the caller passes the terminal's width.

use super::letter::repo;
use crate::figures::kept::Kept;
use crate::logging::shown::{cut, one_line};

/// The widths of a table's columns. The last one takes the rest of the terminal's line, or as much as it needs if there
/// is no terminal.
pub struct Columns {
    widths: [usize; 6],
    line: Option<usize>,
}

impl Columns {
    pub fn of(terminal: Option<usize>) -> Columns {
        const ID: usize = 17;
        const TIME: usize = 19;
        const TYPE: usize = 8;
        const TRIES: usize = 5;
        let left = terminal.map(|width| width.saturating_sub(ID + TIME + TYPE + TRIES + 12) / 3);
        let [repo, op] = [32, 40].map(|most| left.map_or(most, |left| left.clamp(8, most)));
        Columns {
            widths: [ID, TIME, TYPE, repo, op, TRIES],
            line: terminal,
        }
    }

    pub fn line(&self, cells: [String; 7]) -> String {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(self.widths) {
            // A program that reads the table needs complete values.
            let cell = if self.line.is_some() {
                cut(cell, width)
            } else {
                cell.clone()
            };
            line.push_str(&format!("{cell:<width$}  "));
        }
        line.push_str(&cells[6]);
        match self.line {
            Some(width) => cut(&line, width),
            None => line.trim_end().to_owned(),
        }
    }
}

/// The cells of a letter.
pub fn cells(letter: &Kept) -> [String; 7] {
    let text = |field| one_line(&letter.text(field));
    let (id, repo) = (letter.id.to_string(), one_line(&repo(letter)));
    let time = letter.time().replace('T', " ").replace('Z', "");
    [
        id,
        time,
        text("type"),
        repo,
        text("op"),
        text("deliveries"),
        text("error"),
    ]
}
