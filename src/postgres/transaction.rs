//! Transactions with the worker's settings (sql/begin.sql).

use super::fault::ApplyError;
use super::sql;
use crate::postgres::client::Client;
use crate::runtime::heartbeat;

/// Runs `work` in a transaction with the worker's settings; rolled back if it fails.
pub fn transaction<T>(
    client: &mut Client,
    work: impl FnOnce(&mut Client) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    run(client, sql::BEGIN.text)?;
    match work(client) {
        Ok(value) => {
            run(client, "COMMIT")?;
            Ok(value)
        }
        Err(error) => {
            // If the rollback fails, the connection is broken: the pool drops it, and the server rolls back.
            let _ = client.batch_execute("ROLLBACK");
            Err(error)
        }
    }
}

/// Runs what begins, ends or divides a transaction.
pub fn run(client: &mut Client, text: &str) -> Result<(), ApplyError> {
    let result = client.batch_execute(text);
    heartbeat::beat();
    result.map_err(|source| ApplyError::of_statement(sql::BEGIN, source))
}
