//! Rows about an account: profile, handle, labeler service.

use std::borrow::Cow;

use super::{Change, DID_MAX, Ignored, NAME_MAX, Op, Record, Row, Source, Table};
use crate::decode::json::Json;
use crate::decode::text::{cut, fits};
use crate::decode::time::Micros;
use crate::entry::Position;

/// The columns of `users` that a profile sets. JSON columns are JSON text.
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

/// The handle that an identity event names, in lower case.
#[derive(Debug, PartialEq)]
pub struct Handle(pub String);

const HANDLE_MAX: usize = 255;

/// An identity event that names no handle, or the DID instead of one, says nothing that a row could hold.
pub(super) fn identity<'a>(
    did: Cow<'a, str>,
    handle: Option<Cow<'a, str>>,
    source: &Source<'a>,
) -> Result<Op<'a>, Ignored> {
    if !fits(&did, DID_MAX) {
        return Err(Ignored::KeyTooLong);
    }
    // In lower case first: that may be longer, and the DID in capitals is the DID.
    let handle = handle
        .map(|handle| handle.to_lowercase())
        .filter(|handle| !handle.is_empty() && *handle != did.to_lowercase() && fits(handle, HANDLE_MAX))
        .ok_or(Ignored::NoHandle)?;
    Ok(Op {
        position: Position {
            entry: source.id,
            op: 0,
        },
        entry: source.entry,
        path: Cow::Borrowed(""),
        key: did.to_string(),
        repo: did,
        table: Table::Users,
        change: Change::Put(Row::Handle(Handle(handle))),
    })
}

/// A row of `labeler_services`.
#[derive(Debug, PartialEq)]
pub struct Labeler<'a> {
    pub uri: String,
    pub cid: Cow<'a, str>,
    pub creator_did: Cow<'a, str>,
    /// JSON object.
    pub policies: String,
    pub created_at: Micros,
}

pub(super) fn labeler<'a>(record: Record<'_, 'a>) -> Labeler<'a> {
    let policies = record.json.get("policies").filter(|policies| policies.is_object());
    Labeler {
        policies: policies.map_or_else(
            || r#"{"labelValues":[],"labelValueDefinitions":[]}"#.to_owned(),
            Json::to_text,
        ),
        created_at: record.created_at(),
        creator_did: record.repo,
        cid: record.cid,
        uri: record.uri,
    }
}
