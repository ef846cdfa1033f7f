//! What a transaction has to know about other processes.
//!
//! Owns the check before each commit: whether this process still holds its consumer name and is a member, and whether
//! there are other members or new local accounts, of which the transaction must have known from its beginning.
//!
//! Invariant: once a second process has joined, no transaction commits that did not write versions. Once a process was
//! removed, or another process may hold its consumer name, none of its transactions commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use postgres::{SimpleQueryMessage, SimpleQueryRow};

use crate::lease::Lease;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::sql;
use crate::runtime::heartbeat;

/// This process as one of those that write to the database. Clones share their state.
#[derive(Clone)]
pub struct Member(Arc<Shared>);

struct Shared {
    id: AtomicI64,
    lease: Lease,
    has_others: AtomicBool,
    writes_versions: AtomicBool,
    is_removed: AtomicBool,
}

/// How ops of one repo are kept in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// This process dispatches all of them to one worker.
    Alone,
    /// Versions record the position of the last op on each record, since other processes apply some of the ops.
    Versioned { member: i64 },
}

impl Member {
    pub fn new(id: i64, lease: Lease) -> Member {
        Member(Arc::new(Shared {
            id: AtomicI64::new(id),
            lease,
            has_others: AtomicBool::new(false),
            writes_versions: AtomicBool::new(false),
            is_removed: AtomicBool::new(false),
        }))
    }

    pub fn has_others(&self) -> bool {
        self.0.has_others.load(Ordering::Relaxed)
    }

    /// A wrong value only costs a retry, since every commit checks again.
    pub fn set_has_others(&self, has_others: bool) {
        self.0.has_others.store(has_others, Ordering::Relaxed);
    }

    /// This process is about to write versions, which must be pruned even if it is the only member.
    pub fn writes_versions(&self) {
        self.0.writes_versions.store(true, Ordering::Relaxed);
    }

    /// Whether versions were written since the last call.
    pub fn take_writes_versions(&self) -> bool {
        self.0.writes_versions.swap(false, Ordering::Relaxed)
    }

    /// Whether this process was found to be no longer a member.
    pub fn is_removed(&self) -> bool {
        self.0.is_removed.load(Ordering::Relaxed)
    }

    pub fn removed(&self) {
        self.0.is_removed.store(true, Ordering::Relaxed);
    }

    /// The process has joined again. The caller must ensure that nothing read before is in flight.
    pub fn has_rejoined(&self, id: i64) {
        self.0.id.store(id, Ordering::Relaxed);
        self.0.is_removed.store(false, Ordering::Relaxed);
    }

    pub fn mode(&self) -> Mode {
        match self.has_others() {
            true => Mode::Versioned {
                member: self.0.id.load(Ordering::Relaxed),
            },
            false => Mode::Alone,
        }
    }

    /// Checks, right before the commit, that the assumptions of `mode` still hold, and that the local accounts have
    /// `number`, unless the transaction does not depend on them.
    pub fn check(&self, client: &mut Client, mode: Mode, number: Option<i64>) -> Result<(), ApplyError> {
        let Seen { ids, number: latest } = read(client)?;
        if !ids.contains(&self.0.id.load(Ordering::Relaxed)) {
            self.removed();
            return Err(ApplyError::Removed);
        }
        if ids.len() > 1 && mode == Mode::Alone {
            self.set_has_others(true);
            return Err(ApplyError::Joined);
        }
        if number.is_some_and(|number| number != latest) {
            return Err(ApplyError::LocalDidsChanged { number: latest });
        }
        // Checked last, because time passes while the members are read.
        match self.0.lease.holds() {
            true => Ok(()),
            false => Err(ApplyError::NameLapsed),
        }
    }
}

/// What a transaction reads before its commit.
struct Seen {
    ids: Vec<i64>,
    /// The largest number of a local account.
    number: i64,
}

fn read(client: &mut Client) -> Result<Seen, ApplyError> {
    let answer = client.simple_query(sql::MEMBERS_CHECK.text);
    heartbeat::beat();
    let messages = answer.map_err(|source| ApplyError::of_statement(sql::MEMBERS_CHECK, source))?;
    let mut seen = Seen {
        ids: Vec::new(),
        number: 0,
    };
    for message in &messages {
        // The row with the lock has a different column.
        if let SimpleQueryMessage::Row(row) = message
            && let (Some(id), Some(number)) = (number_in(row, "id"), number_in(row, "number"))
        {
            seen.ids.push(id);
            seen.number = number;
        }
    }
    Ok(seen)
}

fn number_in(row: &SimpleQueryRow, column: &str) -> Option<i64> {
    row.try_get(column).ok()??.parse().ok()
}
