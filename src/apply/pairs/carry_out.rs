//! Carries out the `plan` for the pairs whose records conflict, and reports the changes to `effects`.

use std::borrow::Cow;
use std::collections::HashSet;

use super::parameters::{params, sorted, values};
use super::plan::{Plan, plan};
use super::{Conflicts, FreedPair};
use crate::apply::effects::{Effects, pair_notification_uri};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::{sql, templates};
use crate::rows::pairs::{ForeignWhen, PairValue};
use crate::rows::{PairRow, PairTable};

/// Decides who holds the pairs of the conflicting records and the freed pairs, and writes the result.
pub fn carry_out<'e>(
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

/// Reverts the remaining side effects of pairs whose row the AppView has deleted; only the remembered records reveal
/// these pairs. Their subjects are recounted, because whether the AppView adjusted the counters is unknown.
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

/// Completes the side effects of foreign rows that a record of their pair met and that stay.
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

/// Whether another program may have written the row. Such a row may not be counted, and some of its side effects may
/// be missing. A missing commit_seq identifies it. Bookmarks have no commit_seq, so each of them may be foreign. Rows
/// of the other tables have no side effects.
fn is_foreign(table: PairTable, row: &PairRow) -> bool {
    match table.info().foreign {
        ForeignWhen::Never => false,
        ForeignWhen::WithoutCommitSeq => row.commit_seq.is_none(),
        ForeignWhen::Always => true,
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
        // Also needed if the row stays as it is. Its CID may be new, but the table has no column for it and only the
        // side effects store it. A foreign row may lack some of its side effects.
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

/// Whether the stored row already has the record's values, as far as the table stores them. Then nothing is written.
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

/// Compares JSON texts. One of them was stored as jsonb, which has its own key order and spacing.
fn is_same_json(old: Option<&str>, new: Option<&str>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            // If serde_json refuses a text as nested too deeply, the texts count as different. The row is then written
            // again, which does no harm.
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
    let positions = || records.iter().map(|(_, position)| position);
    let keys = Params::new()
        .texts(rows().map(|row| &row.uri))
        .text(table.name())
        .texts(rows().map(|row| &row.key_a))
        .texts(rows().map(|row| &row.key_b))
        .longs(positions().map(|position| position.entry.ms as i64))
        .longs(positions().map(|position| position.entry.n as i64))
        .ints(positions().map(|position| position.op as i32));
    values(keys, rows).execute(client, sql::RIVALS_UPSERT)?;
    Ok(())
}
