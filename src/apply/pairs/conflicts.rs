//! The existing rows that conflict with records that could not simply be inserted.
//!
//! Owns the reading of stored rows and remembered records of a pair table.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::plan::Pair;
use super::{FreedPair, take_rivals};
use crate::apply::effects::authority;
use crate::entry::Position;
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::{sql, templates};
use crate::rows::{PairRow, PairTable};

/// The rows and remembered records that conflict with records of the batch. Outlives the batch's effects, which borrow
/// from it.
pub struct Conflicts {
    pub(super) stored: Vec<PairRow<'static>>,
    pub(super) remembered: Vec<PairRow<'static>>,
    pub(super) freed: Vec<FreedPair>,
}

impl Conflicts {
    /// The rows as the table stores them. The table does not store their positions.
    pub fn stored_rows(&mut self) -> impl Iterator<Item = &mut PairRow<'static>> {
        self.stored.iter_mut()
    }

    /// The remembered records, each of which may get a row.
    pub fn remembered_rows(&mut self) -> impl Iterator<Item = &mut PairRow<'static>> {
        self.remembered.iter_mut()
    }

    /// The `indexed_at` of rows to insert. A row that already exists under another pair keeps its time.
    pub(super) fn times_of(&self, rows: &[&PairRow]) -> Vec<Micros> {
        let stored: HashMap<&str, Micros> = self
            .stored
            .iter()
            .map(|row| (row.uri.as_ref(), row.indexed_at))
            .collect();
        rows.iter()
            .map(|row| stored.get(row.uri.as_ref()).copied().unwrap_or(row.indexed_at))
            .collect()
    }
}

pub(super) fn read(
    client: &mut Client,
    table: PairTable,
    items: &[&PairRow],
    freed: Vec<FreedPair>,
) -> Result<Conflicts, ApplyError> {
    let put: HashSet<&str> = items.iter().map(|item| item.uri.as_ref()).collect();
    let mut pairs: BTreeSet<Pair> = items.iter().map(|item| item.pair()).collect();
    pairs.extend(freed.iter().map(FreedPair::pair));
    let stored = read_stored(client, table, &put, &pairs)?;
    let of_stored = stored.iter().map(|row| row.uri.as_ref());
    let known: HashSet<&str> = put.iter().copied().chain(of_stored).collect();
    let mut remembered = read_remembered(client, table, &known)?;
    pairs.extend(stored.iter().map(PairRow::pair));
    let open = open_pairs(table, pairs, &put, &stored, &remembered, &freed);
    let waiting = read_waiting(client, table, &open, &known)?;
    remembered.extend(waiting);
    Ok(Conflicts {
        stored,
        remembered,
        freed,
    })
}

type Rows = Vec<PairRow<'static>>;

/// The pairs whose row may go to a waiting record, each with a position before which no record waits. A holder that
/// the batch does not put again precedes all waiting records. A freed pair is always included, so that the opt-outs of
/// its waiting records are read.
fn open_pairs<'m>(
    table: PairTable,
    pairs: BTreeSet<Pair<'m>>,
    put: &HashSet<&str>,
    stored: &'m [PairRow],
    remembered: &[PairRow],
    freed: &'m [FreedPair],
) -> Vec<(Pair<'m>, Position)> {
    let holders: HashMap<Pair, &PairRow> = stored.iter().map(|row| (row.pair(), row)).collect();
    let positions: HashMap<(&str, Pair), Position> = remembered
        .iter()
        .map(|row| ((row.uri.as_ref(), row.pair()), row.position))
        .collect();
    let freed: HashMap<Pair, Position> = freed.iter().map(|freed| (freed.pair(), freed.from)).collect();
    let position = |pair: Pair<'m>| match holders.get(&pair).filter(|holder| table.admits(holder)) {
        None => Some(freed.get(&pair).copied().unwrap_or(Position::FIRST)),
        Some(holder) => {
            let is_open = put.contains(holder.uri.as_ref()) || freed.contains_key(&pair);
            let position = positions.get(&(holder.uri.as_ref(), pair)).copied();
            is_open.then_some(position.unwrap_or(Position::FIRST))
        }
    };
    pairs
        .into_iter()
        .filter_map(|pair| Some((pair, position(pair)?)))
        .collect()
}

/// The number of records read for each pair at first: the holder, which is remembered too, and the next one.
const FIRST_READ: usize = 2;

/// The maximum number of records read for one pair, in addition to those the batch knows, if the first ones no longer
/// wait.
const LARGEST_READ: usize = 1000;

/// The maximum number of records read at once, to bound memory.
const MAX_ROWS: usize = 10_000;

/// Returns the first record of each pair that waits for the row. Records before it that no longer wait are forgotten,
/// so that they are not read again.
fn read_waiting(
    client: &mut Client,
    table: PairTable,
    open: &[(Pair, Position)],
    known: &HashSet<&str>,
) -> Result<Rows, ApplyError> {
    let mut open = open.to_vec();
    let mut found = Vec::new();
    let mut limit = FIRST_READ;
    while !open.is_empty() {
        let mut rest = Vec::new();
        for pairs in open.chunks((MAX_ROWS / limit).max(1)) {
            let rows = read_first(client, table, pairs, limit)?;
            let mut numbers: HashMap<Pair, usize> = HashMap::new();
            rows.iter().for_each(|row| *numbers.entry(row.pair()).or_default() += 1);
            let may_have_more: Vec<_> = pairs
                .iter()
                .filter(|(pair, _)| numbers.get(pair) == Some(&limit))
                .copied()
                .collect();
            let unknown = rows.into_iter().filter(|row| !known.contains(row.uri.as_ref()));
            let waiting = forget_idle(client, table, unknown.collect())?;
            let served: HashSet<Pair> = waiting.iter().map(PairRow::pair).collect();
            rest.extend(may_have_more.into_iter().filter(|(pair, _)| !served.contains(pair)));
            found.extend(waiting);
        }
        open = rest;
        // Rows that the batch knows are read again each time, so the limit must exceed their number.
        limit = (limit * 8).min(known.len() + LARGEST_READ);
    }
    Ok(found)
}

/// Forgets records that no longer wait, and returns the others. A record no longer waits if it now has a row under
/// another pair, if the table does not admit it, or if its repo forbids data collection. Deletes of an opted-out repo
/// still apply, but must not create rows.
fn forget_idle(client: &mut Client, table: PairTable, rows: Rows) -> Result<Rows, ApplyError> {
    if rows.is_empty() {
        return Ok(rows);
    }
    let uris: HashSet<&str> = rows.iter().map(|row| row.uri.as_ref()).collect();
    let elsewhere = read_stored(client, table, &uris, &BTreeSet::new())?;
    let elsewhere: HashSet<&str> = elsewhere.iter().map(|row| row.uri.as_ref()).collect();
    let repos: BTreeSet<&str> = rows.iter().filter_map(|row| authority(&row.uri)).collect();
    let answer = Params::new().texts(repos.into_iter()).query(client, sql::OPT_OUTS)?;
    let forbidden: HashSet<&str> = answer.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    let is_idle = |row: &PairRow| {
        let is_forbidden = authority(&row.uri).is_some_and(|repo| forbidden.contains(repo));
        is_forbidden || elsewhere.contains(row.uri.as_ref()) || !table.admits(row)
    };
    let (idle, waiting): (Rows, Rows) = rows.into_iter().partition(is_idle);
    let mut uris: Vec<&str> = idle.iter().map(|row| row.uri.as_ref()).collect();
    uris.sort_unstable();
    take_rivals(client, &uris, &[])?;
    Ok(waiting)
}

/// Reads and locks the rows with one of the URIs or of the pairs.
pub fn read_stored(
    client: &mut Client,
    table: PairTable,
    uris: &HashSet<&str>,
    pairs: &BTreeSet<Pair>,
) -> Result<Rows, ApplyError> {
    let rows = Params::new()
        .texts(uris.iter().copied())
        .texts(pairs.iter().map(|(a, _)| *a))
        .texts(pairs.iter().map(|(_, b)| *b))
        .query(client, templates::pair(table).existing)?;
    let read = |row: &Row| {
        Ok(PairRow {
            indexed_at: row.get("indexed_at")?,
            ..read_row(row, Position::FIRST)?
        })
    };
    rows.iter().map(read).collect()
}

fn read_remembered(client: &mut Client, table: PairTable, uris: &HashSet<&str>) -> Result<Rows, ApplyError> {
    let rows = Params::new()
        .texts(uris.iter().copied())
        .text(table.name())
        .query(client, sql::RIVALS_EXISTING)?;
    rows.iter().map(|row| read_row(row, row.position()?)).collect()
}

fn read_first(
    client: &mut Client,
    table: PairTable,
    pairs: &[(Pair, Position)],
    limit: usize,
) -> Result<Rows, ApplyError> {
    let positions = || pairs.iter().map(|(_, position)| position);
    let rows = Params::new()
        .text(table.name())
        .texts(pairs.iter().map(|((a, _), _)| *a))
        .texts(pairs.iter().map(|((_, b), _)| *b))
        .longs(positions().map(|position| position.entry.ms as i64))
        .longs(positions().map(|position| position.entry.n as i64))
        .ints(positions().map(|position| position.op as i32))
        .long(limit as i64)
        .query(client, sql::RIVALS_WAITING)?;
    rows.iter().map(|row| read_row(row, row.position()?)).collect()
}

/// The row's values without `indexed_at`. Remembered records have none until `apply::page_keys` assigns it.
fn read_row(row: &Row, position: Position) -> Result<PairRow<'static>, ApplyError> {
    let text = |name| Ok(row.get::<_, Option<String>>(name)?.map(Cow::Owned));
    Ok(PairRow {
        uri: text("uri")?.unwrap_or_default(),
        key_a: text("key_a")?.unwrap_or_default(),
        key_b: text("key_b")?.unwrap_or_default(),
        created_at: row.get("created_at")?,
        indexed_at: Micros(0),
        cid: text("cid")?.unwrap_or_default(),
        subject_cid: text("subject_cid")?,
        via: text("via")?,
        commit_seq: text("commit_seq")?,
        handle: text("handle")?,
        verified_at: row.get::<_, Option<Micros>>("verified_at")?,
        position,
    })
}
