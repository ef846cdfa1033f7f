//! The privileges that a job needs, so that all missing ones are reported at the start instead of after hours.

use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

/// A table and a privilege on it.
pub type Privilege = (&'static str, &'static str);

/// The privileges for `Hold`.
pub const OF_HOLD: [Privilege; 4] = [
    ("firehose_worker.progress", "SELECT"),
    ("firehose_worker.progress", "INSERT"),
    ("firehose_worker.progress", "UPDATE"),
    ("firehose_worker.progress", "DELETE"),
];

/// The privileges that the role lacks, with the remedy. `job` is the verb of what needs them.
pub fn lacking(client: &mut Client, needed: &[Privilege], job: &str) -> Result<Option<String>, ApplyError> {
    let rows = transaction(client, |client| {
        Params::new()
            .texts(needed.iter().map(|(table, _)| *table))
            .texts(needed.iter().map(|(_, privilege)| *privilege))
            .query(client, sql::JOB_RIGHTS)
    })?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (role, lacks): (&str, Option<&str>) = (row.get(0)?, row.get(1)?);
    Ok(lacks.map(|lacks| {
        format!("the role {role} lacks {lacks}; GRANT them, or {job} as the role that the worker runs as")
    }))
}
