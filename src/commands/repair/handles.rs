//! Corrects handles that several users have, and removes texts that are not handles.
//!
//! The rows do not show which user owns a handle, because they do not record when it was assigned. The newest user
//! keeps it: a handle that moves usually moves to an account that was created for it.

use super::{CHUNK, Key, Slice, Step, USUAL, find, repairing};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;

pub const STEP: Step = Step {
    name: "handles",
    read,
    not_known: Some("who owns a handle: the newest user keeps it until an identity event assigns it to another"),
    ..USUAL
};

fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = find(client, sql::REPAIR_HANDLES_FIND, after, length)?;
    Slice::of(
        &rows,
        &["last_handle"],
        |row| row.get("handle"),
        String::clone,
        CHUNK,
        fix,
    )
}

/// Removes handles from all but one of their users; returns how many users lost one.
fn fix(client: &mut Client, handles: &[String]) -> Result<u64, ApplyError> {
    repairing(client, |client| {
        Params::new()
            .texts(handles.iter())
            .execute(client, sql::REPAIR_HANDLES_SET)
    })
}
