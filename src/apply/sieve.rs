//! A transaction that tells which ops PostgreSQL refuses.
//!
//! Owns tries of parts of a batch, each behind a savepoint, so that many of them cost one transaction. A part that is taken
//! stays for the parts after it to build on, as it would after a commit; in the end all of it is rolled back. Counters are
//! left out: workers share them, and only transactions that write them last, all at once, cannot deadlock.
//!
//! Invariant: nothing of it is ever committed.

use postgres::Client;

use super::copy::WriteMode;
use super::{Memory, Writing, pairs, write_timely, write_users};
use crate::fold::fold;
use crate::group::members::member::{Member, Mode};
use crate::postgres::fault::ApplyError;
use crate::postgres::sql;
use crate::postgres::transaction::run;
use crate::rows::Op;
use crate::settings::config::Switches;

pub struct Sieve<'s> {
    client: &'s mut Client,
    memory: &'s mut Memory,
    switches: Switches,
    mode: Mode,
}

/// Has `work` try parts of `ops`, in their order.
///
/// # Errors
///
/// The transaction did not begin, or those of `work`.
pub fn with_sieve<'o, T>(
    client: &mut Client,
    ops: &[&'o Op<'o>],
    switches: Switches,
    memory: &mut Memory,
    work: impl FnOnce(&mut Sieve) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    run(client, sql::BEGIN.text)?;
    let mode = memory.member.as_ref().map_or(Mode::Alone, Member::mode);
    let mut sieve = Sieve {
        client,
        memory,
        switches,
        mode,
    };
    let result = sieve.begin(ops).and_then(|()| work(&mut sieve));
    // A rollback that fails means a broken connection, which the pool throws away; the server rolls back.
    let _ = run(client, "ROLLBACK");
    result
}

impl Sieve<'_> {
    /// Takes at once, in their one order, the locks that the parts would take in several turns.
    fn begin(&mut self, ops: &[&Op]) -> Result<(), ApplyError> {
        pairs::lock(self.client, &fold(ops))?;
        run(self.client, "SAVEPOINT part")
    }

    /// Tries some ops after those that were taken before.
    ///
    /// # Errors
    ///
    /// Why they are not taken; the next part can be tried, unless the connection has gone.
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
        let users = write_users(self.client, ops, &mut self.memory.known, self.mode)?;
        let writing = Writing {
            switches: self.switches,
            write_mode: WriteMode::Insert,
            mode: self.mode,
            page_keys: &self.memory.page_keys,
            with_counters: false,
        };
        write_timely(self.client, &users, writing).map(|_| ())
    }
}
