//! Text for people: on a terminal, in the log, in a status line.
//!
//! Owns which characters may appear in it. Records, names in Redis and messages of servers come from untrusted sources,
//! so every character that controls a terminal or is invisible is shown as an escape.
//!
//! Invariant: all text from outside passes through this module on its way to stdout, stderr and the service manager.
//! The only control characters there are the line feeds, colours and cursor movements of the program itself.

/// The text with each control or invisible character, including line feeds, replaced by an escape such as `\u{202e}`.
pub fn harmless(text: &str) -> String {
    escaped(text, |out, character| out.extend(character.escape_unicode()))
}

/// The text on one line.
pub fn one_line(text: &str) -> String {
    harmless(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// JSON with the same values in harmless characters. Line feeds stay: in JSON they occur only between tokens, where no
/// other character needs an escape.
pub fn json(text: &str) -> String {
    escaped(text, |out, character| {
        if character == '\n' {
            return out.push(character);
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

fn escaped(text: &str, escape: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, character)) = rest.char_indices().find(|(_, character)| is_harmful(*character)) {
        out.push_str(&rest[..at]);
        escape(&mut out, character);
        rest = &rest[at + character.len_utf8()..];
    }
    out.push_str(rest);
    out
}

/// Whether a character controls a terminal, changes the text around it, or is invisible: Unicode's categories Cc, Cf,
/// Zl and Zp, and its property Default_Ignorable_Code_Point. Control characters move the cursor. Format characters
/// change the direction of text, hide parts of it, or encode hidden text, as tags and variation selectors can.
fn is_harmful(character: char) -> bool {
    match character {
        ' '..='~' => false,
        '\u{ad}'
        | '\u{34f}'
        | '\u{600}'..='\u{605}'
        | '\u{61c}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{890}'..='\u{891}'
        | '\u{8e2}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}'
        | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        _ => character.is_control(),
    }
}

/// The text, truncated to `width` characters; the last one is then an ellipsis.
pub fn cut(text: &str, width: usize) -> String {
    if text.len() <= width || text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

/// How many names of a list are shown.
const N_LISTED: usize = 10;

/// How many characters of a name are shown.
const NAME_LENGTH: usize = 200;

/// A list of any length in bounded space: the first names, and the number of the others.
pub fn list<T: AsRef<str>>(names: &[T]) -> String {
    let listed = names.iter().take(N_LISTED).map(|name| cut(name.as_ref(), NAME_LENGTH));
    let listed = listed.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(N_LISTED) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind: C0, delete, C1, bidi, soft hyphen, zero width, separators, tags, selectors, annotations,
    /// fillers.
    const HARMFUL: &str = "\u{0}\u{7}\u{8}\u{9}\u{b}\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{9f}\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\
        \u{200b}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{206f}\u{3164}\u{fe0f}\
        \u{feff}\u{ffa0}\u{fff9}\u{fffb}\u{1d173}\u{e0001}\u{e0041}\u{e007f}\u{e0100}\u{e01ef}";

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        assert_eq!(
            harmless("a\x1b[31m\nb\u{202e}\u{7}é 漢 👍"),
            "a\\u{1b}[31m\\u{a}b\\u{202e}\\u{7}é 漢 👍"
        );
        assert_eq!(one_line("a\n\tb\r\nc\u{9b}"), "a b c\\u{9b}");
        for shown in [harmless(HARMFUL), one_line(HARMFUL), json(HARMFUL)] {
            assert!(shown.is_ascii() && shown.chars().all(|c| !c.is_control()), "{shown:?}");
        }
        assert_eq!(harmless(&harmless(HARMFUL)), harmless(HARMFUL));
    }

    #[test]
    fn harmless_json_has_the_same_values() {
        let value = serde_json::json!({ HARMFUL: [HARMFUL, "é 漢 👍\n", 1.5] });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = json(&text);
            assert!(!shown.chars().any(|c| is_harmful(c) && c != '\n'), "{shown:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
        assert_eq!(json("\"\u{e0041}\""), r#""\udb40\udc41""#);
    }

    #[test]
    fn a_truncated_text_ends_with_an_ellipsis() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("äöüß", 2), "ä…");
    }

    #[test]
    fn a_list_of_any_length_fits_a_line() {
        assert_eq!(list(&["a", "b"]), "a, b");
        let names: Vec<String> = (0..3000).map(|n| format!("consumer-{n}")).collect();
        assert!(list(&names).ends_with("consumer-9 and 2990 more"));
        assert!(list(&["x".repeat(1 << 20)]).chars().count() <= NAME_LENGTH);
    }
}
