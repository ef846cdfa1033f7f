//! A process's hold on a job.
//!
//! Owns the rows of `firehose_worker.progress`, one for each unfinished job. The process that wrote its name there last
//! is the one that works on the job; an earlier one finds another name when it saves, and stops. This needs no lease,
//! so that the next start after a kill continues at once.

use postgres::Client;

use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

pub struct Hold {
    job: &'static str,
    runner: String,
}

impl Hold {
    pub fn new(job: &'static str) -> Hold {
        Hold {
            job,
            runner: format!(
                "{} process {} mark {:x}",
                crate::runtime::host::name(),
                std::process::id(),
                fastrand::u64(..)
            ),
        }
    }

    /// Makes this process the one that works on the job. Returns the stored state; that of a new job is `new`.
    pub fn take(&self, client: &mut Client, new: &str) -> Result<String, ApplyError> {
        let rows = transaction(client, |client| {
            Params::new()
                .text(self.job)
                .text(&self.runner)
                .json(new)
                .query(client, sql::JOB_TAKE)
        })?;
        rows.first().map_or(Ok(String::new()), |row| row.get("state"))
    }

    /// Stores the state; `false` if another process has taken over the job.
    pub fn save(&self, client: &mut Client, state: &str) -> Result<bool, ApplyError> {
        let n_rows = transaction(client, |client| {
            Params::new()
                .text(self.job)
                .text(&self.runner)
                .json(state)
                .execute(client, sql::JOB_SAVE)
        })?;
        Ok(n_rows > 0)
    }

    /// Deletes the state of a finished job, so that the next one starts from the beginning.
    pub fn end(&self, client: &mut Client) -> Result<(), ApplyError> {
        transaction(client, |client| {
            Params::new()
                .text(self.job)
                .text(&self.runner)
                .execute(client, sql::JOB_END)
        })?;
        Ok(())
    }
}
