//! What records that could not simply be inserted meet in the database.
//!
//! Owns the reading of stored rows and remembered records of a table of pairs.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use postgres::{Client, Row};

use super::statements::statements;
use super::{FreedPair, take_rivals};
use crate::apply::effects::authority;
use crate::apply::params::Params;
use crate::decode::time::Micros;
use crate::entry::{EntryId, Position};
use crate::rows::{PairRow, PairTable};
use crate::servers::fault::ApplyError;
use crate::servers::sql;

/// What a record that could not simply be inserted meets in the database. Outlives the batch's effects.
pub struct Met {
    pub(super) stored: Vec<PairRow<'static>>,
    pub(super) remembered: Vec<PairRow<'static>>,
    pub(super) freed: Vec<FreedPair>,
}

impl Met {
    /// The rows as the table holds them, which does not tell their places.
    pub fn stored_rows(&mut self) -> impl Iterator<Item = &mut PairRow<'static>> {
        self.stored.iter_mut()
    }
}

pub(super) fn read(
    client: &mut Client,
    table: PairTable,
    items: &[&PairRow],
    freed: Vec<FreedPair>,
) -> Result<Met, ApplyError> {
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
