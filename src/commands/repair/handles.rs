//! Handles that several users have, and what is stored as one and is none.
//!
//! Whose a handle is nobody can tell from the rows: they do not say when it was given. It is left to the newest of its
//! users, since a handle that moves mostly moves to an account that is made for it.

use postgres::Client;

use super::{Key, Slice, Wrong, sliced};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

pub fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = Params::new()
        .text(&after[0])
        .long(length.into())
        .query(client, sql::REPAIR_HANDLES_FIND)?;
    sliced(&rows, "last_handle", |row| row.get("handle"), Wrong::Handles)
}

/// Takes handles from all but one of their users; answers how many users lost one.
pub fn mend(client: &mut Client, handles: &[String]) -> Result<u64, ApplyError> {
    transaction(client, |client| {
        Params::new().query(client, sql::REPAIR_YIELD)?;
        Params::new()
            .texts(handles.iter())
            .execute(client, sql::REPAIR_HANDLES_SET)
    })
}
