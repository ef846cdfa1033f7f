//! The tables with one row per pair: likes, follows, list items …
//!
//! Owns the description of each table: its collection, its columns, and how a record names its pair. The SQL
//! statements are generated from it. Such a table has one row per pair, however many records of the pair exist;
//! `apply::pairs` decides which record holds the row.

use std::borrow::Cow;

use super::keyed::Kind;
use super::{DID_MAX, Ignored, NAME_MAX, Record, URI_MAX, optional_cid};
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

/// The description of a pair table.
pub struct PairTableInfo {
    pub name: &'static str,
    pub collection: &'static str,
    /// The columns of the pair: actor and subject; for list items list and subject; for verifications the subject
    /// alone.
    pub key_a: &'static str,
    pub key_b: Option<&'static str>,
    /// The columns besides the URI, the pair, created_at and indexed_at.
    pub values: &'static [PairValue],
    /// The users rows that must exist before a row of the table.
    pub users: PairUsers,
    /// Whether the table gets so many rows that they are written with COPY.
    pub is_large: bool,
    /// Which rows another program may have written.
    pub foreign: ForeignWhen,
    pair: for<'r, 'a> fn(&'r Record<'_, 'a>) -> Result<KeyPair<'a>, Ignored>,
}

/// A column that some pair tables have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairValue {
    Cid,
    SubjectCid,
    Via,
    CommitSeq,
    Handle,
    VerifiedAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairUsers {
    Repo,
    RepoAndSubject,
    Nobody,
}

/// How to recognise rows that another program wrote. Such rows may lack side effects and may not be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignWhen {
    /// The origin of a row does not matter, because rows of the table have no side effects.
    Never,
    /// Other programs leave the column commit_seq empty.
    WithoutCommitSeq,
    /// The table does not reveal the origin, so every row counts as foreign.
    Always,
}

type KeyPair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The defaults for a record about another record. Each table overrides what differs.
const OF_RECORD: PairTableInfo = PairTableInfo {
    name: "",
    collection: "",
    key_a: "user_did",
    key_b: Some("post_uri"),
    values: &[PairValue::SubjectCid, PairValue::Via, PairValue::CommitSeq],
    users: PairUsers::Repo,
    is_large: true,
    foreign: ForeignWhen::WithoutCommitSeq,
    pair: of_record,
};

/// The defaults for a record about an account.
const OF_ACCOUNT: PairTableInfo = PairTableInfo {
    values: &[PairValue::CommitSeq],
    users: PairUsers::RepoAndSubject,
    pair: of_account,
    ..OF_RECORD
};

/// The defaults for a record without side effects.
const WITHOUT_EFFECTS: PairTableInfo = PairTableInfo {
    values: &[],
    is_large: false,
    foreign: ForeignWhen::Never,
    ..OF_ACCOUNT
};

/// In the order of `PairTable`.
static TABLES: [PairTableInfo; PairTable::ALL.len()] = [
    PairTableInfo {
        name: "likes",
        collection: "app.bsky.feed.like",
        ..OF_RECORD
    },
    PairTableInfo {
        name: "reposts",
        collection: "app.bsky.feed.repost",
        ..OF_RECORD
    },
    PairTableInfo {
        name: "bookmarks",
        collection: "app.bsky.bookmark",
        values: &[],
        is_large: false,
        foreign: ForeignWhen::Always,
        ..OF_RECORD
    },
    PairTableInfo {
        name: "follows",
        collection: "app.bsky.graph.follow",
        key_a: "follower_did",
        key_b: Some("following_did"),
        ..OF_ACCOUNT
    },
    PairTableInfo {
        name: "blocks",
        collection: "app.bsky.graph.block",
        key_a: "blocker_did",
        key_b: Some("blocked_did"),
        is_large: false,
        ..OF_ACCOUNT
    },
    PairTableInfo {
        name: "list_blocks",
        collection: "app.bsky.graph.listblock",
        key_a: "blocker_did",
        key_b: Some("list_uri"),
        users: PairUsers::Nobody,
        pair: of_list,
        ..WITHOUT_EFFECTS
    },
    PairTableInfo {
        name: "list_items",
        collection: "app.bsky.graph.listitem",
        key_a: "list_uri",
        key_b: Some("subject_did"),
        values: &[PairValue::Cid],
        pair: of_list_item,
        ..WITHOUT_EFFECTS
    },
    PairTableInfo {
        name: "verifications",
        collection: "app.bsky.graph.verification",
        key_a: "subject_did",
        key_b: None,
        values: &[PairValue::Cid, PairValue::Handle, PairValue::VerifiedAt],
        users: PairUsers::Repo,
        pair: of_verification,
        ..WITHOUT_EFFECTS
    },
];

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

    pub fn info(self) -> &'static PairTableInfo {
        &TABLES[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.info().name
    }

    pub fn of_name(name: &str) -> Option<PairTable> {
        PairTable::ALL.into_iter().find(|table| table.name() == name)
    }

    pub(super) fn of_collection(collection: &str) -> Option<PairTable> {
        PairTable::ALL
            .into_iter()
            .find(|table| table.info().collection == collection)
    }

    /// Whether this version would store the row. Earlier versions also stored items that an account had added to
    /// another account's list. Such an item must not keep the list's owner from adding or removing the same subject.
    pub fn admits(self, row: &PairRow) -> bool {
        self != PairTable::ListItems || authority(&row.uri) == authority(&row.key_a)
    }
}

impl PairValue {
    /// In the order of the statements' parameters.
    pub const ALL: [PairValue; 6] = [
        PairValue::Cid,
        PairValue::SubjectCid,
        PairValue::Via,
        PairValue::CommitSeq,
        PairValue::Handle,
        PairValue::VerifiedAt,
    ];

    pub fn column(self) -> &'static str {
        match self {
            PairValue::Cid => "cid",
            PairValue::SubjectCid => "subject_cid",
            PairValue::Via => "via",
            PairValue::CommitSeq => "commit_seq",
            PairValue::Handle => "handle",
            PairValue::VerifiedAt => "verified_at",
        }
    }

    pub fn kind(self) -> Kind {
        match self {
            PairValue::Via => Kind::Json,
            PairValue::VerifiedAt => Kind::Time,
            _ => Kind::Text,
        }
    }
}

impl PairTableInfo {
    pub fn has(&self, value: PairValue) -> bool {
        self.values.contains(&value)
    }
}

/// A row of a pair table. Columns that the table lacks are `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct PairRow<'a> {
    pub uri: Cow<'a, str>,
    /// The pair: actor and subject; for list items list and subject; for verifications the subject alone.
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
    let info = table.info();
    let (key_a, key_b) = (info.pair)(&record)?;
    let json = &record.json;
    let has = |value| info.has(value).then_some(());
    let via = || json.get("via").filter(|via| via.is_object()).map(Json::to_text);
    Ok(PairRow {
        key_a,
        key_b,
        created_at: record.created_at(),
        indexed_at: record.source.time,
        subject_cid: has(PairValue::SubjectCid).and_then(|()| optional_cid(json.get("subject")?.get("cid"))),
        via: has(PairValue::Via).and_then(|()| via()).map(Cow::Owned),
        commit_seq: has(PairValue::CommitSeq).map(|()| record.source.seq.clone()),
        handle: has(PairValue::Handle).map(|()| cut(record.text("handle"), NAME_MAX)),
        verified_at: has(PairValue::VerifiedAt).map(|()| record.first_date(["verifiedAt", "createdAt"])),
        position: record.position,
        cid: record.cid,
        uri: Cow::Owned(record.uri),
    })
}

fn of_record<'a>(record: &Record<'_, 'a>) -> Result<KeyPair<'a>, Ignored> {
    let subject = record.json.get("subject").ok_or(Ignored::NoSubject)?;
    Ok((record.repo.clone(), at_uri(subject.str("uri"))?))
}

fn of_account<'a>(record: &Record<'_, 'a>) -> Result<KeyPair<'a>, Ignored> {
    Ok((record.repo.clone(), did(record.json.str("subject"))?))
}

fn of_list<'a>(record: &Record<'_, 'a>) -> Result<KeyPair<'a>, Ignored> {
    Ok((record.repo.clone(), at_uri(record.json.str("subject"))?))
}

fn of_verification<'a>(record: &Record<'_, 'a>) -> Result<KeyPair<'a>, Ignored> {
    Ok((did(record.json.str("subject"))?, Cow::Borrowed("")))
}

fn of_list_item<'a>(record: &Record<'_, 'a>) -> Result<KeyPair<'a>, Ignored> {
    let pair = (at_uri(record.json.str("list"))?, did(record.json.str("subject"))?);
    // Otherwise any account could add any other account to another account's moderation list.
    match authority(&pair.0) == Some(record.repo.as_ref()) {
        true => Ok(pair),
        false => Err(Ignored::ForeignList),
    }
}

/// The authority of an `at://` URI: the repo's DID or a handle.
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
