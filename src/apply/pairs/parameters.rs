//! The parameters of pair-table statements.

use std::collections::HashSet;

use crate::postgres::client::Client;
use crate::postgres::copy::{Columns, copy};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql::Statement;
use crate::rows::pairs::{PairTableInfo, PairValue};
use crate::rows::{PairRow, PairTable};

/// Splits rows into those whose pair is held by another record, and the others.
pub(super) fn split_off_held<'e>(
    client: &mut Client,
    statement: Statement,
    rows: Vec<&'e PairRow<'e>>,
) -> Result<(Vec<&'e PairRow<'e>>, Vec<&'e PairRow<'e>>), ApplyError> {
    let answer = Params::new()
        .texts(rows.iter().map(|row| &row.key_a))
        .texts(rows.iter().map(|row| &row.key_b))
        .query(client, statement)?;
    let held = answer.iter().map(|row| Ok((row.get(0)?, row.get(1)?)));
    let held: HashSet<(&str, &str)> = held.collect::<Result<_, ApplyError>>()?;
    Ok(rows.into_iter().partition(|row| held.contains(&row.pair())))
}

pub(super) fn copy_rows(
    client: &mut Client,
    statement: Statement,
    table: PairTable,
    rows: &[&PairRow],
) -> Result<(), ApplyError> {
    let info = table.info();
    copy(client, statement, |writer| {
        rows.iter()
            .try_for_each(|row| writer.write(|columns| write_columns(columns, info, row)))
    })?;
    Ok(())
}

fn write_columns(columns: &mut Columns, info: &PairTableInfo, row: &PairRow) {
    columns.text(&row.uri).text(&row.key_a);
    if info.key_b.is_some() {
        columns.text(&row.key_b);
    }
    columns.time(row.created_at);
    for value in info.values {
        match value {
            PairValue::Cid => columns.text(&row.cid),
            PairValue::SubjectCid => columns.optional_text(row.subject_cid.as_deref()),
            PairValue::Via => columns.optional_json(row.via.as_deref()),
            PairValue::CommitSeq => columns.optional_text(row.commit_seq.as_deref()),
            PairValue::Handle => columns.optional_text(row.handle.as_deref()),
            PairValue::VerifiedAt => columns.optional_time(row.verified_at),
        };
    }
    columns.time(row.indexed_at);
}

pub(super) fn sorted<'e>(rows: &[&'e PairRow<'e>]) -> Vec<&'e PairRow<'e>> {
    let mut rows = rows.to_vec();
    rows.sort_unstable_by(|a, b| a.uri.cmp(&b.uri));
    rows
}

/// The parameters of an update. An insert has `indexed_at` as an additional last parameter.
pub(super) fn params<'p>(rows: &'p [&PairRow]) -> Params<'p> {
    let keys = Params::new()
        .texts(rows.iter().map(|row| &row.uri))
        .texts(rows.iter().map(|row| &row.key_a))
        .texts(rows.iter().map(|row| &row.key_b));
    values(keys, || rows.iter().copied())
}

/// Adds created_at and the values of `PairValue::ALL`.
pub(super) fn values<'p, R>(params: Params<'p>, rows: impl Fn() -> R) -> Params<'p>
where
    R: Iterator<Item = &'p PairRow<'p>>,
{
    params
        .times(rows().map(|row| row.created_at))
        .texts(rows().map(|row| &row.cid))
        .optional_texts(rows().map(|row| &row.subject_cid))
        .optional_jsons(rows().map(|row| &row.via))
        .optional_texts(rows().map(|row| &row.commit_seq))
        .optional_texts(rows().map(|row| &row.handle))
        .optional_times(rows().map(|row| row.verified_at))
}
