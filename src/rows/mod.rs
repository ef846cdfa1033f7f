//! Turns ops into row changes, by collection.
//!
//! Owns everything about a row that its record alone determines: the table, the values, and the reason why an op is
//! ignored. Does not know what is in the database. Pure.
//!
//! Invariant: a row built here fits its table. Every value has the type of its column and does not exceed its length.

mod actor;
mod dated;
mod feed;
pub mod keyed;
mod keyed_tables;
pub mod pairs;

use std::borrow::Cow;

use crate::decode::dialect;
use crate::decode::json::Json;
use crate::decode::text::{self, fits};
use crate::decode::time;
use crate::decode::{Event, OpError, WireOp, cid};
use crate::entry::{Entry, EntryId, Position};
use crate::micros::Micros;
use keyed::{IndexedAt, Key};
use pairs::PairUsers;

pub use actor::{Handle, Profile};
pub use dated::{DatedTable, dated_tables};
pub use feed::{Mention, Post, mentions};
pub use keyed::{KeyedRow, KeyedTable};
pub use keyed_tables::{GENERIC_RECORDS, KEYED_TABLES};
pub use pairs::{PairRow, PairTable};

/// Lengths of the columns in characters (`varchar`).
pub const URI_MAX: usize = 512;
pub const DID_MAX: usize = 255;
pub const CID_MAX: usize = 255;
const NAME_MAX: usize = 255;
const COMMIT_SEQ_MAX: usize = 32;

/// One op, ready to be applied.
#[derive(Debug)]
pub struct Op<'a> {
    pub position: Position,
    /// The entry's time.
    pub time: Micros,
    /// Index of the entry in the batch.
    pub entry: usize,
    pub path: Cow<'a, str>,
    pub repo: Cow<'a, str>,
    /// The row's key: the record's URI; for thread and post gates the URI of their post; for profiles and handles the
    /// DID.
    pub key: String,
    pub table: Table,
    pub change: Change<'a>,
}

/// What happens to the row.
#[derive(Debug)]
pub enum Change<'a> {
    Put(Row<'a>),
    /// The record is put, but the table represents it by the absence of a row.
    PutAsAbsent,
    Delete,
}

/// The tables, in the order in which every transaction writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Users,
    Posts,
    Pair(PairTable),
    Keyed(&'static KeyedTable),
}

impl Table {
    pub const GENERIC_RECORDS: Table = Table::Keyed(&GENERIC_RECORDS);
}

/// The values of a row, by table. `indexed_at` is the entry's time until `apply::page_keys` assigns the final one.
#[derive(Debug)]
pub enum Row<'a> {
    Handle(Handle),
    Profile(Box<Profile<'a>>),
    Post(Box<Post<'a>>),
    Pair(Box<PairRow<'a>>),
    Keyed(Box<KeyedRow<'a>>),
}

impl Row<'_> {
    /// The time by which readers order rows. `None` if the table has no such column, and for users: ops of all kinds
    /// create users rows.
    pub fn indexed_at(&mut self) -> Option<&mut Micros> {
        match self {
            Row::Handle(_) | Row::Profile(_) => None,
            Row::Post(post) => Some(&mut post.indexed_at),
            Row::Pair(row) => Some(&mut row.indexed_at),
            Row::Keyed(row) => (row.table.indexed_at != IndexedAt::Absent).then_some(&mut row.indexed_at),
        }
    }
}

/// Why an op, or an entry of an unknown type, changes nothing although it is not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    UnknownAction,
    NoTable,
    OptOut,
    BadPath,
    NotSelf,
    NoRecord,
    NoCid,
    OtherType,
    NoSubject,
    KeyTooLong,
    ForeignList,
    NoHandle,
    SwitchedOff,
    UnknownType,
}

impl Ignored {
    pub const ALL: [Ignored; 14] = [
        Ignored::UnknownAction,
        Ignored::NoTable,
        Ignored::OptOut,
        Ignored::BadPath,
        Ignored::NotSelf,
        Ignored::NoRecord,
        Ignored::NoCid,
        Ignored::OtherType,
        Ignored::NoSubject,
        Ignored::KeyTooLong,
        Ignored::ForeignList,
        Ignored::NoHandle,
        Ignored::SwitchedOff,
        Ignored::UnknownType,
    ];

    /// The reason's name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Ignored::UnknownAction => "unknown_action",
            Ignored::NoTable => "no_table",
            Ignored::OptOut => "opt_out",
            Ignored::BadPath => "bad_path",
            Ignored::NotSelf => "not_self",
            Ignored::NoRecord => "no_record",
            Ignored::NoCid => "no_cid",
            Ignored::OtherType => "other_type",
            Ignored::NoSubject => "no_subject",
            Ignored::KeyTooLong => "key_too_long",
            Ignored::ForeignList => "foreign_list",
            Ignored::NoHandle => "no_handle",
            Ignored::SwitchedOff => "switched_off",
            Ignored::UnknownType => "unknown_type",
        }
    }
}

/// The outcome of one op of an event.
pub enum OpOutcome<'a> {
    Op(Op<'a>),
    Ignored(Ignored),
    /// The op becomes a dead letter. `index` is its index among the commit's ops.
    Bad {
        index: u32,
        error: OpError,
    },
}

/// What the rows of an entry take from the entry itself, apart from the record.
#[derive(Clone)]
pub struct Source<'a> {
    /// Index of the entry in the batch.
    pub entry: usize,
    pub id: EntryId,
    /// The entry's time. Also the date of records without one.
    pub time: Micros,
    /// The value of commit_seq: the entry's seq, or the entry's ID if it has no seq.
    pub seq: Cow<'a, str>,
}

impl<'a> Source<'a> {
    pub fn new(entry: &'a Entry, index: usize, now_ms: i64) -> Self {
        Source {
            entry: index,
            id: entry.id,
            time: time::of_entry(entry.id, now_ms),
            seq: commit_seq(entry),
        }
    }
}

fn commit_seq(entry: &Entry) -> Cow<'_, str> {
    let seq = entry.seq.as_deref().and_then(|seq| std::str::from_utf8(seq).ok());
    match seq.map(text::without_nul) {
        Some(seq) if !seq.is_empty() && seq.len() <= COMMIT_SEQ_MAX => seq,
        _ => Cow::Owned(entry.id.to_string()),
    }
}

/// The data from which the row of one record is built.
struct Record<'r, 'a> {
    source: &'r Source<'a>,
    position: Position,
    repo: Cow<'a, str>,
    collection: &'r str,
    uri: String,
    cid: Cow<'a, str>,
    json: Json<'a>,
}

impl<'a> Record<'_, 'a> {
    fn created_at(&self) -> Micros {
        self.date(self.json.str("createdAt"))
    }

    /// The first of two fields that holds a date.
    fn first_date(&self, names: [&str; 2]) -> Micros {
        let mut texts = names.into_iter().filter_map(|name| self.json.str(name));
        self.date(texts.find(|text| time::parse(text).is_some()))
    }

    fn date(&self, text: Option<&Cow<str>>) -> Micros {
        time::created_at(text.map(Cow::as_ref), self.source.time)
    }

    /// A required text; empty if the record lacks it.
    fn text(&self, name: &str) -> Cow<'a, str> {
        self.json.str(name).cloned().unwrap_or_default()
    }

    /// An optional text; an empty one counts as absent.
    fn optional_text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.json.str(name).filter(|text| !text.is_empty()).cloned()
    }

    fn name(&self, name: &str) -> Cow<'a, str> {
        text::cut(self.text(name), NAME_MAX)
    }

    fn blob(&self, name: &str) -> Option<Cow<'a, str>> {
        self.json.get(name).and_then(cid::of_blob)
    }
}

/// The outcomes of an event's ops, in their order.
pub fn outcomes<'a>(event: Event<'a>, source: &Source<'a>) -> Vec<OpOutcome<'a>> {
    match event {
        Event::Commit { repo, ops } => ops
            .into_iter()
            .zip(0..)
            .map(|(op, index)| match op {
                Err(error) => OpOutcome::Bad { index, error },
                Ok(op) => to_op(op, index, &repo, source).map_or_else(OpOutcome::Ignored, OpOutcome::Op),
            })
            .collect(),
        Event::Identity { did, handle } => {
            vec![actor::identity(did, handle, source).map_or_else(OpOutcome::Ignored, OpOutcome::Op)]
        }
        Event::Account | Event::Unknown => Vec::new(),
    }
}

fn to_op<'a>(wire: WireOp<'a>, index: u32, repo: &Cow<'a, str>, source: &Source<'a>) -> Result<Op<'a>, Ignored> {
    let is_delete = match wire.action.as_deref() {
        Some("create" | "update") => false,
        Some("delete") => true,
        _ => return Err(Ignored::UnknownAction),
    };
    let (collection, rkey) = split_path(&wire.path).ok_or(Ignored::BadPath)?;
    let table = table_of(collection).ok_or(Ignored::NoTable)?;
    let is_singleton = match table {
        Table::Users => true,
        Table::Keyed(table) => table.key == Key::Singleton,
        Table::Posts | Table::Pair(_) => false,
    };
    if is_singleton && rkey != "self" {
        return Err(Ignored::NotSelf);
    }
    let uri = format!("at://{repo}/{}", wire.path);
    let key = match table {
        Table::Users => repo.to_string(),
        Table::Keyed(table) if table.key == Key::Post => format!("at://{repo}/app.bsky.feed.post/{rkey}"),
        _ => uri.clone(),
    };
    if !fits(&uri, URI_MAX) || !fits(&key, URI_MAX) || !fits(repo, DID_MAX) {
        return Err(Ignored::KeyTooLong);
    }
    let position = Position {
        entry: source.id,
        op: index,
    };
    let change = if is_delete {
        Change::Delete
    } else {
        let cid = wire.cid.filter(|cid| !cid.is_empty());
        let record = Record {
            source,
            position,
            repo: repo.clone(),
            collection,
            uri,
            json: wire.record.ok_or(Ignored::NoRecord)?,
            cid: cid.ok_or(Ignored::NoCid)?,
        };
        put(record, table)?
    };
    Ok(Op {
        position,
        time: source.time,
        entry: source.entry,
        path: wire.path,
        repo: repo.clone(),
        key,
        table,
        change,
    })
}

fn put<'a>(mut record: Record<'_, 'a>, table: Table) -> Result<Change<'a>, Ignored> {
    if !fits(&record.cid, CID_MAX) {
        return Err(Ignored::KeyTooLong);
    }
    let is_generic = table == Table::GENERIC_RECORDS;
    if !is_generic || dialect::is_sdk(&record.json) {
        dialect::normalise(&mut record.json);
    }
    let type_name = record.json.str("$type");
    if !is_generic && type_name.is_some_and(|name| name != record.collection) {
        return Err(Ignored::OtherType);
    }
    let row = match table {
        Table::Users => Row::Profile(Box::new(actor::profile(record))),
        Table::Posts => Row::Post(Box::new(feed::post(record))),
        Table::Pair(table) => Row::Pair(Box::new(pairs::pair(record, table)?)),
        Table::Keyed(table) => {
            let indexed_at = record.source.time;
            let Some(values) = (table.values)(record)? else {
                return Ok(Change::PutAsAbsent);
            };
            Row::Keyed(Box::new(KeyedRow {
                table,
                values,
                indexed_at,
            }))
        }
    };
    Ok(Change::Put(row))
}

/// Splits `collection/rkey`. Neither part may be empty.
fn split_path(path: &str) -> Option<(&str, &str)> {
    let (collection, rkey) = path.split_once('/')?;
    (!collection.is_empty() && !rkey.is_empty() && !rkey.contains('/')).then_some((collection, rkey))
}

/// The table of a collection. The AppView has no table for two collections.
fn table_of(collection: &str) -> Option<Table> {
    if let Some(table) = PairTable::of_collection(collection) {
        return Some(Table::Pair(table));
    }
    match collection {
        "app.bsky.feed.post" => Some(Table::Posts),
        "app.bsky.actor.profile" => Some(Table::Users),
        "app.bsky.actor.status" | "app.bsky.notification.declaration" => None,
        _ => {
            let mut tables = KEYED_TABLES.into_iter();
            let own = tables.find(|table| table.collection == Some(collection));
            Some(Table::Keyed(own.unwrap_or(&GENERIC_RECORDS)))
        }
    }
}

/// A URI that is not part of a key; absent if it is not a string or too long for its column.
fn optional_uri<'a>(value: Option<&Json<'a>>) -> Option<Cow<'a, str>> {
    match value {
        Some(Json::String(uri)) if !uri.is_empty() && fits(uri, URI_MAX) => Some(uri.clone()),
        _ => None,
    }
}

/// A CID that is not part of a key, in any of the forms that `decode::cid` reads.
fn optional_cid<'a>(value: Option<&Json<'a>>) -> Option<Cow<'a, str>> {
    value.and_then(cid::text).filter(|cid| fits(cid, CID_MAX))
}

/// The strings of an array; other items are left out.
fn strings<'r, 'a>(items: &'r [Json<'a>]) -> impl Iterator<Item = &'r Cow<'a, str>> {
    items.iter().filter_map(|item| match item {
        Json::String(text) => Some(text),
        _ => None,
    })
}

/// The strings as the text of a JSON array.
fn json_array<'r, 'a: 'r>(strings: impl Iterator<Item = &'r Cow<'a, str>>) -> String {
    Json::Array(strings.cloned().map(Json::String).collect()).to_text()
}

impl<'a> Op<'a> {
    /// The DIDs whose users rows must exist once the op is applied: the repo's and the subject's.
    pub fn users(&self) -> (Option<&str>, Option<&str>) {
        let repo = Some(self.repo.as_ref());
        match (&self.change, self.table) {
            (Change::Put(Row::Pair(row)), Table::Pair(table)) => match table.info().users {
                PairUsers::Repo => (repo, None),
                PairUsers::RepoAndSubject => (repo, Some(&row.key_b)),
                PairUsers::Nobody => (None, None),
            },
            (Change::Put(_), Table::Keyed(table)) if !table.needs_user => (None, None),
            (Change::Put(_), _) => (repo, None),
            (Change::PutAsAbsent | Change::Delete, _) => (None, None),
        }
    }

    /// Whether the op is ignored if the repo's user forbids data collection.
    pub fn heeds_opt_out(&self) -> bool {
        match (&self.change, self.table) {
            (Change::Put(Row::Handle(_)), _) => false,
            (_, Table::Keyed(table)) if !table.heeds_opt_out => false,
            (Change::Put(_) | Change::PutAsAbsent, _) => true,
            (Change::Delete, _) => false,
        }
    }
}
