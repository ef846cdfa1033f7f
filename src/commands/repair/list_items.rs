//! Removes list items that an account put into another account's list. With them, any account could add any other to a
//! list.

use super::{CHUNK, Key, Needs, Slice, Step, USUAL, find, repairing};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;

pub const STEP: Step = Step {
    name: "list_items",
    read,
    ..USUAL
};

/// The remembered records of pairs, which may be such items, or dated before the year 0100.
pub const REMEMBERED: Step = Step {
    name: "remembered",
    read: read_remembered,
    needs: Needs::OwnTables,
    ..USUAL
};

fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = find(client, sql::REPAIR_LIST_ITEMS_FIND, after, length)?;
    Slice::of(&rows, &["last_uri"], |row| row.get("uri"), String::clone, CHUNK, fix)
}

fn read_remembered(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = find(client, sql::REPAIR_REMEMBERED_FIND, after, length)?;
    Slice::of(
        &rows,
        &["last_uri"],
        |row| row.get("uri"),
        String::clone,
        CHUNK,
        fix_remembered,
    )
}

/// Deletes such items, and replaces them by items of the list's owner; returns how many were deleted.
fn fix(client: &mut Client, uris: &[String]) -> Result<u64, ApplyError> {
    repairing(client, |client| {
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

/// The same for remembered records. Those with only a wrong date get a new one.
fn fix_remembered(client: &mut Client, uris: &[String]) -> Result<u64, ApplyError> {
    let deleted = fix(client, uris)?;
    let dated = repairing(client, |client| {
        Params::new()
            .texts(uris.iter())
            .execute(client, sql::REPAIR_REMEMBERED_SET)
    })?;
    Ok(deleted + dated)
}
