//! The string literals of the program, without those of comments and unit tests.

use crate::index::code_in;

/// How the code of a call that writes a warning or an error ends before the message.
const WARNINGS: [&str; 2] = ["log::warn!(", "log::error!("];

/// A literal with fewer characters than this beside its placeholders has a text that is made elsewhere.
pub(super) const SHORTEST: usize = 12;

/// A string literal.
pub(super) struct Literal {
    /// As the program prints it, with `…` for each placeholder.
    pub(super) text: String,
    /// It is the message of a warning or an error.
    pub(super) is_warning: bool,
}

impl Literal {
    /// Whether it contains the pieces in this order.
    pub(super) fn has(&self, pieces: &[&str]) -> bool {
        has_in_order(&self.text, pieces)
    }

    /// Whether a text may have been made from it. What it has beside placeholders must be enough to tell it by.
    pub(super) fn may_make(&self, text: &str) -> bool {
        let pieces = pieces(&self.text);
        pieces.concat().len() >= SHORTEST && has_in_order(text, &pieces)
    }
}

/// What a text has beside placeholders.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    text.split('…').filter(|piece| !piece.is_empty()).collect()
}

fn has_in_order(text: &str, pieces: &[&str]) -> bool {
    let mut rest = text;
    pieces.iter().all(|piece| match rest.split_once(piece) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// The literals of the program.
pub(super) fn literals() -> Vec<Literal> {
    let files = code_in("src");
    files.iter().flat_map(|file| literals_of(file)).collect()
}

/// The literals of a file. Its unit tests are its last item, by this project's convention.
fn literals_of(file: &str) -> Vec<Literal> {
    let code = file.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut literals = Vec::new();
    let mut at = 0;
    while let Some(found) = code[at..].find(['"', '\'', '/']) {
        let start = at + found;
        let rest = &code[start..];
        at = start
            + match rest.as_bytes() {
                [b'/', b'/', ..] => rest.find('\n').unwrap_or(rest.len()),
                [b'/', b'*', ..] => rest.find("*/").unwrap_or(rest.len()),
                [b'\'', ..] => length_of_character(rest),
                [b'"', ..] => {
                    let hashes = hashes_before(&code[..start]);
                    let length = length_of_string(rest, hashes);
                    let text = &rest[1..length - 1];
                    literals.push(Literal {
                        text: printed(text, hashes.is_some()).replace("{DEAD_LETTERS}", "firehose:dead-letters"),
                        is_warning: WARNINGS.iter().any(|call| code[..start].trim_end().ends_with(call)),
                    });
                    length + hashes.unwrap_or(0)
                }
                _ => 1,
            };
    }
    for literal in &mut literals {
        literal.text = with_ellipses(&literal.text);
    }
    literals
}

/// The number of `#` of a raw string; `None` of another one.
fn hashes_before(code: &str) -> Option<usize> {
    let without = code.trim_end_matches('#');
    let is_raw = without.ends_with('r') && !without[..without.len() - 1].ends_with(|c: char| c.is_alphanumeric());
    is_raw.then_some(code.len() - without.len())
}

/// Bytes from a string's opening to its closing quote, both included.
fn length_of_string(rest: &str, hashes: Option<usize>) -> usize {
    if let Some(hashes) = hashes {
        let end = format!("\"{}", "#".repeat(hashes));
        return rest[1..].find(&end).expect("the end of a raw string") + 2;
    }
    let mut is_escaped = false;
    let end = rest[1..].find(|character| match (is_escaped, character) {
        (false, '"') => true,
        (false, '\\') => {
            is_escaped = true;
            false
        }
        _ => {
            is_escaped = false;
            false
        }
    });
    end.expect("the end of a string") + 2
}

/// Bytes of a character's literal; 1, the quote, where it begins a lifetime.
fn length_of_character(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(1, |end| end + 4),
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

/// What an escaped literal stands for; a line that goes on in the next one is one.
fn printed(text: &str, is_raw: bool) -> String {
    if is_raw {
        return text.to_owned();
    }
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    let joined = parts.fold(first, |joined, part| joined + part.trim_start());
    joined.replace("\\\"", "\"").replace("\\\\", "\\")
}

/// A format string with `…` for each placeholder.
fn with_ellipses(text: &str) -> String {
    let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let mut parts = text.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    let all = parts.fold(first, |all, part| {
        let after = part.split_once('}').map_or(part, |(_, after)| after);
        all + "…" + after
    });
    all.replace('\u{1}', "{").replace('\u{2}', "}")
}

#[test]
fn literals_are_found_beside_comments_characters_lifetimes_and_raw_strings() {
    let code = r##"
        // "a comment"
        fn f<'a>(text: &'a str) -> char { log::warn!("{} is \"gone\": {text:?}, \
            {{so}}"); match '"' { '\'' => r#"raw "text""#, _ => "a // path" } }
        #[cfg(test)]
mod tests { const T: &str = "a test's"; }
    "##;
    let found: Vec<(String, bool)> = literals_of(code)
        .into_iter()
        .map(|literal| (literal.text, literal.is_warning))
        .collect();
    let wanted = [
        ("… is \"gone\": …, {so}", true),
        ("raw \"text\"", false),
        ("a // path", false),
    ];
    let wanted = wanted.map(|(text, is_warning)| (text.to_owned(), is_warning));
    assert_eq!(found, wanted);
}
