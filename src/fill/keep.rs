//! Thread `fill`: fills accounts that became local, beside the running workers.
//!
//! Owns when a worker fills. Of several processes, one fills at a time, and a person who runs the command comes first.

use std::time::Duration;

use super::{Fill, Filled, JOB, Pause, State, What, again, load, pending, store};
use crate::job::{Hold, Job};
use crate::postgres::db::Db;
use crate::postgres::fault::ApplyError;
use crate::runtime::shutdown::{Stop, Stopped};
use crate::settings::config::{Accounts, Switches};

/// How often the thread looks for accounts that miss something. The query reads one small table.
const INTERVAL: Duration = Duration::from_secs(5);

/// Fills accounts that became local.
pub struct Keeper {
    job: Job,
    hold: Hold,
    switches: Switches,
    /// The last error that was logged.
    said: String,
}

impl Keeper {
    pub fn new(db: &Db, switches: Switches, stop: &Stop) -> Keeper {
        Keeper {
            job: Job {
                db: db.clone(),
                stop: stop.clone(),
                name: JOB,
                if_slow: "the worker tries again",
            },
            hold: Hold::new(JOB),
            switches,
            said: String::new(),
        }
    }

    /// Marks local accounts as missing what this worker will not write for any account, in case it is switched on again
    /// later.
    ///
    /// # Errors
    ///
    /// Fails if a stop is requested, or if the statement can never succeed.
    pub fn mark_unwritten(&self) -> anyhow::Result<()> {
        let unwritten = What::written_for(self.switches, &[Accounts::None]);
        if unwritten.is_nothing() {
            return Ok(());
        }
        self.job.attempt(|client| again(client, &[], unwritten))
    }

    /// Fills until `stop`.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        while !stop.wait(INTERVAL) {
            match self.fill() {
                Ok(()) => self.said.clear(),
                Err(error) if error.is::<Stopped>() => break,
                Err(error) if matches!(error.downcast_ref(), Some(ApplyError::TakenOver)) => {}
                Err(error) => {
                    let error = format!("failed to fill local accounts: {error:#}; trying again");
                    if error != self.said {
                        log::warn!("{error}");
                        self.said = error;
                    }
                }
            }
        }
        Ok(())
    }

    fn fill(&self) -> anyhow::Result<()> {
        let what = What::written_for(self.switches, &[Accounts::Local]);
        let Ok((_, dids)) = self.job.db.with_spare(|client| pending(client, what)) else {
            return Ok(());
        };
        if dids.is_empty() {
            return Ok(());
        }
        let new = store(&State::default());
        let Some(state) = self.job.attempt(|client| self.hold.take_idle(client, &new))? else {
            return Ok(());
        };
        let mut fill = Fill::new(&self.job, &self.hold, what, Pause::AsLong, load(&state));
        fill.run()?;
        let Filled {
            accounts,
            notifications,
            viewer_states,
        } = fill.state.filled;
        log::info!(
            "{accounts} local accounts have got what they had missed: {notifications} notifications, {viewer_states} \
             viewer states"
        );
        Ok(())
    }
}
