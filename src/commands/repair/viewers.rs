//! Corrects viewer states from the likes, reposts and bookmarks that they name.

use super::{Key, Needs, Slice, Step, USUAL, find};
use crate::fill::states::{self, Pair};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::row::Row;
use crate::postgres::sql::{self, Statement};

/// States that name a like, repost or bookmark that does not exist.
pub const STALE: Step = Step {
    name: "viewer_states",
    key_columns: 2,
    read: read_states,
    ..USUAL
};

/// Likes that their viewer state does not name.
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

/// The number of states in a transaction.
const CHUNK: usize = 1000;

fn read_states(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = find(client, sql::REPAIR_STATES_FIND, after, length)?;
    Slice::of(
        &rows,
        &["last_post_uri", "last_viewer_did"],
        read_pair,
        describe,
        CHUNK,
        states::set,
    )
}

fn read_rows(client: &mut Client, statement: Statement, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = find(client, statement, after, length)?;
    let fix = |client: &mut Client, pairs: &[Pair]| {
        states::make(client, pairs)?;
        states::set(client, pairs)
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
