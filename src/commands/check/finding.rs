//! What was looked at, what was found, and what to do about it.
//!
//! Owns the form of both: a line for a person, an object for a script.

use serde_json::{Value, json};

use crate::logging::shown::one_line;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// The worker runs, and something should be seen to.
    Warn,
    /// The worker cannot run, or not for long.
    Fail,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }

    /// Its colour on a terminal.
    fn escape(self) -> &'static str {
        match self {
            Level::Ok => "\x1b[32m",
            Level::Warn => "\x1b[33m",
            Level::Fail => "\x1b[31m",
        }
    }
}

/// One line of the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    pub what: &'static str,
    pub found: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

/// Columns before what was found: the level, what was looked at, and the blanks after them.
const INDENT: usize = 6 + WHAT + 2;
const WHAT: usize = 19;

impl Finding {
    /// The line, broken where a terminal is too narrow for it.
    pub fn line(&self, width: Option<usize>, has_colours: bool) -> String {
        let level = format!("{:<4}", self.level.name());
        let level = match has_colours {
            true => format!("{}{level}\x1b[0m", self.level.escape()),
            false => level,
        };
        let mut text = one_line(&self.found);
        if !self.remedy.is_empty() {
            text += " — ";
            text += &one_line(&self.remedy);
        }
        let what = format!("{}:", self.what);
        let text = match width {
            Some(width) if width > INDENT + 20 => broken(&text, width - INDENT),
            _ => text,
        };
        format!("{level}  {what:<WHAT$}  {text}")
    }

    pub fn to_json(&self) -> Value {
        json!({
            "level": self.level.name(),
            "what": self.what,
            "found": self.found,
            "remedy": self.remedy,
        })
    }
}

/// The text in lines of that width, all but the first indented.
fn broken(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out += &format!("\n{:INDENT$}", "");
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Finding {
        Finding {
            level: Level::Warn,
            what: "redis memory",
            found: "the policy is\nallkeys-lru".to_owned(),
            remedy: "set it to noeviction".to_owned(),
        }
    }

    #[test]
    fn a_line_has_level_subject_finding_and_remedy() {
        assert_eq!(
            finding().line(None, false),
            "warn  redis memory:        the policy is allkeys-lru — set it to noeviction"
        );
        assert!(
            finding()
                .line(None, true)
                .starts_with("\x1b[33mwarn\x1b[0m  redis memory:")
        );
    }

    #[test]
    fn a_narrow_terminal_breaks_it_under_what_was_found() {
        let line = finding().line(Some(60), false);
        let lines: Vec<&str> = line.lines().collect();
        assert_eq!(
            lines,
            [
                "warn  redis memory:        the policy is allkeys-lru — set",
                "                           it to noeviction"
            ]
        );
    }
}
