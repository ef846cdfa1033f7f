//! Viewer states against the likes, reposts and bookmarks that they name.
//!
//! Workers write the states that they take parts out of before the others, so their locks have no one order: here
//! nobody waits for a lock for long, and a transaction that had to is done over.

use postgres::Client;

use super::{Key, Needs, Slice, Step, USUAL};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql::{self, Statement};
use crate::postgres::transaction::transaction;

/// States that name a like, repost or bookmark that is not there.
pub const STALE: Step = Step {
    name: "viewer_states",
    key_columns: 2,
    read: read_states,
    ..USUAL
};

/// Likes that no state names.
pub const LIKES: Step = Step {
    name: "likes_without_state",
    read: |client, after, length| read_rows(client, sql::REPAIR_LIKES_FIND, after, length),
    needs: Needs::ViewerStates,
    ..USUAL
};

pub const REPOSTS: Step = Step {
    name: "reposts_without_state",
    read: |client, after, length| read_rows(client, sql::REPAIR_REPOSTS_FIND, after, length),
    ..LIKES
};

pub const BOOKMARKS: Step = Step {
    name: "bookmarks_without_state",
    read: |client, after, length| read_rows(client, sql::REPAIR_BOOKMARKS_FIND, after, length),
    ..LIKES
};

/// Post and viewer.
type Pair = (String, String);

/// States that share a transaction.
const CHUNK: usize = 1000;

fn read_states(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = Params::new()
        .text(&after[0])
        .text(&after[1])
        .long(length.into())
        .query(client, sql::REPAIR_STATES_FIND)?;
    Slice::of(
        &rows,
        &["last_post_uri", "last_viewer_did"],
        read_pair,
        describe,
        CHUNK,
        fix,
    )
}

fn read_rows(client: &mut Client, find: Statement, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = Params::new().text(&after[0]).long(length.into()).query(client, find)?;
    let fix = |client: &mut Client, pairs: &[Pair]| {
        make(client, pairs)?;
        fix(client, pairs)
    };
    Slice::of(&rows, &["last_uri"], read_pair, describe, CHUNK, fix)
}

fn read_pair(row: &Row) -> Result<Option<Pair>, ApplyError> {
    let (post, viewer): (Option<String>, Option<String>) = (row.get("post_uri")?, row.get("viewer_did")?);
    Ok(post.zip(viewer))
}

fn describe((post, viewer): &Pair) -> String {
    format!("{viewer} on {post}")
}

/// Makes empty states where pairs have none.
fn make(client: &mut Client, pairs: &[Pair]) -> Result<(), ApplyError> {
    transaction(client, |client| {
        Params::new().query(client, sql::REPAIR_YIELD)?;
        params(pairs).execute(client, sql::REPAIR_STATES_MAKE)
    })?;
    Ok(())
}

/// Sets the states of pairs from what is there; returns how many were wrong until then.
fn fix(client: &mut Client, pairs: &[Pair]) -> Result<u64, ApplyError> {
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
