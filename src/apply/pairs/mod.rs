//! Tables with one row per pair: likes, reposts, bookmarks, follows, blocks, list blocks, list items, verifications.
//!
//! Owns these tables and the remembered rivals. Most records are inserted without reading first. Only a record whose
//! URI or pair already has a row costs reads (`conflicts`); `plan` then decides about it, and `carry_out` writes what the
//! plan says.

mod carry_out;
mod conflicts;
mod plan;
mod parameters;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

pub use carry_out::carry_out;
pub use conflicts::{Conflicts, read_stored};

use super::copy::WriteMode;
use super::effects::{Effects, FreshStates, authority, has_state};
use crate::entry::Position;
use crate::fold::Changes;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::postgres::templates;
use crate::rows::{PairRow, PairTable};
use parameters::{copy_rows, params, split_off_held};

/// For each table, the pairs that a delete has freed or may have freed.
pub type Freed = HashMap<PairTable, Vec<FreedPair>>;

pub struct FreedPair {
    key_a: String,
    key_b: String,
    /// The record that the viewer state may still name if the AppView has deleted the row.
    forgotten: Option<String>,
    /// Whether this transaction deleted the row that held the pair, or its notification. If so, the delete is already
    /// counted.
    is_counted: bool,
    /// No record of the pair from before this position is left.
    from: Position,
}

impl FreedPair {
    fn pair(&self) -> (&str, &str) {
        (&self.key_a, &self.key_b)
    }
}

/// Locks the subjects of verifications before any row is written, because records of several repos may share a subject.
pub fn lock(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    let verifications = changes.pair(PairTable::Verifications);
    let put = || verifications.put.iter();
    let deleted = verifications.deleted.iter().copied();
    let uris: Vec<&str> = deleted.chain(put().map(|row| row.uri.as_ref())).collect();
    if uris.is_empty() {
        return Ok(());
    }
    Params::new()
        .texts(uris.iter().copied())
        .texts(put().map(|row| &row.key_a))
        .query(client, sql::PAIRS_LOCK)?;
    Ok(())
}

/// Deletes rows and returns them.
pub fn delete<'e>(
    client: &mut Client,
    table: PairTable,
    uris: &[&'e str],
    effects: &mut Effects<'e>,
) -> Result<Vec<DeletedRow>, ApplyError> {
    if uris.is_empty() {
        return Ok(Vec::new());
    }
    let rows = Params::new()
        .texts(uris.iter().copied())
        .query(client, templates::pair(table).delete)?;
    let gone: Vec<DeletedRow> = rows
        .iter()
        .map(|row| DeletedRow::read(table, row))
        .collect::<Result<_, ApplyError>>()?;
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

/// A row that this transaction deleted, or that the AppView had deleted before.
pub struct DeletedRow {
    pub table: PairTable,
    pub uri: String,
    pub key_a: String,
    pub key_b: String,
    is_foreign: bool,
}

impl DeletedRow {
    fn pair(&self) -> (&str, &str) {
        (&self.key_a, &self.key_b)
    }

    fn read(table: PairTable, row: &Row) -> Result<DeletedRow, ApplyError> {
        Ok(DeletedRow {
            table,
            uri: row.get("uri")?,
            key_a: row.get("key_a")?,
            key_b: row.get("key_b")?,
            is_foreign: row.get("is_foreign")?,
        })
    }
}

/// Handles a deleted record whose row the AppView has already deleted, and which is known only from another row. Its
/// remaining side effects are reverted. Its subject is recounted, because whether the AppView adjusted the counter is
/// unknown.
pub fn delete_forgotten_row(
    table: PairTable,
    uri: &str,
    author: String,
    subject: String,
    effects: &mut Effects,
) -> DeletedRow {
    effects.pair_is_not(
        table,
        Cow::Owned(uri.to_owned()),
        Cow::Owned(author.clone()),
        Cow::Owned(subject.clone()),
    );
    effects.recount_pair(table, Cow::Owned(subject.clone()));
    DeletedRow {
        table,
        uri: uri.to_owned(),
        key_a: author,
        key_b: subject,
        is_foreign: true,
    }
}

/// The number of viewer states that a batch reads to find rows deleted by the AppView, and the minimum and maximum for
/// each viewer.
const STATES_READ: usize = 2000;
const STATES_OF_VIEWER: (usize, usize) = (20, 200);

/// The number of states to read for each of `n_viewers` viewers.
fn states_of_each(n_viewers: usize) -> i64 {
    let (least, most) = STATES_OF_VIEWER;
    (STATES_READ / n_viewers.max(1)).clamp(least, most) as i64
}

/// Calls `delete_forgotten_row` for deleted records that are counted and had neither a row nor a notification. A
/// record on its author's own post causes no notification, and notifications may be switched off. Costs nothing if
/// every deleted record had its row.
pub fn delete_forgotten<'e>(
    client: &mut Client,
    changes: &Changes<'e>,
    found: &[DeletedRow],
    effects: &mut Effects<'e>,
) -> Result<Vec<DeletedRow>, ApplyError> {
    let found: HashSet<&str> = found.iter().map(|row| row.uri.as_str()).collect();
    let counted = [PairTable::Likes, PairTable::Reposts, PairTable::Bookmarks];
    let records = counted
        .into_iter()
        .flat_map(|table| changes.pair(table).deleted.iter().map(move |uri| (table, *uri)))
        .filter(|(_, uri)| !found.contains(uri));
    let records: Vec<(PairTable, &str, &str)> = records
        .filter_map(|(table, uri)| Some((table, uri, authority(uri)?)))
        .collect();
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let viewers: HashSet<&str> = records.iter().map(|(_, _, author)| *author).collect();
    let rows = Params::new()
        .texts(records.iter().map(|(_, uri, _)| *uri))
        .texts(records.iter().map(|(_, _, author)| *author))
        .bools(records.iter().map(|(table, _, _)| *table == PairTable::Bookmarks))
        .long(states_of_each(viewers.len()))
        .query(client, sql::PAIRS_FORGOTTEN)?;
    let mut gone = Vec::new();
    for row in &rows {
        let name: &str = row.get("table_name")?;
        if let Some(table) = counted.into_iter().find(|table| table.name() == name) {
            let (uri, author, subject) = (row.get("uri")?, row.get("key_a")?, row.get("key_b")?);
            gone.push(delete_forgotten_row(table, uri, author, subject, effects));
        }
    }
    Ok(gone)
}

/// Forgets deleted records. Returns their pairs, and the pairs of deleted rows for which other records wait.
pub fn take_rivals(client: &mut Client, deleted: &[&str], gone: &[DeletedRow]) -> Result<Freed, ApplyError> {
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
    let pairs: HashSet<_> = gone.iter().map(|row| (row.table, row.pair())).collect();
    let uris: HashSet<&str> = gone.iter().map(|row| row.uri.as_str()).collect();
    for row in &rows {
        let name: &str = row.get("table_name")?;
        let (key_a, key_b): (String, String) = (row.get("key_a")?, row.get("key_b")?);
        let forgotten: Option<String> = row.get("uri")?;
        // The holder precedes all waiting records. If another record was deleted, the position of the holder is
        // unknown.
        let held = forgotten.as_deref().is_some_and(|uri| uris.contains(uri));
        if let Some(table) = PairTable::of_name(name) {
            freed.entry(table).or_default().push(FreedPair {
                is_counted: pairs.contains(&(table, (&key_a, &key_b))),
                from: if held { row.position()? } else { Position::FIRST },
                forgotten,
                key_a,
                key_b,
            });
        }
    }
    Ok(freed)
}

/// Inserts the records that meet no existing row. Returns the others, with the rows and remembered records they meet.
pub fn insert<'e>(
    client: &mut Client,
    table: PairTable,
    rows: &[&'e PairRow<'e>],
    freed: Vec<FreedPair>,
    write_mode: WriteMode,
    fresh_states: Option<&FreshStates>,
    effects: &mut Effects<'e>,
) -> Result<Option<(Vec<&'e PairRow<'e>>, Conflicts)>, ApplyError> {
    let (fresh, mut others) = split_off_rivals(rows, &freed);
    if let Some(bulk) = templates::pair(table)
        .bulk
        .as_ref()
        .filter(|_| write_mode.copies(fresh.len()))
    {
        let (held, fresh) = match fresh_states.filter(|_| has_state(table)) {
            Some(states) => fresh
                .into_iter()
                .partition(|row| !states.contains(&row.key_b, &row.key_a)),
            None => split_off_held(client, bulk.held, fresh)?,
        };
        copy_rows(client, bulk.copy, table, &fresh)?;
        fresh.into_iter().for_each(|row| effects.pair_came(table, row));
        others.extend(held);
    } else if !fresh.is_empty() {
        let times = fresh.iter().map(|row| row.indexed_at);
        let returned = params(&fresh)
            .times(times)
            .query(client, templates::pair(table).insert)?;
        let inserted: HashSet<&str> = returned.iter().map(|row| row.get("uri")).collect::<Result<_, _>>()?;
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
    let conflicts = conflicts::read(client, table, &others, freed)?;
    Ok(Some((others, conflicts)))
}

/// Splits rows into those that can be inserted right away and those whose pair is known to have rivals. The first
/// group holds the first record of each pair in the batch. The second holds the later ones, and every record of a
/// freed pair.
fn split_off_rivals<'e>(rows: &[&'e PairRow<'e>], freed: &[FreedPair]) -> (Vec<&'e PairRow<'e>>, Vec<&'e PairRow<'e>>) {
    let mut first: HashMap<(&str, &str), Position> = HashMap::with_capacity(rows.len());
    for row in rows {
        let position = first.entry(row.pair()).or_insert(row.position);
        *position = row.position.min(*position);
    }
    let freed: HashSet<(&str, &str)> = freed.iter().map(FreedPair::pair).collect();
    rows.iter()
        .partition(|row| first.get(&row.pair()) == Some(&row.position) && !freed.contains(&row.pair()))
}
