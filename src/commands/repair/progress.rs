//! The progress of a repair, stored after each slice.
//!
//! Owns the row in `firehose_worker.progress`. The process that wrote its name there last is the one that repairs; an
//! earlier one finds another name when it saves, and stops. This needs no lease, so that the next start after a kill
//! continues at once.

use postgres::Client;
use serde::{Deserialize, Serialize};

use super::report::Report;
use super::{Key, STEPS};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;

/// The end of the last finished slice.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub step: String,
    pub after: Key,
}

impl Place {
    pub fn first() -> Place {
        let step = &STEPS[0];
        Place {
            step: step.name.to_owned(),
            after: step.first(),
        }
    }
}

/// The stored row.
#[derive(Deserialize)]
struct State {
    place: Place,
    report: Report,
}

/// The row to be written, which borrows its values.
#[derive(Serialize)]
struct StateRef<'a> {
    place: &'a Place,
    report: &'a Report,
}

/// This process's hold on the row.
pub struct Hold {
    runner: String,
}

impl Hold {
    pub fn new() -> Hold {
        Hold {
            runner: format!(
                "{} process {} mark {:x}",
                crate::runtime::host::name(),
                std::process::id(),
                fastrand::u64(..)
            ),
        }
    }

    /// Makes this process the one that repairs. Returns the progress of an unfinished repair, with what it has found.
    pub fn take(&self, client: &mut Client) -> Result<(Place, Report), ApplyError> {
        let new = || (Place::first(), Report::new(false));
        let (place, report) = new();
        let state = text(&place, &report);
        let rows = transaction(client, |client| {
            Params::new()
                .text(&self.runner)
                .json(&state)
                .query(client, sql::REPAIR_PROGRESS_TAKE)
        })?;
        let stored: &str = rows.first().map_or(Ok(""), |row| row.get("state"))?;
        Ok(match serde_json::from_str::<State>(stored) {
            Ok(State { place, report }) if STEPS.iter().any(|step| step.name == place.step) => (place, report),
            _ => {
                log::warn!("the unfinished repair was started by another version; repair starts from the beginning");
                new()
            }
        })
    }

    /// Stores the progress; `false` if another process has taken over the repair.
    pub fn save(&self, client: &mut Client, place: &Place, report: &Report) -> Result<bool, ApplyError> {
        let state = text(place, report);
        let n_rows = transaction(client, |client| {
            Params::new()
                .text(&self.runner)
                .json(&state)
                .execute(client, sql::REPAIR_PROGRESS_SAVE)
        })?;
        Ok(n_rows > 0)
    }

    /// Deletes the progress of a finished repair, so that the next one starts from the beginning.
    pub fn end(&self, client: &mut Client) -> Result<(), ApplyError> {
        transaction(client, |client| {
            Params::new()
                .text(&self.runner)
                .execute(client, sql::REPAIR_PROGRESS_END)
        })?;
        Ok(())
    }
}

fn text(place: &Place, report: &Report) -> String {
    serde_json::to_string(&StateRef { place, report }).expect("names, texts and numbers are JSON")
}
