//! Viewer states, made from the stored likes, reposts and bookmarks.
//!
//! Workers first write the states from which they remove something and then the others, so there is no single order of
//! locks. To avoid deadlocks, each transaction gives up a wait for a lock after a short time, and the caller repeats it.

use crate::job::yielding;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;

/// The key of a viewer state: post and viewer.
pub type Pair = (String, String);

/// Inserts empty states for pairs that have none. `pairs` is sorted.
pub fn make(client: &mut Client, pairs: &[Pair]) -> Result<(), ApplyError> {
    yielding(client, |client| params(pairs).execute(client, sql::STATES_MAKE))?;
    Ok(())
}

/// Sets the existing states of pairs from the rows; returns how many were wrong. `pairs` is sorted.
pub fn set(client: &mut Client, pairs: &[Pair]) -> Result<u64, ApplyError> {
    yielding(client, |client| {
        params(pairs).execute(client, sql::STATES_LOCK)?;
        params(pairs).execute(client, sql::STATES_SET)
    })
}

fn params(pairs: &[Pair]) -> Params<'_> {
    Params::new()
        .texts(pairs.iter().map(|(post_uri, _)| post_uri))
        .texts(pairs.iter().map(|(_, viewer_did)| viewer_did))
}
