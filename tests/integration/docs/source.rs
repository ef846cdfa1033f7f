//! The string literals of the program and of its SQL, without those of comments and unit tests.

use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::Lit;

/// The calls that write a warning or an error.
const WARNINGS: [&str; 2] = ["log::warn!", "log::error!"];

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

    /// Whether a text may have been formatted from this literal. Its parts beside the placeholders must be long enough
    /// to identify it.
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

/// The literals of the program's code and of the statements by which `check` judges.
pub(super) fn literals() -> Vec<Literal> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = files(&root.join("src"), ".rs");
    let statements = files(&root.join("sql"), ".sql");
    let of_code = code.iter().flat_map(|text| literals_of(text));
    of_code
        .chain(statements.iter().flat_map(|text| literals_of_sql(text)))
        .collect()
}

/// The texts of the files below a folder whose names end so.
fn files(folder: &Path, end: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            texts.append(&mut files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            texts.push(fs::read_to_string(&path).expect("a file of the repository"));
        }
    }
    texts
}

/// The literals of a statement, with `…` for each placeholder of `format`.
fn literals_of_sql(statement: &str) -> Vec<Literal> {
    let code: Vec<&str> = statement
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect();
    let code = code.join("\n");
    let texts = code.split('\'').skip(1).step_by(2);
    texts
        .map(|text| Literal {
            text: text.replace("%s", "…").replace("%I", "…").replace("%L", "…"),
            is_warning: false,
        })
        .collect()
}

/// The literals of a file. Its unit tests are its last item, by this project's convention.
fn literals_of(file: &str) -> Vec<Literal> {
    let code = file.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut literals = Vec::new();
    collect(code.parse().expect("a file of Rust"), false, &mut literals);
    literals
}

/// Adds the literals of these tokens, which are the arguments of a warning or not. Only the first literal of a warning
/// is its message.
fn collect(tokens: TokenStream, mut is_warning: bool, literals: &mut Vec<Literal>) {
    let mut before = String::new();
    for token in tokens {
        match &token {
            TokenTree::Group(group) => {
                let is_attribute = before.ends_with('#') || before.ends_with("#!");
                if !(is_attribute && group.stream().to_string().starts_with("doc ")) {
                    collect(
                        group.stream(),
                        WARNINGS.iter().any(|call| before.ends_with(call)),
                        literals,
                    );
                }
            }
            TokenTree::Literal(literal) => {
                if let Ok(Lit::Str(text)) = syn::parse_str(&literal.to_string()) {
                    let text = text.value().replace("{DEAD_LETTERS}", "firehose:dead-letters");
                    literals.push(Literal {
                        text: with_ellipses(&text),
                        is_warning,
                    });
                    is_warning = false;
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
        before.push_str(&token.to_string());
    }
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
