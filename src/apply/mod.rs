//! Applies ops to the database: one transaction per batch.
//!
//! Owns the order in which a transaction writes tables. The order is the same for every worker:
//!
//! 1. users, in a short transaction of their own unless the batch is small;
//! 2. versions, if several processes write to the database;
//! 3. deletes;
//! 4. posts, then pairs, then the other tables, then their side effects;
//! 5. the counters, which all workers share.
//!
//! What to do about an error is decided in `worker`.
//!
//! Invariant: either all ops of a batch are applied with all of their side effects, or none are. Users are the
//! exception: their rows stay even if an op of the batch is refused.

mod copy;
mod effects;
mod handles;
mod keyed;
pub mod missed;
mod page_keys;
mod pairs;
mod posts;
pub mod prune;
mod scope;
mod sieve;
mod users;
mod versions;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

pub use crate::fold::{Changes, fold};
use crate::group::members::member::{Member, Mode};
use crate::local::Local;
use crate::metrics::RecordCounts;
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;
use crate::rows::{Op, PairTable, Table};
use crate::settings::config::Switches;
use copy::{CopyBackoff, WriteMode};
use effects::{Effects, FreshStates};
use handles::Handles;
pub use page_keys::PageKeys;
use pairs::{DeletedRow, Freed};
pub use posts::posts_that_mention;
use scope::Scope;
pub use sieve::{Sieve, with_sieve};
use users::Began;
pub use users::KnownUsers;

/// The result of a batch that was applied.
#[derive(Debug, Default)]
pub struct Applied {
    /// Excludes users, which are committed even if the batch fails; see `Memory::take_users_made`.
    pub record_counts: RecordCounts,
    /// The number of ops ignored because their repo has opted out.
    pub opted_out: usize,
}

/// The maximum number of ops that share a transaction with their users. Other workers that need the same users wait for
/// such a transaction, so it must be short.
const MAX_AT_ONCE: usize = 16;

/// Applies ops. The ops of each repo must be in stream order.
pub fn apply<'o>(
    client: &mut Client,
    ops: &[&'o Op<'o>],
    switches: Switches,
    memory: &mut Memory,
) -> Result<Applied, ApplyError> {
    let needs_statements = users::needs_statements(ops, &memory.known);
    if let Some(member) = &memory.member
        && ops.iter().any(|op| op.table == Table::Users)
    {
        member.writes_versions();
    }
    let scope = Scope::new(client, switches, &memory.local)?;
    let applied = match needs_statements && ops.len() <= MAX_AT_ONCE {
        true => match apply_at_once(client, ops, &scope, memory) {
            // The users of refused ops stay.
            Err(error) if error.may_be_of_one_op() => apply_after_users(client, ops, &scope, memory, true),
            applied => applied,
        },
        false => apply_after_users(client, ops, &scope, memory, needs_statements),
    };
    if let Err(ApplyError::LocalDidsChanged { number }) = applied {
        memory.local.has_changed(number);
    }
    applied
}

/// Applies ops and their users in one transaction, which saves a commit and several round trips.
fn apply_at_once<'o>(
    client: &mut Client,
    ops: &[&'o Op<'o>],
    scope: &Scope,
    memory: &mut Memory,
) -> Result<Applied, ApplyError> {
    let (known, page_keys) = (&memory.known, &memory.page_keys);
    let began = known.began();
    let write = |client: &mut Client, mode| {
        let users = write_users(client, ops, known, mode)?;
        let writing = Writing {
            scope,
            write_mode: WriteMode::Insert,
            mode,
            page_keys,
            with_counters: true,
        };
        let record_counts = write_timely(client, &users, writing)?;
        Ok((users, record_counts))
    };
    let (users, record_counts) = transaction_of(client, memory.member.as_ref(), scope.number(), write)?;
    memory.users_are_committed(&users, began);
    Ok(Applied {
        record_counts,
        opted_out: users.opted_out,
    })
}

/// Applies ops after their users, which are committed first if that needs statements.
fn apply_after_users<'o>(
    client: &mut Client,
    ops: &[&'o Op<'o>],
    scope: &Scope,
    memory: &mut Memory,
    needs_statements: bool,
) -> Result<Applied, ApplyError> {
    let known = &memory.known;
    let began = known.began();
    let write_users = |client: &mut Client, mode| write_users(client, ops, known, mode);
    let users = if needs_statements {
        transaction_of(client, memory.member.as_ref(), None, write_users)?
    } else {
        write_users(client, Mode::Alone)?
    };
    memory.users_are_committed(&users, began);
    Ok(Applied {
        record_counts: write_either_way(client, &users, scope, memory)?,
        opted_out: users.opted_out,
    })
}

/// What a worker remembers between batches: caches that save statements, and its membership in the group.
#[derive(Default)]
pub struct Memory {
    known: KnownUsers,
    copy_backoff: CopyBackoff,
    users_made: i64,
    /// `None` if no other process can write to the database.
    member: Option<Member>,
    page_keys: PageKeys,
    local: Local,
}

impl Memory {
    pub fn of(member: Member, known: KnownUsers, page_keys: PageKeys, local: Local) -> Memory {
        Memory {
            known,
            member: Some(member),
            page_keys,
            local,
            ..Memory::default()
        }
    }

    /// For a process that is the only one to write to the database.
    pub fn alone(page_keys: PageKeys) -> Memory {
        Memory {
            page_keys,
            ..Memory::default()
        }
    }

    /// Assigns rows their `indexed_at` before they are applied.
    pub fn page_keys(&self) -> &PageKeys {
        &self.page_keys
    }

    /// The users created since the last call, as record counts. The caller takes them after every batch, including a
    /// failed one: a retry finds the users already there and does not count them again.
    pub fn take_users_made(&mut self) -> RecordCounts {
        RecordCounts {
            users: std::mem::take(&mut self.users_made),
            ..RecordCounts::default()
        }
    }

    /// Forgets known users if a connection was made since the last batch.
    pub fn connected(&mut self, connections: u64) {
        self.known.connected(connections);
    }

    fn users_are_committed(&mut self, users: &WithUsers, began: Began) {
        self.known.committed(users.made.keys().copied(), began);
        self.users_made += users.new;
    }

    /// Makes the next batch read every user again, because a users row was deleted.
    pub fn forget_users(&mut self) {
        self.known.clear();
    }
}

/// Writes with COPY unless recent attempts failed. If COPY meets a row that already exists, writes again with INSERT.
fn write_either_way(
    client: &mut Client,
    batch: &WithUsers,
    scope: &Scope,
    memory: &mut Memory,
) -> Result<RecordCounts, ApplyError> {
    let Memory {
        copy_backoff,
        member,
        page_keys,
        ..
    } = memory;
    let (member, page_keys) = (member.as_ref(), &*page_keys);
    let write = |write_mode| {
        move |client: &mut Client, mode| {
            let settings = Writing {
                scope,
                write_mode,
                mode,
                page_keys,
                with_counters: true,
            };
            write_timely(client, batch, settings)
        }
    };
    if copy_backoff.write_mode() == WriteMode::Copy {
        match transaction_of(client, member, scope.number(), write(WriteMode::Copy)) {
            Err(error) if error.is_unique_violation() => copy_backoff.failed(),
            written => {
                copy_backoff.succeeded();
                return written;
            }
        }
    }
    transaction_of(client, member, scope.number(), write(WriteMode::Insert))
}

/// How to write a batch.
#[derive(Clone, Copy)]
struct Writing<'m> {
    scope: &'m Scope,
    write_mode: WriteMode,
    mode: Mode,
    page_keys: &'m PageKeys,
    with_counters: bool,
}

/// Writes the ops of the batch that are not too late.
fn write_timely(client: &mut Client, batch: &WithUsers, writing: Writing) -> Result<RecordCounts, ApplyError> {
    let Mode::Versioned { member } = writing.mode else {
        return write(client, &batch.changes, writing);
    };
    let (_, on_records) = split_off_users(&batch.kept);
    let timely = versions::timely(client, &on_records, member)?;
    write(client, &fold(&timely), writing)
}

/// A batch whose users have been written.
struct WithUsers<'o> {
    /// The ops to apply: no opt-out forbids them.
    kept: Vec<&'o Op<'o>>,
    changes: Changes<'o>,
    /// The users to create, each with the time of the earliest op that needs it.
    made: BTreeMap<&'o str, Micros>,
    new: i64,
    opted_out: usize,
}

fn write_users<'o>(
    client: &mut Client,
    ops: &[&'o Op<'o>],
    known: &KnownUsers,
    mode: Mode,
) -> Result<WithUsers<'o>, ApplyError> {
    let forbidden = users::forbidden(client, ops, known)?;
    let (ignored, kept): (Vec<&Op>, Vec<&Op>) = ops
        .iter()
        .partition(|op| op.heeds_opt_out() && forbidden.contains(op.repo.as_ref()));
    let mut changes = fold(&kept);
    let (mut on_users, _) = split_off_users(&kept);
    if let Mode::Versioned { member } = mode {
        on_users = versions::timely(client, &on_users, member)?;
        changes.users = fold(&on_users).users;
    }
    let mut handles = Handles::of(&on_users);
    handles.take_positions(client)?;
    handles.correct(&mut changes.users);
    let made = users::missing(wanted(&kept, &ignored).into_iter(), known);
    Ok(WithUsers {
        new: users::write(client, &made, &changes.users, &handles)?,
        kept,
        changes,
        made,
        opted_out: ignored.len(),
    })
}

/// Splits ops into those on users, which are written in a transaction of their own, and the others.
fn split_off_users<'o>(ops: &[&'o Op<'o>]) -> (Vec<&'o Op<'o>>, Vec<&'o Op<'o>>) {
    ops.iter().partition(|op| op.table == Table::Users)
}

/// The users that must exist, each with the time of an op that requires it. Every valid create counts, even if `fold`
/// dropped it. Of an op ignored because of an opt-out, only its repo counts.
fn wanted<'o>(kept: &[&'o Op<'o>], ignored: &[&'o Op<'o>]) -> Vec<(&'o str, Micros)> {
    let timed = |op: &'o Op<'o>, did: Option<&'o str>| did.map(|did| (did, op.time));
    let of_kept = kept
        .iter()
        .flat_map(|op| <[_; 2]>::from(op.users()).map(|did| timed(op, did)));
    let of_ignored = ignored.iter().map(|op| timed(op, op.users().0));
    of_kept.chain(of_ignored).flatten().collect()
}

/// Runs `work` in a transaction. The transaction is also rolled back if, at its end, the assumption about which other
/// processes write to the database no longer holds, or if the local accounts no longer have `number`.
fn transaction_of<T>(
    client: &mut Client,
    member: Option<&Member>,
    number: Option<i64>,
    work: impl FnOnce(&mut Client, Mode) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    let mode = member.map_or(Mode::Alone, Member::mode);
    transaction(client, |client| {
        let value = work(client, mode)?;
        member.map_or(Ok(()), |member| member.check(client, mode, number))?;
        Ok(value)
    })
}

fn write(client: &mut Client, changes: &Changes, writing: Writing) -> Result<RecordCounts, ApplyError> {
    let Writing {
        write_mode, page_keys, ..
    } = writing;
    // Declared before the effects, which borrow from it.
    let mut conflicts = Vec::with_capacity(PairTable::ALL.len());
    let mut effects = Effects::new(writing.scope);
    pairs::lock(client, changes)?;
    let mut freed = delete(client, changes, &mut effects)?;
    let fresh = FreshStates::read(client, changes, writing.scope, write_mode)?;
    posts::put(client, &changes.posts.put, write_mode, &mut effects)?;
    for table in PairTable::ALL {
        let rows = &changes.pair(table).put;
        let freed = freed.remove(&table).unwrap_or_default();
        if let Some(others) = pairs::insert(client, table, rows, freed, write_mode, fresh.as_ref(), &mut effects)? {
            conflicts.push((table, others));
        }
    }
    if writing.mode != Mode::Alone {
        versions::set_positions(
            client,
            conflicts
                .iter_mut()
                .flat_map(|(_, (_, conflicts))| conflicts.stored_rows())
                .collect(),
        )?;
    }
    for (table, (_, conflicts)) in &mut conflicts {
        page_keys.assign_remembered(*table, conflicts.remembered_rows());
    }
    for (table, (items, conflicts)) in &conflicts {
        pairs::carry_out(client, *table, items, conflicts, &mut effects)?;
    }
    keyed::write(client, changes)?;
    effects.write_rows(client, write_mode, page_keys, fresh.as_ref())?;
    if writing.with_counters {
        effects.finish(client)
    } else {
        Ok(RecordCounts::default())
    }
}

/// Deletes posts and pair rows with their notifications. Returns the pairs for which other records wait.
fn delete<'e>(client: &mut Client, changes: &Changes<'e>, effects: &mut Effects<'e>) -> Result<Freed, ApplyError> {
    let mut notifications = posts::delete(client, &changes.posts.deleted, effects)?.notifications;
    let mut gone = Vec::new();
    let mut deleted = Vec::new();
    for table in PairTable::ALL {
        let uris = &changes.pair(table).deleted;
        gone.extend(pairs::delete(client, table, uris, effects)?);
        notifications.extend(uris.iter().filter_map(|uri| effects::pair_notification_uri(table, uri)));
        // The AppView may have deleted the row but not the feed item, so the item is looked up by the record's own URI.
        if table == PairTable::Reposts {
            uris.iter().for_each(|uri| effects.feed_item_gone(Cow::Borrowed(uri)));
        }
        deleted.extend(uris.iter().copied());
    }
    gone.extend(delete_notifications(client, notifications, changes, &gone, effects)?);
    gone.extend(pairs::delete_forgotten(client, changes, &gone, effects)?);
    pairs::take_rivals(client, &deleted, &gone)
}

/// Deletes the notifications of deleted records. Returns the pair rows that are known only from these notifications,
/// because the AppView deleted the rows themselves.
fn delete_notifications<'e>(
    client: &mut Client,
    mut uris: Vec<String>,
    changes: &Changes<'e>,
    gone: &[DeletedRow],
    effects: &mut Effects<'e>,
) -> Result<Vec<DeletedRow>, ApplyError> {
    if uris.is_empty() {
        return Ok(Vec::new());
    }
    uris.sort_unstable();
    let rows = Params::new()
        .texts(uris.iter())
        .query(client, sql::NOTIFICATIONS_DELETE)?;
    let found: HashSet<&str> = gone.iter().map(|row| row.uri.as_str()).collect();
    let mut told = Vec::new();
    for row in &rows {
        let Some(uri) = row.get::<_, &str>("uri")?.strip_suffix("#notification") else {
            continue;
        };
        let table = PairTable::ALL
            .into_iter()
            .find(|table| changes.pair(*table).deleted.binary_search(&uri).is_ok());
        let subject: Option<String> = match table {
            Some(PairTable::Follows) => row.get("recipient_did")?,
            _ => row.get("reason_subject")?,
        };
        if let (Some(table), Some(subject), false) = (table, subject, found.contains(uri)) {
            let author = row.get("author_did")?;
            told.push(pairs::delete_forgotten_row(table, uri, author, subject, effects));
        }
    }
    Ok(told)
}
