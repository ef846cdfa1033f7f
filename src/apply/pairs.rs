//! Tables with one row per pair: likes, reposts, bookmarks, follows, blocks, list blocks, list items, verifications.
//!
//! Owns these tables and the remembered rivals. The usual record is inserted without a look at what is there; only one
//! that meets a row of its URI or its pair costs reads, and `rivals` decides about it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

use postgres::types::Type;
use postgres::{Client, Row};

use super::copy::{Way, copy};
use super::effects::{Effects, authority, pair_notification_uri};
use super::params::{JsonText, Params, Timestamp};
use super::rivals::{Plan, plan};
use crate::decode::time::Micros;
use crate::entry::{EntryId, Position};
use crate::fault::ApplyError;
use crate::fold::Changes;
use crate::rows::{PairRow, PairTable};
use crate::sql::{self, Statement};

struct Statements {
    insert: Statement,
    existing: Statement,
    update: Statement,
    delete: Statement,
}

fn statements(table: PairTable) -> Statements {
    let of = |insert, existing, update, delete| Statements {
        insert,
        existing,
        update,
        delete,
    };
    use sql::*;
    match table {
        PairTable::Likes => of(LIKES_INSERT, LIKES_EXISTING, LIKES_UPDATE, LIKES_DELETE),
        PairTable::Reposts => of(REPOSTS_INSERT, REPOSTS_EXISTING, REPOSTS_UPDATE, REPOSTS_DELETE),
        PairTable::Bookmarks => of(BOOKMARKS_INSERT, BOOKMARKS_EXISTING, BOOKMARKS_UPDATE, BOOKMARKS_DELETE),
        PairTable::Follows => of(FOLLOWS_INSERT, FOLLOWS_EXISTING, FOLLOWS_UPDATE, FOLLOWS_DELETE),
        PairTable::Blocks => of(BLOCKS_INSERT, BLOCKS_EXISTING, BLOCKS_UPDATE, BLOCKS_DELETE),
        PairTable::ListBlocks => of(
            LIST_BLOCKS_INSERT,
            LIST_BLOCKS_EXISTING,
            LIST_BLOCKS_UPDATE,
            LIST_BLOCKS_DELETE,
        ),
        PairTable::ListItems => of(
            LIST_ITEMS_INSERT,
            LIST_ITEMS_EXISTING,
            LIST_ITEMS_UPDATE,
            LIST_ITEMS_DELETE,
        ),
        PairTable::Verifications => of(
            VERIFICATIONS_INSERT,
            VERIFICATIONS_EXISTING,
            VERIFICATIONS_UPDATE,
            VERIFICATIONS_DELETE,
        ),
    }
}

/// The statements for many new rows, of the tables that get many.
struct Bulk {
    held: Statement,
    copy: Statement,
}

fn bulk(table: PairTable) -> Option<Bulk> {
    let of = |held, copy| Some(Bulk { held, copy });
    match table {
        PairTable::Likes => of(sql::LIKES_HELD, sql::LIKES_COPY),
        PairTable::Reposts => of(sql::REPOSTS_HELD, sql::REPOSTS_COPY),
        PairTable::Follows => of(sql::FOLLOWS_HELD, sql::FOLLOWS_COPY),
        _ => None,
    }
}

/// The rows whose pair another record holds, and the others.
fn split_off_held<'e>(
    client: &mut Client,
    statement: Statement,
    rows: Vec<&'e PairRow<'e>>,
) -> Result<(Vec<&'e PairRow<'e>>, Vec<&'e PairRow<'e>>), ApplyError> {
    let answer = Params::new()
        .texts(rows.iter().map(|row| &row.key_a))
        .texts(rows.iter().map(|row| &row.key_b))
        .query(client, statement)?;
    let held: HashSet<(&str, &str)> = answer.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(rows.into_iter().partition(|row| held.contains(&row.pair())))
}

fn copy_rows(client: &mut Client, statement: Statement, table: PairTable, rows: &[&PairRow]) -> Result<(), ApplyError> {
    const TYPES: [Type; 7] = [
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMP,
        Type::TEXT,
        Type::JSONB,
        Type::TEXT,
    ];
    // Follows have no subject_cid and no via.
    const FOLLOW_TYPES: [Type; 5] = [Type::TEXT, Type::TEXT, Type::TEXT, Type::TIMESTAMP, Type::TEXT];
    if table == PairTable::Follows {
        copy(client, statement, &FOLLOW_TYPES, rows.iter(), |row, write| {
            write(&[
                &row.uri,
                &row.key_a,
                &row.key_b,
                &Timestamp(row.created_at),
                &row.commit_seq,
            ])
        })?;
        return Ok(());
    }
    copy(client, statement, &TYPES, rows.iter(), |row, write| {
        write(&[
            &row.uri,
            &row.key_a,
            &row.key_b,
            &Timestamp(row.created_at),
            &row.subject_cid,
            &row.via.as_deref().map(JsonText),
            &row.commit_seq,
        ])
    })?;
    Ok(())
}

/// The pairs of each table that a delete has freed, or may have freed.
pub type Freed = HashMap<PairTable, Vec<FreedPair>>;

pub struct FreedPair {
    key_a: String,
    key_b: String,
    /// Whether the row that held it went in this transaction, or its notification did: then it was counted.
    is_counted: bool,
}

impl FreedPair {
    fn pair(&self) -> (&str, &str) {
        (&self.key_a, &self.key_b)
    }
}

/// Locks the pairs that records of several repos may be of, before any row is written.
pub fn lock(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    let uris = |table| {
        let folded = changes.pair(table);
        let put = folded.put.iter().map(|row| row.uri.as_ref());
        folded.deleted.iter().copied().chain(put).collect::<Vec<&str>>()
    };
    let (items, verifications) = (uris(PairTable::ListItems), uris(PairTable::Verifications));
    if items.is_empty() && verifications.is_empty() {
        return Ok(());
    }
    let shared = PairTable::ALL.into_iter().filter(|table| table.is_shared());
    let rows: Vec<_> = shared.flat_map(|table| changes.pair(table).put.iter()).collect();
    Params::new()
        .texts(items.iter().copied())
        .texts(verifications.iter().copied())
        .texts(rows.iter().map(|row| &row.key_a))
        .texts(rows.iter().map(|row| &row.key_b))
        .query(client, sql::PAIRS_LOCK)?;
    Ok(())
}

/// Deletes rows; returns their pairs.
pub fn delete<'e>(
    client: &mut Client,
    table: PairTable,
    uris: &[&'e str],
    effects: &mut Effects<'e>,
) -> Result<Vec<Gone>, ApplyError> {
    if uris.is_empty() {
        return Ok(Vec::new());
    }
    let rows = Params::new()
        .texts(uris.iter().copied())
        .query(client, statements(table).delete)?;
    let gone: Vec<Gone> = rows.iter().map(|row| Gone::read(table, row)).collect();
    for row in &gone {
        effects.pair_went(
            table,
            Cow::Owned(row.uri.clone()),
            Cow::Owned(row.key_a.clone()),
            Cow::Owned(row.key_b.clone()),
        );
        if row.is_foreign {
            effects.recount_pair(table, Cow::Owned(row.key_b.clone()));
        }
    }
    Ok(gone)
}

/// A row that is deleted, or that the app has deleted before.
pub struct Gone {
    pub table: PairTable,
    pub uri: String,
    pub key_a: String,
    pub key_b: String,
    is_foreign: bool,
}

impl Gone {
    fn pair(&self) -> (&str, &str) {
        (&self.key_a, &self.key_b)
    }

    fn read(table: PairTable, row: &Row) -> Gone {
        Gone {
            table,
            uri: row.get("uri"),
            key_a: row.get("key_a"),
            key_b: row.get("key_b"),
            is_foreign: row.get("is_foreign"),
        }
    }
}

/// A record whose row the app deleted, as its notification tells: what it still causes is taken back, and its subject
/// counted anew, since nobody knows whether the app counted.
pub fn delete_from_notification(
    table: PairTable,
    uri: &str,
    author: String,
    subject: String,
    effects: &mut Effects,
) -> Gone {
    effects.pair_is_not(
        table,
        Cow::Owned(uri.to_owned()),
        Cow::Owned(author.clone()),
        Cow::Owned(subject.clone()),
    );
    effects.recount_pair(table, Cow::Owned(subject.clone()));
    Gone {
        table,
        uri: uri.to_owned(),
        key_a: author,
        key_b: subject,
        is_foreign: true,
    }
}

/// Forgets deleted records, and returns the pairs that went or were theirs, as far as other records wait for them.
pub fn take_rivals(client: &mut Client, deleted: &[&str], gone: &[Gone]) -> Result<Freed, ApplyError> {
    let mut freed = Freed::new();
    if deleted.is_empty() {
        return Ok(freed);
    }
    let rows = Params::new()
        .texts(deleted.iter().copied())
        .texts(gone.iter().map(|row| row.table.name()))
        .texts(gone.iter().map(|row| &row.key_a))
        .texts(gone.iter().map(|row| &row.key_b))
        .query(client, sql::RIVALS_TAKE)?;
    let gone: HashSet<_> = gone.iter().map(|row| (row.table, row.pair())).collect();
    for row in &rows {
        let name: &str = row.get("table_name");
        let (key_a, key_b): (String, String) = (row.get("key_a"), row.get("key_b"));
        if let Some(table) = PairTable::ALL.into_iter().find(|table| table.name() == name) {
            freed.entry(table).or_default().push(FreedPair {
                is_counted: gone.contains(&(table, (&key_a, &key_b))),
                key_a,
                key_b,
            });
        }
    }
    Ok(freed)
}

/// What a record that could not simply be inserted meets in the database. Outlives the batch's effects.
pub struct Met {
    stored: Vec<PairRow<'static>>,
    remembered: Vec<PairRow<'static>>,
    freed: Vec<FreedPair>,
}

impl Met {
    /// The rows as the table holds them, which does not tell their places.
    pub fn stored_rows(&mut self) -> impl Iterator<Item = &mut PairRow<'static>> {
        self.stored.iter_mut()
    }
}

/// Inserts the records that meet nothing; returns those that do, with what they meet.
pub fn insert<'e>(
    client: &mut Client,
    table: PairTable,
    rows: &[&'e PairRow<'e>],
    freed: Vec<FreedPair>,
    way: Way,
    effects: &mut Effects<'e>,
) -> Result<Option<(Vec<&'e PairRow<'e>>, Met)>, ApplyError> {
    let (fresh, mut others) = split_off_rivals(rows, &freed);
    if let Some(bulk) = bulk(table).filter(|_| way.copies(fresh.len())) {
        let (held, fresh) = split_off_held(client, bulk.held, fresh)?;
        copy_rows(client, bulk.copy, table, &fresh)?;
        fresh.into_iter().for_each(|row| effects.pair_came(table, row));
        others.extend(held);
    } else if !fresh.is_empty() {
        let returned = params(&fresh).query(client, statements(table).insert)?;
        let inserted: HashSet<&str> = returned.iter().map(|row| row.get("uri")).collect();
        for row in fresh {
            if inserted.contains(row.uri.as_ref()) {
                effects.pair_came(table, row);
            } else {
                others.push(row);
            }
        }
    }
    if others.is_empty() && freed.is_empty() {
        return Ok(None);
    }
    let met = read(client, table, &others, freed)?;
    Ok(Some((others, met)))
}

/// The records that are alone in the batch with their pair, or the first of those that have it; and the others, whose
/// pair is known to have rivals.
fn split_off_rivals<'e>(rows: &[&'e PairRow<'e>], freed: &[FreedPair]) -> (Vec<&'e PairRow<'e>>, Vec<&'e PairRow<'e>>) {
    let mut first: HashMap<(&str, &str), Position> = HashMap::with_capacity(rows.len());
    for row in rows {
        let place = first.entry(row.pair()).or_insert(row.position);
        *place = row.position.min(*place);
    }
    let freed: HashSet<(&str, &str)> = freed.iter().map(FreedPair::pair).collect();
    rows.iter()
        .partition(|row| first.get(&row.pair()) == Some(&row.position) && !freed.contains(&row.pair()))
}

fn read(client: &mut Client, table: PairTable, items: &[&PairRow], freed: Vec<FreedPair>) -> Result<Met, ApplyError> {
    let uris: Vec<&str> = items.iter().map(|item| item.uri.as_ref()).collect();
    let mut pairs: Vec<(&str, &str)> = items.iter().map(|item| item.pair()).collect();
    pairs.extend(freed.iter().map(FreedPair::pair));
    let mut stored = read_stored(client, table, &uris, &pairs)?;
    let of_stored = stored.iter().map(|row| row.uri.as_ref());
    let uris: Vec<&str> = uris.iter().copied().chain(of_stored).collect();
    pairs.extend(stored.iter().map(PairRow::pair));
    let remembered = read_remembered(client, table, &uris, &pairs)?;
    // A remembered record may have got another pair since, and a row there: then it waits for nothing.
    let elsewhere: Vec<&str> = remembered
        .iter()
        .map(|row| row.uri.as_ref())
        .filter(|uri| !uris.contains(uri))
        .collect();
    if !elsewhere.is_empty() {
        let rows = read_stored(client, table, &elsewhere, &[])?;
        stored.extend(rows);
    }
    let remembered = without_forbidden(client, remembered, &stored)?;
    Ok(Met {
        stored,
        remembered,
        freed,
    })
}

type Rows = Vec<PairRow<'static>>;

/// Forgets the records that wait and whose repo forbids that its data be collected: its deletes still apply, but must not
/// bring forth rows.
fn without_forbidden(client: &mut Client, remembered: Rows, stored: &Rows) -> Result<Rows, ApplyError> {
    let seated: HashSet<&str> = stored.iter().map(|row| row.uri.as_ref()).collect();
    let waits = |row: &&PairRow| !seated.contains(row.uri.as_ref());
    let repos: BTreeSet<&str> = remembered
        .iter()
        .filter(waits)
        .filter_map(|row| authority(&row.uri))
        .collect();
    if repos.is_empty() {
        return Ok(remembered);
    }
    let answer = Params::new().texts(repos.into_iter()).query(client, sql::OPT_OUTS)?;
    let forbidden: HashSet<&str> = answer.iter().map(|row| row.get(0)).collect();
    let is_forbidden = |row: &PairRow| authority(&row.uri).is_some_and(|repo| forbidden.contains(repo));
    let (forgotten, kept): (Rows, Rows) = remembered.into_iter().partition(|row| waits(&row) && is_forbidden(row));
    let mut uris: Vec<&str> = forgotten.iter().map(|row| row.uri.as_ref()).collect();
    uris.sort_unstable();
    take_rivals(client, &uris, &[])?;
    Ok(kept)
}

fn read_stored(
    client: &mut Client,
    table: PairTable,
    uris: &[&str],
    pairs: &[(&str, &str)],
) -> Result<Rows, ApplyError> {
    let rows = Params::new()
        .texts(uris.iter().copied())
        .texts(pairs.iter().map(|(a, _)| *a))
        .texts(pairs.iter().map(|(_, b)| *b))
        .query(client, statements(table).existing)?;
    Ok(rows.iter().map(|row| read_row(row, Position::FIRST)).collect())
}

fn read_remembered(
    client: &mut Client,
    table: PairTable,
    uris: &[&str],
    pairs: &[(&str, &str)],
) -> Result<Rows, ApplyError> {
    let rows = Params::new()
        .texts(uris.iter().copied())
        .text(table.name())
        .texts(pairs.iter().map(|(a, _)| *a))
        .texts(pairs.iter().map(|(_, b)| *b))
        .query(client, sql::RIVALS_EXISTING)?;
    Ok(rows.iter().map(|row| read_row(row, read_position(row))).collect())
}

fn read_row(row: &Row, position: Position) -> PairRow<'static> {
    let text = |name| row.get::<_, Option<String>>(name).map(Cow::Owned);
    PairRow {
        uri: text("uri").unwrap_or_default(),
        key_a: text("key_a").unwrap_or_default(),
        key_b: text("key_b").unwrap_or_default(),
        created_at: row.get("created_at"),
        cid: text("cid").unwrap_or_default(),
        subject_cid: text("subject_cid"),
        via: text("via"),
        commit_seq: text("commit_seq"),
        handle: text("handle"),
        verified_at: row.get::<_, Option<Micros>>("verified_at"),
        position,
    }
}

fn read_position(row: &Row) -> Position {
    // Written from u64 by the cast's own reverse.
    let number = |name| row.get::<_, i64>(name) as u64;
    Position {
        entry: EntryId {
            ms: number("entry_ms"),
            n: number("entry_n"),
        },
        op: row.get::<_, i32>("op") as u32,
    }
}

/// Settles who holds the pairs of the records that met something, and of the freed pairs.
pub fn settle<'e>(
    client: &mut Client,
    table: PairTable,
    items: &[&'e PairRow<'e>],
    met: &'e Met,
    effects: &mut Effects<'e>,
) -> Result<(), ApplyError> {
    let freed: Vec<(&str, &str)> = met.freed.iter().map(FreedPair::pair).collect();
    let plan = plan(items, &met.stored, &met.remembered, &freed);
    let statements = statements(table);
    recount_freed(table, met, effects);
    if !plan.delete.is_empty() {
        let uris = sorted(&plan.delete);
        Params::new()
            .texts(uris.iter().map(|row| &row.uri))
            .execute(client, statements.delete)?;
        for row in &plan.delete {
            went(table, row, effects);
        }
    }
    update(client, table, &plan, effects)?;
    complete(table, met, &plan, effects);
    if !plan.insert.is_empty() {
        let rows = sorted(&plan.insert);
        let inserted = params(&rows).query(client, statements.insert)?.len();
        if inserted != rows.len() {
            return Err(ApplyError::Vanished(table.name()));
        }
        for row in rows {
            effects.pair_came(table, row);
        }
    }
    remember(client, table, &plan)
}

fn went<'e>(table: PairTable, row: &'e PairRow<'e>, effects: &mut Effects<'e>) {
    effects.pair_went(
        table,
        Cow::Borrowed(&row.uri),
        Cow::Borrowed(&row.key_a),
        Cow::Borrowed(&row.key_b),
    );
    effects.notifications_gone(pair_notification_uri(table, &row.uri));
    if is_foreign(table, row) {
        recount(table, row, effects);
    }
}

fn recount<'e>(table: PairTable, row: &'e PairRow<'e>, effects: &mut Effects<'e>) {
    effects.recount_pair(table, Cow::Borrowed(&row.key_b));
}

/// Has the subjects counted anew of pairs whose row the app has deleted, counted or not, with nothing left that tells of it.
fn recount_freed<'e>(table: PairTable, met: &'e Met, effects: &mut Effects<'e>) {
    let held: HashSet<(&str, &str)> = met.stored.iter().map(PairRow::pair).collect();
    for freed in met.freed.iter().filter(|freed| !freed.is_counted) {
        if !held.contains(&freed.pair()) {
            effects.recount_pair(table, Cow::Borrowed(&freed.key_b));
        }
    }
}

/// Adds what is missing of what rows of others cause that a record of their pair has met and that stay.
fn complete<'e>(table: PairTable, met: &'e Met, plan: &Plan<'e>, effects: &mut Effects<'e>) {
    let changed: HashSet<&str> = plan
        .delete
        .iter()
        .chain(plan.update.iter().map(|(old, _)| old))
        .map(|row| row.uri.as_ref())
        .collect();
    for row in met.stored.iter().filter(|row| is_foreign(table, row)) {
        if !changed.contains(row.uri.as_ref()) {
            effects.meets_old_rows();
            effects.pair_is(table, row);
            recount(table, row, effects);
        }
    }
}

/// Whether another than the worker may have made the row, counted it or not, and left out what else it causes. Rows tell
/// by their commit_seq; bookmarks have none and may all be others'. The rest causes nothing.
fn is_foreign(table: PairTable, row: &PairRow) -> bool {
    match table {
        PairTable::Likes | PairTable::Reposts | PairTable::Follows | PairTable::Blocks => row.commit_seq.is_none(),
        PairTable::Bookmarks => true,
        PairTable::ListBlocks | PairTable::ListItems | PairTable::Verifications => false,
    }
}

fn update<'e>(
    client: &mut Client,
    table: PairTable,
    plan: &Plan<'e>,
    effects: &mut Effects<'e>,
) -> Result<(), ApplyError> {
    let mut rows = Vec::new();
    for &(old, new) in &plan.update {
        if !is_same(table, old, new) {
            rows.push(new);
        }
        // Also where the row stays as it is: its CID may be new, which only its side effects hold, and a row of others may
        // have none.
        if old.pair() != new.pair() {
            went(table, old, effects);
            effects.pair_came(table, new);
        } else {
            effects.pair_is(table, new);
        }
        if is_foreign(table, old) {
            recount(table, old, effects);
            recount(table, new, effects);
        }
    }
    if !plan.update.is_empty() {
        effects.meets_old_rows();
    }
    if !rows.is_empty() {
        params(&sorted(&rows)).execute(client, statements(table).update)?;
    }
    Ok(())
}

/// Whether the stored row is what the record says: then there is nothing to write. Only what the table holds counts.
fn is_same(table: PairTable, old: &PairRow, new: &PairRow) -> bool {
    let has_cid = matches!(table, PairTable::ListItems | PairTable::Verifications);
    old.pair() == new.pair()
        && old.created_at == new.created_at
        && (!has_cid || old.cid == new.cid)
        && old.subject_cid == new.subject_cid
        && is_same_json(old.via.as_deref(), new.via.as_deref())
        && old.commit_seq == new.commit_seq
        && old.handle == new.handle
        && old.verified_at == new.verified_at
}

/// Compares JSON texts of which one has been through jsonb, which has an order and spacing of its own.
fn is_same_json(old: Option<&str>, new: Option<&str>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            // What serde_json finds too deep is taken for another: then it is written, which is right twice.
            let value = |text| serde_json::from_str::<serde_json::Value>(text).ok();
            old == new || value(old).is_some_and(|old| Some(old) == value(new))
        }
        (old, new) => old == new,
    }
}

fn remember(client: &mut Client, table: PairTable, plan: &Plan) -> Result<(), ApplyError> {
    if plan.remember.is_empty() {
        return Ok(());
    }
    let mut records = plan.remember.clone();
    records.sort_unstable_by_key(|(row, _)| &row.uri);
    let rows = || records.iter().map(|(row, _)| *row);
    let places = || records.iter().map(|(_, place)| place);
    Params::new()
        .texts(rows().map(|row| &row.uri))
        .text(table.name())
        .texts(rows().map(|row| &row.key_a))
        .texts(rows().map(|row| &row.key_b))
        .longs(places().map(|place| place.entry.ms as i64))
        .longs(places().map(|place| place.entry.n as i64))
        .ints(places().map(|place| place.op as i32))
        .times(rows().map(|row| row.created_at))
        .texts(rows().map(|row| &row.cid))
        .optional_texts(rows().map(|row| &row.subject_cid))
        .optional_jsons(rows().map(|row| &row.via))
        .optional_texts(rows().map(|row| &row.commit_seq))
        .optional_texts(rows().map(|row| &row.handle))
        .optional_times(rows().map(|row| row.verified_at))
        .execute(client, sql::RIVALS_UPSERT)?;
    Ok(())
}

fn sorted<'e>(rows: &[&'e PairRow<'e>]) -> Vec<&'e PairRow<'e>> {
    let mut rows = rows.to_vec();
    rows.sort_unstable_by(|a, b| a.uri.cmp(&b.uri));
    rows
}

fn params<'p>(rows: &'p [&PairRow]) -> Params<'p> {
    let rows = || rows.iter();
    Params::new()
        .texts(rows().map(|row| &row.uri))
        .texts(rows().map(|row| &row.key_a))
        .texts(rows().map(|row| &row.key_b))
        .times(rows().map(|row| row.created_at))
        .texts(rows().map(|row| &row.cid))
        .optional_texts(rows().map(|row| &row.subject_cid))
        .optional_jsons(rows().map(|row| &row.via))
        .optional_texts(rows().map(|row| &row.commit_seq))
        .optional_texts(rows().map(|row| &row.handle))
        .optional_times(rows().map(|row| row.verified_at))
}
