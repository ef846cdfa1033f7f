//! The accounts that this AppView serves, the *local* ones: only they read notifications and viewer states.
//!
//! Owns the table `firehose_worker.local_dids`, how accounts enter it (`register`), and a process's copy of it. What an
//! account has missed before it entered is written by `fill`.
//!
//! Invariant: once `register` has returned, every later commit of every worker treats the new accounts as local.
//! Registering closes the gate of `group::members`, and each transaction compares, behind the gate, the number that it
//! reads with the one of its copy (`Member::check`). A copy therefore cannot be too old, whatever the interval at which
//! accounts are looked for, and an outage leaves it as it is.

pub mod keep;
pub mod register;

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;

/// The maximum number of accounts in a process's copy, at about 100 bytes each. If there are more, all accounts count
/// as local.
const MAX_DIDS: usize = 100_000;

/// A process's copy of the local accounts, shared by its threads.
#[derive(Clone, Default)]
pub struct Local(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: RwLock<Arc<LocalDids>>,
    /// The number that the database had when a transaction last checked it.
    latest: AtomicI64,
}

/// The local accounts at one moment.
pub struct LocalDids {
    /// The largest number of their rows.
    number: i64,
    dids: HashSet<Box<str>>,
    /// There are too many to remember.
    is_everyone: bool,
}

impl Default for LocalDids {
    /// No accounts, under a number that no database has.
    fn default() -> LocalDids {
        LocalDids {
            number: -1,
            dids: HashSet::new(),
            is_everyone: false,
        }
    }
}

impl LocalDids {
    pub fn contains(&self, did: &str) -> bool {
        self.is_everyone || self.dids.contains(did)
    }

    /// Compared before a commit with the number in the database.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// Reads all local accounts.
    pub fn read(client: &mut Client) -> Result<LocalDids, ApplyError> {
        let rows = Params::new()
            .long(MAX_DIDS as i64 + 1)
            .query(client, sql::LOCAL_DIDS_READ)?;
        let is_everyone = rows.len() > MAX_DIDS;
        let mut dids = HashSet::new();
        if !is_everyone {
            dids = rows
                .iter()
                .map(|row| Ok(row.get::<_, &str>("did")?.into()))
                .collect::<Result<_, _>>()?;
        }
        Ok(LocalDids {
            // The rows begin with the largest number.
            number: rows.first().map_or(Ok(0), |row| row.get("number"))?,
            dids,
            is_everyone,
        })
    }
}

impl Local {
    /// The local accounts, read again if the database has others.
    pub fn current(&self, client: &mut Client) -> Result<Arc<LocalDids>, ApplyError> {
        let known = self.known();
        if known.number == self.0.latest.load(Ordering::Relaxed) {
            return Ok(known);
        }
        let read = Arc::new(LocalDids::read(client)?);
        if read.is_everyone && !known.is_everyone {
            log::warn!(
                "more than {MAX_DIDS} accounts are local: notifications and viewer states are written for all accounts"
            );
        }
        self.0.latest.store(read.number, Ordering::Relaxed);
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&read);
        Ok(read)
    }

    /// Records that the database's accounts have this number, so that `current` reads them.
    pub fn has_changed(&self, number: i64) {
        self.0.latest.store(number, Ordering::Relaxed);
    }

    fn known(&self) -> Arc<LocalDids> {
        Arc::clone(&self.0.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}
