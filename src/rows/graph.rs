//! Rows of records that join a pair (likes, follows, list items …), and of lists and starter packs.
//!
//! The tables of pairs hold one row per pair, however many records there are; which of them holds it is `apply::pairs`'.

use std::borrow::Cow;

use super::{DID_MAX, Ignored, NAME_MAX, Record, URI_MAX, json_array, optional_cid, optional_uri};
use crate::decode::json::Json;
use crate::decode::text::{cut, fits};
use crate::entry::Position;
use crate::micros::Micros;

/// The tables with one row per pair, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PairTable {
    Likes,
    Reposts,
    Bookmarks,
    Follows,
    Blocks,
    ListBlocks,
    ListItems,
    Verifications,
}

impl PairTable {
    pub const ALL: [PairTable; 8] = [
        PairTable::Likes,
        PairTable::Reposts,
        PairTable::Bookmarks,
        PairTable::Follows,
        PairTable::Blocks,
        PairTable::ListBlocks,
        PairTable::ListItems,
        PairTable::Verifications,
    ];

    pub fn name(self) -> &'static str {
        match self {
            PairTable::Likes => "likes",
            PairTable::Reposts => "reposts",
            PairTable::Bookmarks => "bookmarks",
            PairTable::Follows => "follows",
            PairTable::Blocks => "blocks",
            PairTable::ListBlocks => "list_blocks",
            PairTable::ListItems => "list_items",
            PairTable::Verifications => "verifications",
        }
    }

    /// Whether the row is one that this version would store. Earlier ones also stored items that somebody had put into
    /// another's list, and such an item must not keep the list's owner from adding or removing that person.
    pub fn admits(self, row: &PairRow) -> bool {
        self != PairTable::ListItems || authority(&row.uri) == authority(&row.key_a)
    }
}

/// A row of a table of pairs. Which values a table has beside the pair differs; those that it lacks are `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct PairRow<'a> {
    pub uri: Cow<'a, str>,
    /// The pair: actor and subject, for list items list and subject, for verifications the subject alone.
    pub key_a: Cow<'a, str>,
    pub key_b: Cow<'a, str>,
    pub created_at: Micros,
    pub indexed_at: Micros,
    pub cid: Cow<'a, str>,
    pub subject_cid: Option<Cow<'a, str>>,
    /// JSON text.
    pub via: Option<Cow<'a, str>>,
    pub commit_seq: Option<Cow<'a, str>>,
    pub handle: Option<Cow<'a, str>>,
    pub verified_at: Option<Micros>,
    pub position: Position,
}

impl PairRow<'_> {
    pub fn pair(&self) -> (&str, &str) {
        (&self.key_a, &self.key_b)
    }
}

pub(super) fn pair<'a>(record: Record<'_, 'a>, table: PairTable) -> Result<PairRow<'a>, Ignored> {
    let json = &record.json;
    let mut subject_cid = None;
    let mut via = None;
    let (key_a, key_b) = match table {
        PairTable::Likes | PairTable::Reposts | PairTable::Bookmarks => {
            let subject = json.get("subject").ok_or(Ignored::NoSubject)?;
            if table != PairTable::Bookmarks {
                subject_cid = optional_cid(subject.get("cid"));
                via = json.get("via").filter(|via| via.is_object()).map(Json::to_text);
            }
            (record.repo.clone(), at_uri(subject.str("uri"))?)
        }
        PairTable::Follows | PairTable::Blocks => (record.repo.clone(), did(json.str("subject"))?),
        PairTable::ListBlocks => (record.repo.clone(), at_uri(json.str("subject"))?),
        PairTable::ListItems => {
            let pair = (at_uri(json.str("list"))?, did(json.str("subject"))?);
            // Anybody could otherwise add anybody to somebody's moderation list.
            if authority(&pair.0) != Some(record.repo.as_ref()) {
                return Err(Ignored::ForeignList);
            }
            pair
        }
        PairTable::Verifications => (did(json.str("subject"))?, Cow::Borrowed("")),
    };
    let is_verification = table == PairTable::Verifications;
    let has_commit_seq = matches!(
        table,
        PairTable::Likes | PairTable::Reposts | PairTable::Follows | PairTable::Blocks
    );
    Ok(PairRow {
        key_a,
        key_b,
        created_at: record.created_at(),
        indexed_at: record.source.time,
        subject_cid,
        via: via.map(Cow::Owned),
        commit_seq: has_commit_seq.then(|| record.source.seq.clone()),
        handle: is_verification.then(|| cut(record.text("handle"), NAME_MAX)),
        verified_at: is_verification.then(|| record.first_date(["verifiedAt", "createdAt"])),
        position: record.position,
        cid: record.cid,
        uri: Cow::Owned(record.uri),
    })
}

/// What an `at://` URI names first: the repo, by its DID or a handle.
fn authority(uri: &str) -> Option<&str> {
    uri.strip_prefix("at://")?.split('/').next()
}

fn at_uri<'a>(value: Option<&Cow<'a, str>>) -> Result<Cow<'a, str>, Ignored> {
    let uri = value.filter(|uri| uri.starts_with("at://")).ok_or(Ignored::NoSubject)?;
    if fits(uri, URI_MAX) {
        Ok(uri.clone())
    } else {
        Err(Ignored::KeyTooLong)
    }
}

fn did<'a>(value: Option<&Cow<'a, str>>) -> Result<Cow<'a, str>, Ignored> {
    let did = value.filter(|did| did.starts_with("did:")).ok_or(Ignored::NoSubject)?;
    if fits(did, DID_MAX) {
        Ok(did.clone())
    } else {
        Err(Ignored::KeyTooLong)
    }
}

/// A row of `lists`.
#[derive(Debug, PartialEq)]
pub struct List<'a> {
    pub uri: String,
    pub cid: Cow<'a, str>,
    pub creator_did: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub purpose: Cow<'a, str>,
    pub description: Option<Cow<'a, str>>,
    pub avatar_url: Option<Cow<'a, str>>,
    pub created_at: Micros,
    pub indexed_at: Micros,
}

const PURPOSE_MAX: usize = 64;

pub(super) fn list<'a>(record: Record<'_, 'a>) -> List<'a> {
    let purpose = record.text("purpose");
    List {
        name: record.name("name"),
        purpose: if fits(&purpose, PURPOSE_MAX) {
            purpose
        } else {
            Cow::Borrowed("")
        },
        description: record.optional_text("description"),
        avatar_url: record.blob("avatar"),
        created_at: record.created_at(),
        indexed_at: record.source.time,
        creator_did: record.repo,
        cid: record.cid,
        uri: record.uri,
    }
}

/// A row of `starter_packs`.
#[derive(Debug, PartialEq)]
pub struct StarterPack<'a> {
    pub uri: String,
    pub cid: Cow<'a, str>,
    pub creator_did: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub description: Option<Cow<'a, str>>,
    pub list_uri: Option<Cow<'a, str>>,
    /// JSON array of the feeds' URIs.
    pub feeds: String,
    pub created_at: Micros,
    pub indexed_at: Micros,
}

pub(super) fn starter_pack<'a>(record: Record<'_, 'a>) -> StarterPack<'a> {
    let feeds = record.json.array("feeds").into_iter().flatten();
    StarterPack {
        name: record.name("name"),
        description: record.optional_text("description"),
        list_uri: optional_uri(record.json.get("list")),
        feeds: json_array(feeds.filter_map(|feed| feed.str("uri"))),
        created_at: record.created_at(),
        indexed_at: record.source.time,
        creator_did: record.repo,
        cid: record.cid,
        uri: record.uri,
    }
}
