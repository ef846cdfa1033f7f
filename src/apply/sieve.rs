//! A transaction that finds out which ops PostgreSQL refuses.
//!
//! Owns attempts to apply parts of a batch. Each part runs behind a savepoint, so that many attempts cost only one
//! transaction. An accepted part stays for later parts to build on, as it would after a commit. At the end everything
//! is rolled back. Counters are not written: all workers share them, and deadlocks are ruled out only if every
//! transaction writes them last and all at once.
//!
//! Invariant: nothing is ever committed here.

use super::copy::WriteMode;
use super::scope::Scope;
use super::{Memory, Writing, pairs, write_timely, write_users};
use crate::fold::fold;
use crate::group::members::member::{Member, Mode};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::sql;
use crate::postgres::transaction::run;
use crate::rows::Op;
use crate::settings::config::Switches;

pub struct Sieve<'s> {
    client: &'s mut Client,
    memory: &'s mut Memory,
    scope: Scope,
    mode: Mode,
}

/// Lets `work` try parts of `ops`, in their order.
///
/// # Errors
///
/// Returns an error if the transaction did not begin, and the errors of `work`.
pub fn with_sieve<'o, T>(
    client: &mut Client,
    ops: &[&'o Op<'o>],
    switches: Switches,
    memory: &mut Memory,
    work: impl FnOnce(&mut Sieve) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    let scope = Scope::new(client, switches, &memory.local)?;
    run(client, sql::BEGIN.text)?;
    let mode = memory.member.as_ref().map_or(Mode::Alone, Member::mode);
    let mut sieve = Sieve {
        client,
        memory,
        scope,
        mode,
    };
    let result = sieve.begin(ops).and_then(|()| work(&mut sieve));
    // If the rollback fails, the connection is broken. The pool then discards it, and the server rolls back.
    let _ = run(client, "ROLLBACK");
    result
}

impl Sieve<'_> {
    /// Takes all locks at once and in order. Otherwise the parts would take them one after another, in no common order.
    fn begin(&mut self, ops: &[&Op]) -> Result<(), ApplyError> {
        pairs::lock(self.client, &fold(ops))?;
        run(self.client, "SAVEPOINT part")
    }

    /// Tries some ops on top of the parts accepted so far.
    ///
    /// # Errors
    ///
    /// Returns why the ops were not accepted. The next part can still be tried, unless the connection is lost.
    pub fn try_part<'o>(&mut self, ops: &[&'o Op<'o>]) -> Result<(), ApplyError> {
        let tried = self.write(ops);
        let end = match tried {
            Ok(()) => "RELEASE part; SAVEPOINT part",
            Err(_) => "ROLLBACK TO part",
        };
        let ended = run(self.client, end);
        tried.and(ended)
    }

    fn write<'o>(&mut self, ops: &[&'o Op<'o>]) -> Result<(), ApplyError> {
        let users = write_users(self.client, ops, &self.memory.known, self.mode)?;
        let writing = Writing {
            scope: &self.scope,
            write_mode: WriteMode::Insert,
            mode: self.mode,
            page_keys: &self.memory.page_keys,
            with_counters: false,
        };
        write_timely(self.client, &users, writing).map(|_| ())
    }
}
