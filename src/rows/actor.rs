//! Rows about an account: profile and handle.

use std::borrow::Cow;

use super::{Change, DID_MAX, Ignored, NAME_MAX, Op, Record, Row, Source, Table};
use crate::decode::json::Json;
use crate::decode::text::{cut, fits};
use crate::entry::Position;

/// The columns of `users` that a profile sets. JSON columns hold JSON text.
#[derive(Debug, PartialEq)]
pub struct Profile<'a> {
    pub display_name: Option<Cow<'a, str>>,
    pub description: Option<Cow<'a, str>>,
    pub avatar_url: Option<Cow<'a, str>>,
    pub banner_url: Option<Cow<'a, str>>,
    pub profile_record: String,
    pub pinned_post: Option<String>,
}

pub(super) fn profile<'a>(record: Record<'_, 'a>) -> Profile<'a> {
    Profile {
        display_name: record.optional_text("displayName").map(|name| cut(name, NAME_MAX)),
        description: record.optional_text("description"),
        avatar_url: record.blob("avatar"),
        banner_url: record.blob("banner"),
        profile_record: record.json.to_text(),
        pinned_post: record
            .json
            .get("pinnedPost")
            .filter(|post| post.str("uri").is_some())
            .map(Json::to_text),
    }
}

/// The handle in an identity event, in lower case.
#[derive(Debug, PartialEq)]
pub struct Handle(pub String);

/// The maximum lengths of a handle, and of each label between its dots, in characters.
const HANDLE_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// Whether the text has the syntax of a handle: a host name of at least two labels.
fn is_handle(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let has_ends = !label.starts_with('-') && !label.ends_with('-');
        (1..=LABEL_MAX).contains(&label.len()) && has_ends && label.bytes().all(is_inner)
    };
    let Some((_, last)) = text.rsplit_once('.') else {
        return false;
    };
    text.len() <= HANDLE_MAX && text.split('.').all(is_label) && !last.starts_with(|first: char| first.is_ascii_digit())
}

/// An identity event without a handle, or with a DID in its place, changes nothing, because readers look users up by
/// handle.
pub(super) fn identity<'a>(
    did: Cow<'a, str>,
    handle: Option<Cow<'a, str>>,
    source: &Source<'a>,
) -> Result<Op<'a>, Ignored> {
    if !fits(&did, DID_MAX) {
        return Err(Ignored::KeyTooLong);
    }
    let handle = handle.filter(|handle| is_handle(handle)).ok_or(Ignored::NoHandle)?;
    Ok(Op {
        position: Position {
            entry: source.id,
            op: 0,
        },
        time: source.time,
        entry: source.entry,
        path: Cow::Borrowed(""),
        key: did.to_string(),
        repo: did,
        table: Table::Users,
        change: Change::Put(Row::Handle(Handle(handle.to_ascii_lowercase()))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_distinguished_from_other_text() {
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        for handle in [
            "alice.example",
            "Alice.EXAMPLE",
            "a.b.c.example",
            "xn--bcher-kva.example",
            "1-2.example",
            "HANDLE.INVALID",
            "a.b1",
            &longest,
        ] {
            assert!(is_handle(handle), "{handle}");
        }
        let longer = format!("{longest}b");
        let long_label = format!("{}.example", "a".repeat(64));
        for other in [
            "",
            ".",
            "alice",
            " alice.example ",
            "al ice.example",
            "@alice.example",
            "alice@example.org",
            "alice..example",
            ".alice.example",
            "alice.example.",
            "-alice.example",
            "alice-.example",
            "alice.1example",
            "192.0.2.1",
            "al_ice.example",
            "alice.example/path",
            "did:plc:alice",
            "bücher.example",
            "\u{130}stanbul.example",
            // The Kelvin sign, whose lower case is the ASCII k.
            "\u{212a}im.example",
            "alice\u{3002}example",
            "alice.example\n",
            &longer,
            &long_label,
        ] {
            assert!(!is_handle(other), "{other:?}");
        }
    }
}
