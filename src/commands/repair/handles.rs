//! Handles that several users have, and what is stored as one and is none.
//!
//! Whose a handle is nobody can tell from the rows: they do not say when it was given. It is left to the newest of its
//! users, since a handle that moves mostly moves to an account that is made for it.

use postgres::Client;

use super::{CHUNK, Key, Slice, Step, USUAL};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

pub const STEP: Step = Step {
    name: "handles",
    read,
    not_known: Some("whose a handle is: the newest of its users keeps it, until an identity event gives it to another"),
    ..USUAL
};

fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = Params::new()
        .text(&after[0])
        .long(length.into())
        .query(client, sql::REPAIR_HANDLES_FIND)?;
    Slice::of(
        &rows,
        &["last_handle"],
        |row| row.get("handle"),
        String::clone,
        CHUNK,
        fix,
    )
}

/// Takes handles from all but one of their users; returns how many users lost one.
fn fix(client: &mut Client, handles: &[String]) -> Result<u64, ApplyError> {
    transaction(client, |client| {
        Params::new().query(client, sql::REPAIR_YIELD)?;
        Params::new()
            .texts(handles.iter())
            .execute(client, sql::REPAIR_HANDLES_SET)
    })
}
