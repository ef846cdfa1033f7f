//! Decodes a stream entry into an event: the envelope that producers put around records.
//!
//! Owns what makes an entry unreadable. Returns the rest: the ops of a commit with their records as JSON, or the
//! fields of an identity event. Collections and tables belong to `rows`. Pure; never panics, whatever the entry holds.
//!
//! A bad op does not make the other ops of its commit unreadable: it is returned as an error of its own.

pub mod cid;
pub mod dialect;
pub mod embed;
pub mod json;
pub mod text;
pub mod time;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::entry::Entry;
use json::Json;

/// The content of an entry.
pub enum Event<'a> {
    Commit {
        repo: Cow<'a, str>,
        ops: Vec<Result<WireOp<'a>, OpError>>,
    },
    Identity {
        did: Cow<'a, str>,
        handle: Option<Cow<'a, str>>,
    },
    Account,
    /// A type that no worker knows. The entry is acknowledged and counted only as ignored.
    Unknown,
}

/// One op of a commit, as it arrived.
pub struct WireOp<'a> {
    pub action: Option<Cow<'a, str>>,
    pub path: Cow<'a, str>,
    pub cid: Option<Cow<'a, str>>,
    pub record: Option<Json<'a>>,
}

/// Why a whole entry can never be applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EntryError {
    #[error("the entry has no field {0:?}")]
    NoField(&'static str),
    #[error("data is not UTF-8 (byte {0})")]
    NotUtf8(usize),
    #[error("data is not JSON: {0}")]
    NotJson(String),
    #[error("data is not a JSON object")]
    NotAnObject,
    #[error("{0} is not a DID")]
    NotADid(&'static str),
    #[error("ops is not an array")]
    OpsNotAnArray,
}

impl EntryError {
    /// The error's name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            EntryError::NoField(_) => "no_field",
            EntryError::NotUtf8(_) => "not_utf8",
            EntryError::NotJson(_) => "not_json",
            EntryError::NotAnObject => "not_an_object",
            EntryError::NotADid(_) => "not_a_did",
            EntryError::OpsNotAnArray => "ops_not_an_array",
        }
    }
}

/// Why one op of a commit can never be applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpError {
    #[error("the op is not JSON that can be read: {0}")]
    NotJson(String),
    #[error("the op is not an object")]
    NotAnObject,
    #[error("the op's path is not a string")]
    PathNotAString,
}

impl OpError {
    /// The error's name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            OpError::NotJson(_) => "op_not_json",
            OpError::NotAnObject => "op_not_an_object",
            OpError::PathNotAString => "op_path_not_a_string",
        }
    }
}

/// The text of an entry's data, without the characters that PostgreSQL cannot store.
pub fn text(entry: &Entry) -> Result<Cow<'_, str>, EntryError> {
    let data = entry.data.as_deref().ok_or(EntryError::NoField("data"))?;
    let text = std::str::from_utf8(data).map_err(|error| EntryError::NotUtf8(error.valid_up_to()))?;
    Ok(text::clean(text))
}

/// Decodes an entry of type `kind` with the data `text`.
pub fn decode<'a>(kind: Option<&[u8]>, text: &'a str) -> Result<Event<'a>, EntryError> {
    match kind {
        None => Err(EntryError::NoField("type")),
        Some(b"commit") => commit(text),
        Some(b"identity") => identity(text),
        Some(b"account") => did_of(&object(text)?).map(|_| Event::Account),
        Some(_) => Ok(Event::Unknown),
    }
}

fn commit(text: &str) -> Result<Event<'_>, EntryError> {
    // The whole commit is parsed at once. Only if that fails is it parsed op by op, to find the op that cannot be read.
    match json::parse(text) {
        Ok(Json::Object(members)) => whole_commit(Json::Object(members)),
        Ok(_) => Err(EntryError::NotAnObject),
        Err(error) => commit_by_ops(text, &error),
    }
}

fn whole_commit(mut data: Json) -> Result<Event, EntryError> {
    let repo = did(data.get("repo"), "repo")?;
    let Json::Object(members) = &mut data else {
        return Err(EntryError::NotAnObject);
    };
    let Some(Json::Array(ops)) = json::member_mut(members, "ops") else {
        return Err(EntryError::OpsNotAnArray);
    };
    let ops = std::mem::take(ops).into_iter().map(wire_op).collect();
    Ok(Event::Commit { repo, ops })
}

fn commit_by_ops<'a>(text: &'a str, error: &serde_json::Error) -> Result<Event<'a>, EntryError> {
    let not_json = || EntryError::NotJson(error.to_string());
    let raw: RawMembers = serde_json::from_str(text).map_err(|_| not_json())?;
    let repo = raw.get("repo").map(|raw| json::parse(raw.get()));
    let repo = did(repo.transpose().map_err(|_| not_json())?.as_ref(), "repo")?;
    let ops: Vec<&RawValue> = raw
        .get("ops")
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .ok_or(EntryError::OpsNotAnArray)?;
    let ops = ops
        .into_iter()
        .map(|raw| match json::parse(raw.get()) {
            Ok(op) => wire_op(op),
            Err(error) => Err(OpError::NotJson(error.to_string())),
        })
        .collect();
    Ok(Event::Commit { repo, ops })
}

fn wire_op(op: Json) -> Result<WireOp, OpError> {
    let Json::Object(members) = op else {
        return Err(OpError::NotAnObject);
    };
    let (mut action, mut path, mut cid, mut record) = (None, None, None, None);
    for (name, value) in members {
        match name.as_ref() {
            "action" => action = Some(value),
            "path" => path = Some(value),
            "cid" => cid = Some(value),
            "record" => record = Some(value),
            _ => {}
        }
    }
    let Some(Json::String(path)) = path else {
        return Err(OpError::PathNotAString);
    };
    Ok(WireOp {
        action: match action {
            Some(Json::String(action)) => Some(action),
            _ => None,
        },
        path,
        cid: cid.as_ref().and_then(cid::text),
        record: record.filter(Json::is_object),
    })
}

fn identity(text: &str) -> Result<Event<'_>, EntryError> {
    let data = object(text)?;
    Ok(Event::Identity {
        did: did_of(&data)?,
        handle: data.str("handle").cloned(),
    })
}

fn object(text: &str) -> Result<Json<'_>, EntryError> {
    let data = json::parse(text).map_err(|error| EntryError::NotJson(error.to_string()))?;
    if data.is_object() {
        Ok(data)
    } else {
        Err(EntryError::NotAnObject)
    }
}

fn did_of<'a>(data: &Json<'a>) -> Result<Cow<'a, str>, EntryError> {
    did(data.get("did"), "did")
}

fn did<'a>(value: Option<&Json<'a>>, field: &'static str) -> Result<Cow<'a, str>, EntryError> {
    match value {
        Some(Json::String(did)) if is_did(did) => Ok(did.clone()),
        _ => Err(EntryError::NotADid(field)),
    }
}

/// Whether the text has the syntax of a DID, `did:method:identifier`. The length is not checked.
pub fn is_did(text: &str) -> bool {
    let Some((method, identifier)) = text.strip_prefix("did:").and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    let is_method = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_identifier = |byte: u8| byte.is_ascii_alphanumeric() || b"._:%-".contains(&byte);
    !method.is_empty()
        && !identifier.is_empty()
        && method.bytes().all(is_method)
        && identifier.bytes().all(is_identifier)
}

/// The DID at the beginning of an entry, found without parsing the entry. The DID decides which worker processes the
/// entry. `None` if the entry does not begin with an unescaped DID.
pub fn peek_did(data: &[u8]) -> Option<&[u8]> {
    let rest = data.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    let rest = rest
        .strip_prefix(b"\"repo\"")
        .or_else(|| rest.strip_prefix(b"\"did\""))?;
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let rest = rest.strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    (rest[end] == b'"').then_some(&rest[..end])
}

/// A commit with unparsed ops, from which a single op can be extracted.
pub struct RawCommit<'a> {
    repo: &'a RawValue,
    ops: Vec<&'a RawValue>,
}

impl<'a> RawCommit<'a> {
    /// Returns `None` if the text is not a commit but an event without ops.
    pub fn new(text: &'a str) -> Option<RawCommit<'a>> {
        let raw: RawMembers = serde_json::from_str(text).ok()?;
        Some(RawCommit {
            repo: raw.get("repo")?,
            ops: serde_json::from_str(raw.get("ops")?.get()).ok()?,
        })
    }

    /// The commit reduced to op number `index`; repo and op are unchanged.
    pub fn with_one_op(&self, index: usize) -> Option<String> {
        let op = self.ops.get(index)?;
        Some(format!(r#"{{"repo":{},"ops":[{}]}}"#, self.repo.get(), op.get()))
    }
}

/// An object with unparsed members.
struct RawMembers<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> RawMembers<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        json::member(&self.0, name).copied()
    }
}

impl<'de> Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawMembersVisitor)
    }
}

struct RawMembersVisitor;

impl<'de> Visitor<'de> for RawMembersVisitor {
    type Value = RawMembers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(RawMembers(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: &str, text: &str) -> Option<EntryError> {
        decode(Some(kind.as_bytes()), text).err()
    }

    #[test]
    fn a_malformed_envelope_is_an_error_with_its_reason() {
        assert_eq!(error("commit", "[]"), Some(EntryError::NotAnObject));
        assert_eq!(error("commit", r#"{"ops":[]}"#), Some(EntryError::NotADid("repo")));
        assert_eq!(
            error("commit", r#"{"repo":"did:plc:a","ops":{}}"#),
            Some(EntryError::OpsNotAnArray)
        );
        assert_eq!(
            error("commit", r#"{"repo":"did:plc:a"}"#),
            Some(EntryError::OpsNotAnArray)
        );
        assert_eq!(error("identity", r#"{"did":"plc"}"#), Some(EntryError::NotADid("did")));
        assert_eq!(error("account", r#"{"did":7}"#), Some(EntryError::NotADid("did")));
        assert!(matches!(error("commit", "{"), Some(EntryError::NotJson(_))));
        assert_eq!(decode(None, "{}").err(), Some(EntryError::NoField("type")));
        assert!(matches!(decode(Some(b"ping"), "?"), Ok(Event::Unknown)));
    }

    #[test]
    fn a_bad_op_leaves_its_neighbours_readable() {
        let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
        let text = format!(
            r#"{{"repo":"did:plc:a","ops":[{{"path":"a/b"}},7,{{"path":7}},{{"path":"a/c","record":{deep}}},{{"path":"a/d"}}]}}"#
        );
        let Ok(Event::Commit { ops, .. }) = decode(Some(b"commit"), &text) else {
            panic!("not a commit");
        };
        let read: Vec<_> = ops.iter().map(|op| op.as_ref().map(|op| op.path.as_ref())).collect();
        assert_eq!(read[0], Ok("a/b"));
        assert_eq!(read[1], Err(&OpError::NotAnObject));
        assert_eq!(read[2], Err(&OpError::PathNotAString));
        assert!(matches!(read[3], Err(OpError::NotJson(_))));
        assert_eq!(read[4], Ok("a/d"));
        assert_eq!(
            RawCommit::new(&text).unwrap().with_one_op(2).as_deref(),
            Some(r#"{"repo":"did:plc:a","ops":[{"path":7}]}"#)
        );
    }

    #[test]
    fn the_peeked_did_is_the_decoded_one() {
        for (text, did) in [
            (r#"{"repo":"did:plc:a","ops":[]}"#, Some("did:plc:a")),
            (" {\n\"did\" : \"did:web:x\"}", Some("did:web:x")),
            (r#"{"ops":[],"repo":"did:plc:a"}"#, None),
            (r#"{"repo":"did:plc:\u0061"}"#, None),
            ("", None),
        ] {
            assert_eq!(peek_did(text.as_bytes()), did.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn dids_are_distinguished_from_other_text() {
        for did in [
            "did:plc:abc",
            "did:web:example.com",
            "did:web:localhost%3A80",
            "did:a1:B.c",
        ] {
            assert!(is_did(did), "{did}");
        }
        for other in [
            "",
            "did:",
            "did:plc:",
            "did::x",
            "did:PLC:x",
            "did:plc:a b",
            "did:plc:a/b",
            "at://did:plc:a",
        ] {
            assert!(!is_did(other), "{other}");
        }
    }
}
