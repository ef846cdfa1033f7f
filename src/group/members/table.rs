//! The tables of members and versions, as the thread `members` writes them.
//!
//! Owns which of these statements run behind the gate: those that change the set of members.

use crate::entry::EntryId;
use crate::group::members::gate::behind_gate;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;

/// A row of `firehose_worker.members`.
#[derive(Clone)]
pub struct MemberRow {
    pub id: i64,
    pub consumer: String,
    /// The key in Redis that holds the mark while the process lives; empty if the process has no such key.
    pub lease_key: String,
    pub mark: String,
    pub has_left: bool,
}

/// Makes a process a member, and returns all members.
pub fn join(client: &mut Client, me: &MemberRow) -> Result<Vec<MemberRow>, ApplyError> {
    behind_gate(client, |client| {
        Params::new()
            .long(me.id)
            .text(&me.consumer)
            .text(&me.lease_key)
            .text(&me.mark)
            .execute(client, sql::MEMBERS_JOIN)?;
        read(client)
    })
}

pub fn read(client: &mut Client) -> Result<Vec<MemberRow>, ApplyError> {
    let rows = Params::new().query(client, sql::MEMBERS_READ)?;
    let line = |row: &Row| {
        Ok(MemberRow {
            id: row.get("id")?,
            consumer: row.get("consumer")?,
            lease_key: row.get("lease_key")?,
            mark: row.get("mark")?,
            has_left: row.get("has_left")?,
        })
    };
    rows.iter().map(line).collect()
}

/// Removes dead members.
pub fn remove(client: &mut Client, ids: &[i64]) -> Result<(), ApplyError> {
    behind_gate(client, |client| delete(client, ids))
}

/// Changes the key that proves that a process is alive.
pub fn prove(client: &mut Client, id: i64, lease_key: &str) -> Result<(), ApplyError> {
    Params::new()
        .long(id)
        .text(lease_key)
        .execute(client, sql::MEMBERS_PROVE)?;
    Ok(())
}

/// Ends the membership of a process that commits nothing any longer. If there are other members, its row stays until
/// everything that it may have left pending is acknowledged.
pub fn leave(client: &mut Client, id: i64) -> Result<(), ApplyError> {
    behind_gate(client, |client| {
        if read(client)?.iter().any(|line| line.id != id) {
            Params::new().long(id).execute(client, sql::MEMBERS_LEAVE)?;
            return Ok(());
        }
        delete(client, &[id])
    })
}

fn delete(client: &mut Client, ids: &[i64]) -> Result<(), ApplyError> {
    Params::new()
        .longs(ids.iter().copied())
        .execute(client, sql::MEMBERS_REMOVE)?;
    Ok(())
}

/// Announces that a member neither holds nor accepts an entry from before `floor`. Returns the previous announcement as
/// the server knows it, or `None` if the process is no longer a member.
pub fn settle(client: &mut Client, id: i64, floor: EntryId) -> Result<Option<EntryId>, ApplyError> {
    let rows = Params::new()
        .long(id)
        .long(floor.ms as i64)
        .long(floor.n as i64)
        .query(client, sql::MEMBERS_SETTLE)?;
    rows.first()
        .map(|row| row.entry_id("settled_ms", "settled_n"))
        .transpose()
}

/// Deletes a slice of the versions that no member needs, and returns their number.
pub fn prune(client: &mut Client) -> Result<u64, ApplyError> {
    Params::new().execute(client, sql::VERSIONS_PRUNE)
}
