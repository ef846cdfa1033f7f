//! Text for a terminal.
//!
//! Owns what may reach it: nothing of a record's text can move the cursor, change colours or turn the direction of what
//! follows.

use std::io::{self, IsTerminal};

/// Columns of the terminal that stdout is; `None` if it is none.
pub fn terminal_width() -> Option<usize> {
    terminal_size().map(|(width, _)| width)
}

/// Columns and lines of the terminal that stdout is; `None` if it is none.
pub fn terminal_size() -> Option<(usize, usize)> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(width, height)| (width.0.into(), height.0.into()))
}

/// The text with escapes for what a terminal would obey, except for line feeds.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push(character),
            _ if character.is_control() || is_invisible(character) => out.extend(character.escape_unicode()),
            _ => out.push(character),
        }
    }
    out
}

/// The text on one line.
pub fn one_line(text: &str) -> String {
    harmless(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Marks of direction, and the like.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text cut to a number of characters, the last of which then says so.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

/// A time in its largest unit that leaves more than one of it.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(
            harmless("a\x1b[31m\nb\u{202e}\u{7}é"),
            "a\\u{1b}[31m\nb\\u{202e}\\u{7}é"
        );
        assert_eq!(one_line("a\n\tb\r\nc\u{9b}"), "a b c\\u{9b}");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("äöüß", 2), "ä…");
    }

    #[test]
    fn a_time_is_told_in_its_largest_unit() {
        assert_eq!(
            [0, 119, 120, 7199, 7200, 172_800].map(duration),
            ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]
        );
    }
}
