//! A process's hold on a job.
//!
//! Owns the rows of `firehose_worker.progress`, one for each unfinished job. The process that wrote its name there last
//! is the one that works on the job; an earlier one finds another name when it saves, and stops. This needs no lease,
//! so that the next start after a kill continues at once.

use crate::postgres::client::Client;
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

    /// Like `take`, unless another process has stored its progress within the last minute.
    pub fn take_idle(&self, client: &mut Client, new: &str) -> Result<Option<String>, ApplyError> {
        let rows = transaction(client, |client| {
            Params::new()
                .text(self.job)
                .text(&self.runner)
                .json(new)
                .query(client, sql::JOB_TAKE_IDLE)
        })?;
        rows.first().map(|row| row.get("state")).transpose()
    }

    /// Reads the state, and keeps it from other processes until the end of the transaction.
    ///
    /// # Errors
    ///
    /// Fails if another process has taken over the job.
    pub fn load(&self, client: &mut Client) -> Result<String, ApplyError> {
        let rows = Params::new()
            .text(self.job)
            .text(&self.runner)
            .query(client, sql::JOB_LOAD)?;
        rows.first().map_or(Err(ApplyError::TakenOver), |row| row.get("state"))
    }

    /// Stores the state.
    ///
    /// # Errors
    ///
    /// Fails if another process has taken over the job.
    pub fn save(&self, client: &mut Client, state: &str) -> Result<(), ApplyError> {
        let n_rows = Params::new()
            .text(self.job)
            .text(&self.runner)
            .json(state)
            .execute(client, sql::JOB_SAVE)?;
        if n_rows == 0 {
            Err(ApplyError::TakenOver)
        } else {
            Ok(())
        }
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
