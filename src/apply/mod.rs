//! Ops → rows: one transaction per batch.
//!
//! Owns the order in which a transaction writes tables, the same for every worker: versions, where there are several
//! processes, users (in a short transaction of their own), then what is deleted, posts, pairs, the other tables, their side
//! effects, and the counters, which all workers share, last. Does not decide what to do about an error: that is `worker`'s.
//!
//! Invariant: either all of the ops are applied with all of their side effects, or none.

mod copy;
mod effects;
mod handles;
mod keyed;
mod page_keys;
mod pairs;
mod posts;
mod sieve;
mod users;
mod versions;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use postgres::Client;

pub use page_keys::PageKeys;
pub use sieve::{Sieve, with_sieve};

use crate::fold::{Changes, fold};
use crate::group::members::member::{Member, Mode};
use crate::metrics::RecordCounts;
use crate::micros::Micros;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::postgres::transaction::transaction;
use crate::rows::{Op, PairTable, Table};
use crate::settings::config::Switches;
use copy::{CopyBackoff, WriteMode};
use effects::Effects;
use handles::Handles;
use pairs::{DeletedRow, Freed};
use users::KnownUsers;

/// What came of a batch that was applied.
#[derive(Debug, Default)]
pub struct Applied {
    /// Without the users, who stand though their batch fails: `Memory::take_users_made` tells them.
    pub record_counts: RecordCounts,
    /// Ops ignored since their repo has opted out.
    pub opted_out: usize,
}

/// Applies ops, which are in stream order for each repo.
pub fn apply<'o>(
    client: &mut Client,
    ops: &[&'o Op<'o>],
    switches: Switches,
    memory: &mut Memory,
) -> Result<Applied, ApplyError> {
    let Memory {
        known,
        copy_backoff,
        users_made,
        member,
        page_keys,
        ..
    } = memory;
    let began_at = known.now();
    let needs_statements = users::needs_statements(ops, known);
    if let Some(member) = &*member
        && ops.iter().any(|op| op.table == Table::Users)
    {
        member.writes_versions();
    }
    let mut write_users = |client: &mut Client, mode| write_users(client, ops, known, mode);
    let users = if needs_statements {
        transaction_of(client, member.as_ref(), write_users)?
    } else {
        write_users(client, Mode::Alone)?
    };
    known.committed(users.made.keys().copied(), began_at);
    *users_made += users.new;
    Ok(Applied {
        record_counts: write_either_way(client, &users, switches, copy_backoff, member.as_ref(), page_keys)?,
        opted_out: users.opted_out,
    })
}

/// What a worker remembers from batch to batch, to its own profit, and as what it commits.
#[derive(Default)]
pub struct Memory {
    known: KnownUsers,
    copy_backoff: CopyBackoff,
    users_made: i64,
    /// How often a connection had been asked for at the last batch.
    connections: u64,
    /// `None`: nobody else can write to the database.
    member: Option<Member>,
    page_keys: PageKeys,
}

impl Memory {
    pub fn of(member: Member, page_keys: PageKeys) -> Memory {
        Memory {
            member: Some(member),
            page_keys,
            ..Memory::default()
        }
    }

    /// Of a process that nobody else writes beside.
    pub fn alone(page_keys: PageKeys) -> Memory {
        Memory {
            page_keys,
            ..Memory::default()
        }
    }

    /// What gives rows their times, before they are applied.
    pub fn page_keys(&self) -> &PageKeys {
        &self.page_keys
    }

    /// The users made since this was asked last, as record counts. To be asked after every batch, also after one that has
    /// failed: the next try finds its users made.
    pub fn take_users_made(&mut self) -> RecordCounts {
        RecordCounts {
            users: std::mem::take(&mut self.users_made),
            ..RecordCounts::default()
        }
    }

    /// Users are looked for anew once a connection was made since the last batch: it may lead to a standby that was promoted
    /// without the last commits.
    pub fn connected(&mut self, connections: u64) {
        if std::mem::replace(&mut self.connections, connections) != connections {
            self.forget_users();
        }
    }

    /// A users row was deleted: looks for each anew.
    pub fn forget_users(&mut self) {
        self.known = KnownUsers::default();
    }
}

/// Writes with COPY if that is worth a try, and if it fails on a row that is there, over again with INSERT.
fn write_either_way(
    client: &mut Client,
    batch: &WithUsers,
    switches: Switches,
    copy_backoff: &mut CopyBackoff,
    member: Option<&Member>,
    page_keys: &PageKeys,
) -> Result<RecordCounts, ApplyError> {
    let write = |write_mode| {
        move |client: &mut Client, mode| {
            let settings = Writing {
                switches,
                write_mode,
                mode,
                page_keys,
                with_counters: true,
            };
            write_timely(client, batch, settings)
        }
    };
    if copy_backoff.write_mode() == WriteMode::Copy {
        match transaction_of(client, member, write(WriteMode::Copy)) {
            Err(error) if error.is_unique_violation() => copy_backoff.failed(),
            written => {
                copy_backoff.succeeded();
                return written;
            }
        }
    }
    transaction_of(client, member, write(WriteMode::Insert))
}

/// How a batch is written.
#[derive(Clone, Copy)]
struct Writing<'m> {
    switches: Switches,
    write_mode: WriteMode,
    mode: Mode,
    page_keys: &'m PageKeys,
    with_counters: bool,
}

/// Writes those of the batch's ops that do not come too late.
fn write_timely(client: &mut Client, batch: &WithUsers, writing: Writing) -> Result<RecordCounts, ApplyError> {
    let Mode::Versioned { member } = writing.mode else {
        return write(client, &batch.changes, writing);
    };
    let (_, on_records) = split_off_users(&batch.kept);
    let timely = versions::timely(client, &on_records, member)?;
    write(client, &fold(&timely), writing)
}

/// The batch after its users have been seen to.
struct WithUsers<'o> {
    /// The ops that no opt-out keeps from being applied.
    kept: Vec<&'o Op<'o>>,
    changes: Changes<'o>,
    /// The users to be made, and when they came.
    made: BTreeMap<&'o str, Micros>,
    new: i64,
    opted_out: usize,
}

fn write_users<'o>(
    client: &mut Client,
    ops: &[&'o Op<'o>],
    known: &mut KnownUsers,
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
    handles.take_places(client)?;
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

/// The ops on users, which are written in their own transaction, and the others.
fn split_off_users<'o>(ops: &[&'o Op<'o>]) -> (Vec<&'o Op<'o>>, Vec<&'o Op<'o>>) {
    ops.iter().partition(|op| op.table == Table::Users)
}

/// The users that must exist, with the time of an op that says so: those of every valid create, folded away or not, and
/// the repo of one that its opt-out keeps from being applied.
fn wanted<'o>(kept: &[&'o Op<'o>], ignored: &[&'o Op<'o>]) -> Vec<(&'o str, Micros)> {
    let timed = |op: &'o Op<'o>, did: Option<&'o str>| did.map(|did| (did, op.time));
    let of_kept = kept
        .iter()
        .flat_map(|op| <[_; 2]>::from(op.users()).map(|did| timed(op, did)));
    let of_ignored = ignored.iter().map(|op| timed(op, op.users().0));
    of_kept.chain(of_ignored).flatten().collect()
}

/// Runs `work` in a transaction, which is rolled back too if what it took for granted about other processes does not hold
/// at its end.
fn transaction_of<T>(
    client: &mut Client,
    member: Option<&Member>,
    work: impl FnOnce(&mut Client, Mode) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    let mode = member.map_or(Mode::Alone, Member::mode);
    transaction(client, |client| {
        let value = work(client, mode)?;
        member.map_or(Ok(()), |member| member.check(client, mode))?;
        Ok(value)
    })
}

fn write(client: &mut Client, changes: &Changes, writing: Writing) -> Result<RecordCounts, ApplyError> {
    let Writing {
        write_mode, page_keys, ..
    } = writing;
    // What pairs meet in the database outlives the effects, which borrow from it.
    let mut conflicts = Vec::with_capacity(PairTable::ALL.len());
    let mut effects = Effects::new(writing.switches);
    pairs::lock(client, changes)?;
    let mut freed = delete(client, changes, &mut effects)?;
    posts::put(client, &changes.posts.put, write_mode, &mut effects)?;
    for table in PairTable::ALL {
        let rows = &changes.pair(table).put;
        let freed = freed.remove(&table).unwrap_or_default();
        if let Some(others) = pairs::insert(client, table, rows, freed, write_mode, &mut effects)? {
            conflicts.push((table, others));
        }
    }
    if writing.mode != Mode::Alone {
        versions::place(
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
        pairs::settle(client, *table, items, conflicts, &mut effects)?;
    }
    keyed::write(client, changes)?;
    effects.write_rows(client, write_mode, page_keys)?;
    if writing.with_counters {
        effects.finish(client)
    } else {
        Ok(RecordCounts::default())
    }
}

/// Deletes posts and rows of pairs with their notifications; returns the pairs for which other records wait.
fn delete<'e>(client: &mut Client, changes: &Changes<'e>, effects: &mut Effects<'e>) -> Result<Freed, ApplyError> {
    let mut notifications = posts::delete(client, &changes.posts.deleted, effects)?;
    let mut gone = Vec::new();
    let mut deleted = Vec::new();
    for table in PairTable::ALL {
        let uris = &changes.pair(table).deleted;
        gone.extend(pairs::delete(client, table, uris, effects)?);
        notifications.extend(uris.iter().filter_map(|uri| effects::pair_notification_uri(table, uri)));
        // The app may have deleted the row alone; the item is found by the record's own URI.
        if table == PairTable::Reposts {
            uris.iter().for_each(|uri| effects.feed_item_gone(Cow::Borrowed(uri)));
        }
        deleted.extend(uris.iter().copied());
    }
    gone.extend(delete_notifications(client, notifications, changes, &gone, effects)?);
    gone.extend(pairs::delete_forgotten(client, changes, &gone, effects)?);
    pairs::take_rivals(client, &deleted, &gone)
}

/// Deletes the notifications of deleted records; returns the rows of pairs that only they still tell of.
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
