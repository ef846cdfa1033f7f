//! List items that somebody else than the list's owner wrote: anybody could put anybody on a list with them.

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
        .query(client, sql::REPAIR_LIST_ITEMS_FIND)?;
    sliced(&rows, "last_uri", |row| row.get("uri"), Wrong::ListItems)
}

/// Looks at the records that wait for a pair's row: they may be such items, or dated before the year 0100.
pub fn read_remembered(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = Params::new()
        .text(&after[0])
        .long(length.into())
        .query(client, sql::REPAIR_REMEMBERED_FIND)?;
    sliced(&rows, "last_uri", |row| row.get("uri"), Wrong::Remembered)
}

/// Deletes such items, and has the owner's own items take their places; answers how many were deleted.
pub fn mend(client: &mut Client, uris: &[String]) -> Result<u64, ApplyError> {
    transaction(client, |client| {
        Params::new().query(client, sql::REPAIR_YIELD)?;
        Params::new().execute(client, sql::REPAIR_LIST_ITEMS_LOCK)?;
        let gone = Params::new()
            .texts(uris.iter())
            .query(client, sql::REPAIR_LIST_ITEMS_DELETE)?;
        let mut pairs: Vec<(String, String)> = Vec::new();
        for row in &gone {
            if let (Some(list), Some(subject)) = (row.get("key_a")?, row.get("key_b")?) {
                pairs.push((list, subject));
            }
        }
        if !pairs.is_empty() {
            Params::new()
                .texts(pairs.iter().map(|(list, _)| list))
                .texts(pairs.iter().map(|(_, subject)| subject))
                .execute(client, sql::REPAIR_LIST_ITEMS_INSERT)?;
        }
        Ok(gone.len() as u64)
    })
}

/// The same for remembered records; those that are only dated wrong are dated anew.
pub fn mend_remembered(client: &mut Client, uris: &[String]) -> Result<u64, ApplyError> {
    let deleted = mend(client, uris)?;
    let dated = transaction(client, |client| {
        Params::new().query(client, sql::REPAIR_YIELD)?;
        Params::new()
            .texts(uris.iter())
            .execute(client, sql::REPAIR_REMEMBERED_SET)
    })?;
    Ok(deleted + dated)
}
