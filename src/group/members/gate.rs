//! The gate between a transaction's last check and its commit.
//!
//! Owns the exclusive side: what every later commit must know is changed while the gate is closed. `member` owns the
//! shared side, which each transaction passes with its check.

use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;
use crate::runtime::heartbeat;

/// Runs `work` while no transaction is between its check and its commit.
pub fn behind_gate<T>(
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
