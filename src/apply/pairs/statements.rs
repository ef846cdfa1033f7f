//! The statements of each table of pairs, and their parameters.

use std::collections::HashSet;

use postgres::Client;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;

use crate::apply::copy::copy;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::{JsonText, Params, Timestamp};
use crate::postgres::sql::{self, Statement};
use crate::rows::{PairRow, PairTable};

pub(super) struct Statements {
    pub(super) insert: Statement,
    pub(super) existing: Statement,
    pub(super) update: Statement,
    pub(super) delete: Statement,
}

pub(super) fn statements(table: PairTable) -> Statements {
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
pub(super) struct Bulk {
    pub(super) held: Statement,
    pub(super) copy: Statement,
}

pub(super) fn bulk(table: PairTable) -> Option<Bulk> {
    let of = |held, copy| Some(Bulk { held, copy });
    match table {
        PairTable::Likes => of(sql::LIKES_HELD, sql::LIKES_COPY),
        PairTable::Reposts => of(sql::REPOSTS_HELD, sql::REPOSTS_COPY),
        PairTable::Follows => of(sql::FOLLOWS_HELD, sql::FOLLOWS_COPY),
        _ => None,
    }
}

/// The rows whose pair another record holds, and the others.
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
    const TYPES: [Type; 8] = [
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMP,
        Type::TEXT,
        Type::JSONB,
        Type::TEXT,
        Type::TIMESTAMP,
    ];
    // Follows have no subject_cid and no via.
    const FOLLOW_TYPES: [Type; 6] = [
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMP,
        Type::TEXT,
        Type::TIMESTAMP,
    ];
    let write = |row: &PairRow, writer: &mut BinaryCopyInWriter| {
        let (created_at, indexed_at) = (Timestamp(row.created_at), Timestamp(row.indexed_at));
        if table == PairTable::Follows {
            return writer.write(&[
                &row.uri,
                &row.key_a,
                &row.key_b,
                &created_at,
                &row.commit_seq,
                &indexed_at,
            ]);
        }
        let via = row.via.as_deref().map(JsonText);
        writer.write(&[
            &row.uri,
            &row.key_a,
            &row.key_b,
            &created_at,
            &row.subject_cid,
            &via,
            &row.commit_seq,
            &indexed_at,
        ])
    };
    let types = if table == PairTable::Follows {
        &FOLLOW_TYPES[..]
    } else {
        &TYPES[..]
    };
    copy(client, statement, types, |writer| {
        rows.iter().try_for_each(|row| write(row, writer))
    })?;
    Ok(())
}

pub(super) fn sorted<'e>(rows: &[&'e PairRow<'e>]) -> Vec<&'e PairRow<'e>> {
    let mut rows = rows.to_vec();
    rows.sort_unstable_by(|a, b| a.uri.cmp(&b.uri));
    rows
}

/// The parameters of an update, and of an insert but for the last.
pub(super) fn params<'p>(rows: &'p [&PairRow]) -> Params<'p> {
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
