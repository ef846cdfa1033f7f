//! What the jobs share that walk through whole tables beside running workers, such as `commands::repair`.
//!
//! Owns how such a job waits for servers, gives way to workers, and is taken over by another process.

mod hold;
mod rights;

use postgres::error::SqlState;

pub use hold::Hold;
pub use rights::{OF_HOLD, Privilege};

use crate::postgres::client::Client;
use crate::postgres::db::{self, Db};
use crate::postgres::fault::{ApplyError, Fault};
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;
use crate::runtime::retry::Backoff;
use crate::runtime::shutdown::Stop;

/// Attempts before a job fails because tables are missing: a worker may be creating its own tables at that moment.
const READY_TRIES: u32 = 5;

/// Attempts before a retry is logged: a lock that times out is usually free the next time.
const QUIET_TRIES: u32 = 5;

/// A job's connection.
pub struct Job {
    pub db: Db,
    pub stop: Stop,
    /// The job's name, which is also the verb for what it does.
    pub name: &'static str,
    /// What to do about a statement that takes too long.
    pub if_slow: &'static str,
}

impl Job {
    /// Fails if tables or privileges are missing. Without `writes`, the worker's own tables are neither needed nor
    /// created.
    pub fn check_ready(&self, writes: bool, needed: &[Privilege]) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        let mut tries = 0;
        while writes && let Some(missing) = self.attempt(db::missing)? {
            tries += 1;
            if tries == READY_TRIES {
                anyhow::bail!(missing);
            }
            backoff.wait(&self.stop)?;
        }
        match self.attempt(|client| rights::lacking(client, needed, self.name))? {
            Some(lacking) => Err(anyhow::anyhow!(lacking)),
            None => Ok(()),
        }
    }

    /// Calls `work` until it succeeds, for as long as a retry can help.
    pub fn attempt<T>(&self, mut work: impl FnMut(&mut Client) -> Result<T, ApplyError>) -> anyhow::Result<T> {
        let mut backoff = Backoff::default();
        let mut tries = 0;
        loop {
            let error = match self.db.with(&mut work) {
                Ok(value) => {
                    self.db.report_up();
                    return Ok(value);
                }
                Err(error) => error,
            };
            if error.sqlstate() == Some(&SqlState::QUERY_CANCELED) {
                anyhow::bail!("{}; {}", error.describe(), self.if_slow);
            }
            if matches!(error, ApplyError::TakenOver) {
                return Err(error.into());
            }
            if error.fault() != Fault::Transient {
                anyhow::bail!(error.describe());
            }
            tries += 1;
            // The pool reports a server that is down.
            if tries == QUIET_TRIES && error.sqlstate().is_some() {
                log::warn!("{}; retrying", error.describe());
            }
            backoff.wait(&self.stop)?;
        }
    }
}

/// Runs `work` in a transaction that fails after a short wait for a lock, so that the job gives way to workers.
pub fn yielding<T>(
    client: &mut Client,
    work: impl FnOnce(&mut Client) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    transaction(client, |client| {
        Params::new().query(client, sql::JOB_YIELD)?;
        work(client)
    })
}
