//! Viewer states against the likes, reposts and bookmarks that they name.
//!
//! Workers write the states that they take parts out of before the others, so their locks have no one order: here
//! nobody waits for a lock for long, and a transaction that had to is done over.

use postgres::{Client, Row};

use super::{Key, Slice, Wrong};
use crate::apply::params::Params;
use crate::apply::transaction;
use crate::servers::fault::ApplyError;
use crate::servers::sql::{self, Statement};

/// Post and viewer.
pub type Pair = (String, String);

/// States that share a transaction.
pub const CHUNK: usize = 1000;

/// Looks for states that name what is not there.
pub fn read_states(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = Params::new()
        .text(&after[0])
        .text(&after[1])
        .long(length.into())
        .query(client, sql::REPAIR_STATES_FIND)?;
    Ok(slice(&rows, ["last_post_uri", "last_viewer_did"], Wrong::Stale))
}

/// Looks for likes, reposts or bookmarks that no state names.
pub fn read_rows(client: &mut Client, find: Statement, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = Params::new().text(&after[0]).long(length.into()).query(client, find)?;
    Ok(slice(&rows, ["last_uri"], Wrong::Missing))
}

fn slice<const N: usize>(rows: &[Row], key: [&str; N], wrong: fn(Vec<Pair>) -> Wrong) -> Option<Slice> {
    let first = rows.first()?;
    let last: Option<Key> = key
        .iter()
        .map(|column| first.get::<_, Option<String>>(*column))
        .collect();
    let pair = |row: &Row| {
        Some((
            row.get::<_, Option<String>>("post_uri")?,
            row.get::<_, Option<String>>("viewer_did")?,
        ))
    };
    let mut pairs: Vec<Pair> = rows.iter().filter_map(pair).collect();
    pairs.sort_unstable();
    Some(Slice {
        last: last?,
        looked_at: first.get::<_, i64>("n") as u64,
        wrong: wrong(pairs),
    })
}

/// Makes empty states where pairs have none.
pub fn make(client: &mut Client, pairs: &[Pair]) -> Result<(), ApplyError> {
    transaction(client, |client| {
        Params::new().query(client, sql::REPAIR_YIELD)?;
        params(pairs).execute(client, sql::REPAIR_STATES_MAKE)
    })?;
    Ok(())
}

/// Sets the states of pairs from what is there; answers how many were wrong until then.
pub fn mend(client: &mut Client, pairs: &[Pair]) -> Result<u64, ApplyError> {
    transaction(client, |client| {
        Params::new().query(client, sql::REPAIR_YIELD)?;
        params(pairs).execute(client, sql::REPAIR_STATES_LOCK)?;
        params(pairs).execute(client, sql::REPAIR_STATES_SET)
    })
}

fn params(pairs: &[Pair]) -> Params<'_> {
    Params::new()
        .texts(pairs.iter().map(|(post_uri, _)| post_uri))
        .texts(pairs.iter().map(|(_, viewer_did)| viewer_did))
}
