//! Thread `local`: looks for accounts that this AppView serves.
//!
//! Owns the interval, and what is logged about the search. While Redis or PostgreSQL is down, the accounts stay as they
//! are.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::local::register::{Registered, register};
use crate::postgres::db::Db;
use crate::postgres::fault::{ApplyError, Fault};
use crate::runtime::retry::Backoff;
use crate::runtime::shutdown::{Stop, Stopped};
use crate::settings::local::LocalSetting;

/// The maximum time until an account that the AppView's tables name becomes local.
const INTERVAL: Duration = Duration::from_secs(30);

/// Looks for local accounts.
pub struct Keeper {
    db: Db,
    setting: LocalSetting,
    /// The last problem that was logged.
    said: String,
}

impl Keeper {
    pub fn new(db: &Db, setting: &LocalSetting) -> Keeper {
        Keeper {
            db: db.clone(),
            setting: setting.clone(),
            said: String::new(),
        }
    }

    /// Looks for accounts before the first entry is read, so that a first start writes what they need at once. Retries
    /// while PostgreSQL is down.
    pub fn look_first(&mut self, stop: &Stop) -> Result<(), Stopped> {
        let mut backoff = Backoff::default();
        while let Err(error) = self.look() {
            if error.fault() != Fault::Transient {
                break;
            }
            backoff.wait(stop)?;
        }
        Ok(())
    }

    /// Looks for accounts until `stop`.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        while !stop.wait(INTERVAL) {
            if let Err(error) = self.look()
                && error.fault() == Fault::Transient
            {
                log::debug!("failed to look for local accounts: {}", error.describe());
            }
        }
        Ok(())
    }

    /// Looks for accounts, and logs what only an operator can remedy.
    fn look(&mut self) -> Result<(), ApplyError> {
        // An unreadable file must not keep the accounts of the AppView's tables out.
        let (given, fault) = match self.setting.read() {
            Ok(given) => (given, None),
            Err(fault) => (BTreeSet::new(), Some(fault)),
        };
        let registered = self.db.with_spare(|client| register(client, &given));
        match &registered {
            Ok(Registered { entered, unreadable }) => {
                if *entered > 0 {
                    log::info!("{entered} accounts became local");
                }
                self.say(fault.or_else(|| lacking(unreadable)));
            }
            Err(error) if error.fault() != Fault::Transient => {
                self.say(Some(format!("failed to look for local accounts: {}", error.describe())));
            }
            Err(_) => {}
        }
        registered.map(drop)
    }

    /// Warns of a problem once, until it changes.
    fn say(&mut self, problem: Option<String>) {
        let problem = problem.unwrap_or_default();
        if problem != self.said && !problem.is_empty() {
            log::warn!("{problem}");
        }
        self.said = problem;
    }
}

fn lacking(tables: &[String]) -> Option<String> {
    let tables = tables.join(", ");
    (!tables.is_empty()).then(|| {
        format!(
            "the accounts in {tables} do not become local: the role may not read the table; GRANT SELECT ON {tables}, or \
             name the accounts in LOCAL_DIDS"
        )
    })
}
