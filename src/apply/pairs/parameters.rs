//! The parameters of pair-table statements.

use std::collections::HashSet;

use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::{ToSql, Type};

use crate::apply::copy::copy;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::{JsonText, Params, Timestamp};
use crate::postgres::sql::Statement;
use crate::rows::keyed::Kind;
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
    let kind = |value: &PairValue| match value.kind() {
        Kind::Text => Type::TEXT,
        Kind::Json => Type::JSONB,
        Kind::Bool => Type::BOOL,
        Kind::Time => Type::TIMESTAMP,
    };
    let mut types = vec![Type::TEXT; if info.key_b.is_some() { 3 } else { 2 }];
    types.push(Type::TIMESTAMP);
    types.extend(info.values.iter().map(kind));
    types.push(Type::TIMESTAMP);
    copy(client, statement, &types, |writer| {
        rows.iter().try_for_each(|row| copy_row(writer, info, row))
    })?;
    Ok(())
}

fn copy_row(writer: &mut BinaryCopyInWriter, info: &PairTableInfo, row: &PairRow) -> Result<(), postgres::Error> {
    let (created_at, indexed_at) = (Timestamp(row.created_at), Timestamp(row.indexed_at));
    let via = row.via.as_deref().map(JsonText);
    let verified_at = row.verified_at.map(Timestamp);
    let mut values: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(info.values.len() + 5);
    values.extend([&row.uri as &(dyn ToSql + Sync), &row.key_a]);
    values.extend(info.key_b.map(|_| &row.key_b as &(dyn ToSql + Sync)));
    values.push(&created_at);
    values.extend(info.values.iter().map(|value| match value {
        PairValue::Cid => &row.cid as &(dyn ToSql + Sync),
        PairValue::SubjectCid => &row.subject_cid,
        PairValue::Via => &via,
        PairValue::CommitSeq => &row.commit_seq,
        PairValue::Handle => &row.handle,
        PairValue::VerifiedAt => &verified_at,
    }));
    values.push(&indexed_at);
    writer.write(&values)
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
