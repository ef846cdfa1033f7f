//! The tables of members and versions, as the thread `members` writes them.
//!
//! Owns which of these statements go behind the gate: those by which the members change.

use postgres::Client;

use crate::entry::EntryId;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;
use crate::runtime::heartbeat;

/// A row of `firehose_worker.members`.
#[derive(Clone)]
pub struct MemberRow {
    pub id: i64,
    pub consumer: String,
    /// The key in Redis that holds the mark while the process lives; empty if it may not keep one.
    pub lease_key: String,
    pub mark: String,
    pub has_left: bool,
}

/// Makes a process a member; returns all.
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

/// Takes members out that are gone.
pub fn remove(client: &mut Client, ids: &[i64]) -> Result<(), ApplyError> {
    behind_gate(client, |client| delete(client, ids))
}

/// Changes the key by which others see that a process lives.
pub fn prove(client: &mut Client, id: i64, lease_key: &str) -> Result<(), ApplyError> {
    Params::new()
        .long(id)
        .text(lease_key)
        .execute(client, sql::MEMBERS_PROVE)?;
    Ok(())
}

/// Ends the membership of a process that commits nothing more. Where there are others its row stays until what it may have
/// left pending is settled.
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

/// Tells the others that a member neither holds nor takes in an entry from before `floor`. Returns what it had told before, as
/// the server knows it; `None` if it is a member no more.
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

/// Deletes a slice of the versions that no member needs any more; how many.
pub fn prune(client: &mut Client) -> Result<u64, ApplyError> {
    Params::new().execute(client, sql::VERSIONS_PRUNE)
}

/// Runs `work` while no commit is between its look for members and its end.
fn behind_gate<T>(
    client: &mut Client,
    work: impl FnOnce(&mut Client) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    transaction(client, |client| {
        let waited = client.batch_execute(sql::MEMBERS_GATE.text);
        heartbeat::beat();
        waited.map_err(|source| ApplyError::of_statement(sql::MEMBERS_GATE, source))?;
        work(client)
    })
}
