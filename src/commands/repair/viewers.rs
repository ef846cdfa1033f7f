//! Viewer states against the likes, reposts and bookmarks that they name.
//!
//! Workers write the states that they take parts out of before the others, so their locks have no one order: here
//! nobody waits for a lock for long, and a transaction that had to is done over.

use postgres::Client;

use super::{Key, Slice, Wrong};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql::{self, Statement};
use crate::postgres::transaction::transaction;

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
    slice(&rows, ["last_post_uri", "last_viewer_did"], Wrong::Stale)
}

/// Looks for likes, reposts or bookmarks that no state names.
pub fn read_rows(client: &mut Client, find: Statement, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = Params::new().text(&after[0]).long(length.into()).query(client, find)?;
    slice(&rows, ["last_uri"], Wrong::Missing)
}

fn slice<const N: usize>(
    rows: &[Row],
    key: [&str; N],
    wrong: fn(Vec<Pair>) -> Wrong,
) -> Result<Option<Slice>, ApplyError> {
    let Some(first) = rows.first() else { return Ok(None) };
    let last: Vec<Option<String>> = key.iter().map(|column| first.get(*column)).collect::<Result<_, _>>()?;
    let Some(last) = last.into_iter().collect::<Option<Key>>() else {
        return Ok(None);
    };
    let mut pairs: Vec<Pair> = Vec::new();
    for row in rows {
        if let (Some(post_uri), Some(viewer_did)) = (row.get("post_uri")?, row.get("viewer_did")?) {
            pairs.push((post_uri, viewer_did));
        }
    }
    pairs.sort_unstable();
    Ok(Some(Slice {
        last,
        looked_at: first.get::<_, i64>("n")? as u64,
        wrong: wrong(pairs),
    }))
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
