//! Makes the text of an entry's `data` safe for PostgreSQL before it is parsed.
//!
//! Owns two rules: NUL is removed everywhere, including from keys, and a lone surrogate becomes U+FFFD. Both can only
//! occur as `\u` escapes, because JSON does not allow them raw. They are therefore replaced in the text, once, before
//! any parser sees it.

use std::borrow::Cow;

use memchr::memchr;

/// Removes `\u0000` and replaces the escapes of lone surrogates. Borrows if nothing needs to be replaced.
pub fn clean(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr(b'\\', &bytes[at..]) {
        let start = at + found;
        match escape(&bytes[start..]) {
            Escape::Sound(len) => at = start + len,
            Escape::Unsound(instead) => {
                out.push_str(&text[copied..start]);
                out.push_str(instead);
                at = start + UNIT;
                copied = at;
            }
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The length of one `\uXXXX` in bytes.
const UNIT: usize = 6;

enum Escape {
    /// To keep; the length in bytes.
    Sound(usize),
    /// A `\uXXXX` to replace; the replacement.
    Unsound(&'static str),
}

fn escape(bytes: &[u8]) -> Escape {
    match unit(bytes) {
        None => Escape::Sound(bytes.len().min(2)),
        Some(0) => Escape::Unsound(""),
        Some(0xD800..=0xDBFF) => match bytes.get(UNIT..).and_then(unit) {
            Some(0xDC00..=0xDFFF) => Escape::Sound(2 * UNIT),
            _ => Escape::Unsound("\\ufffd"),
        },
        Some(0xDC00..=0xDFFF) => Escape::Unsound("\\ufffd"),
        Some(_) => Escape::Sound(UNIT),
    }
}

/// The UTF-16 code unit of a `\uXXXX` at the start of `bytes`.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(unit << 4 | value as u16)
    })
}

/// `text` without NUL, for fields that are not JSON.
pub fn without_nul(text: &str) -> Cow<'_, str> {
    match memchr(0, text.as_bytes()) {
        None => Cow::Borrowed(text),
        Some(_) => Cow::Owned(text.replace('\0', "")),
    }
}

/// Whether `text` has at most `max` characters, counted as varchar(max) does.
pub fn fits(text: &str, max: usize) -> bool {
    text.len() <= max || text.chars().count() <= max
}

/// The first `max` characters of `text`.
pub fn cut<'a>(text: Cow<'a, str>, max: usize) -> Cow<'a, str> {
    if fits(&text, max) {
        return text;
    }
    let end = text.char_indices().nth(max).map_or(text.len(), |(at, _)| at);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_goes_and_lone_surrogates_become_the_replacement_character() {
        for (from, to) in [
            (r#"{"a":"x\u0000y"}"#, r#"{"a":"xy"}"#),
            (r#"{"\u0000a\u0000":1}"#, r#"{"a":1}"#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\uDE00x""#, r#""\ufffdx""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ud83d\u0000\ude00""#, r#""\ufffd\ufffd""#),
        ] {
            assert_eq!(clean(from), to, "{from}");
        }
    }

    #[test]
    fn what_is_sound_is_borrowed() {
        for text in [
            r#""\\u0000""#,
            r#""\ud83d\ude00 \n \" \u00e9""#,
            r#""\u00"#,
            "\\",
            "",
            "no escapes at all",
        ] {
            assert!(matches!(clean(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn text_is_cut_at_a_character_not_at_a_byte() {
        assert_eq!(cut(Cow::Borrowed("äöü"), 2), "äö");
        assert_eq!(cut(Cow::Owned("äöü".into()), 3), "äöü");
        assert!(fits(&"é".repeat(255), 255));
        assert!(!fits(&"é".repeat(256), 255));
    }
}
