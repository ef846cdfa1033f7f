//! Does what `plan` says about the pairs that records have met, and tells `effects`.

use std::borrow::Cow;
use std::collections::HashSet;

use postgres::Client;

use super::parameters::{params, sorted};
use super::plan::{Plan, plan};
use super::{Conflicts, FreedPair};
use crate::apply::effects::{Effects, pair_notification_uri};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::{sql, templates};
use crate::rows::pairs::{Foreign, PairValue};
use crate::rows::{PairRow, PairTable};

/// Settles who holds the pairs of the records that met something, and of the freed pairs.
pub fn settle<'e>(
    client: &mut Client,
    table: PairTable,
    items: &[&'e PairRow<'e>],
    conflicts: &'e Conflicts,
    effects: &mut Effects<'e>,
) -> Result<(), ApplyError> {
    let freed: Vec<(&str, &str)> = conflicts.freed.iter().map(FreedPair::pair).collect();
    let plan = plan(table, items, &conflicts.stored, &conflicts.remembered, &freed);
    let statements = templates::pair(table);
    take_back_freed(table, conflicts, effects);
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
    complete(table, conflicts, &plan, effects);
    if !plan.insert.is_empty() {
        let rows = sorted(&plan.insert);
        let times = conflicts.times_of(&rows);
        let inserted = params(&rows)
            .times(times.into_iter())
            .query(client, statements.insert)?
            .len();
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

/// Takes back what is left of pairs whose row the app has deleted, with nothing but the remembered records to tell of it,
/// and has their subjects counted anew: nobody knows whether the app counted.
fn take_back_freed<'e>(table: PairTable, conflicts: &'e Conflicts, effects: &mut Effects<'e>) {
    let held: HashSet<(&str, &str)> = conflicts.stored.iter().map(PairRow::pair).collect();
    for freed in conflicts.freed.iter().filter(|freed| !freed.is_counted) {
        if !held.contains(&freed.pair()) {
            effects.recount_pair(table, Cow::Borrowed(&freed.key_b));
            if let Some(uri) = &freed.forgotten {
                let key = |key: &'e String| Cow::Borrowed(key.as_str());
                effects.pair_is_not(table, key(uri), key(&freed.key_a), key(&freed.key_b));
            }
        }
    }
}

/// Adds what is missing of what rows of others cause that a record of their pair has met and that stay.
fn complete<'e>(table: PairTable, conflicts: &'e Conflicts, plan: &Plan<'e>, effects: &mut Effects<'e>) {
    let changed: HashSet<&str> = plan
        .delete
        .iter()
        .chain(plan.update.iter().map(|(old, _)| old))
        .map(|row| row.uri.as_ref())
        .collect();
    for row in conflicts.stored.iter().filter(|row| is_foreign(table, row)) {
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
    match table.info().foreign {
        Foreign::Never => false,
        Foreign::WithoutCommitSeq => row.commit_seq.is_none(),
        Foreign::Perhaps => true,
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
        params(&sorted(&rows)).execute(client, templates::pair(table).update)?;
    }
    Ok(())
}

/// Whether the stored row is what the record says: then there is nothing to write. Only what the table holds counts.
fn is_same(table: PairTable, old: &PairRow, new: &PairRow) -> bool {
    let has_cid = table.info().has(PairValue::Cid);
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
