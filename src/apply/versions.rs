//! The position of the last op on each record, used while several processes may apply the ops of one repo in any
//! order. Also, always, the position of the last identity event that assigned each handle.
//!
//! Owns a batch's part of `firehose_worker.versions`: which ops are too late because a later op on their record has
//! been applied, and the positions at which stored pair rows were put.
//!
//! Invariant: the version rows of the batch's repos are locked from here to the commit. Two transactions on one repo
//! therefore run one after the other, and no later statement of the transaction meets another process in the rows of
//! its repos.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::entry::{EntryId, Position};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::rows::{Change, Op, PairRow, Row as Values};

/// The last op on one record.
struct Last<'o> {
    position: Position,
    is_deleted: bool,
    cid: Option<&'o str>,
}

/// The ops that are not too late, in stream order. The input may be out of order: entries claimed from another process
/// may follow later ones.
///
/// An op is late if a later op on its record has been applied. The version of that later op is kept as long as any
/// member holds the entry of an earlier one. An op is also late if every entry up to it has been applied before: a
/// Redis that went back to an older state may list an entry as pending although a later entry was acknowledged and its
/// version pruned.
pub fn timely<'o>(client: &mut Client, ops: &[&'o Op<'o>], member: i64) -> Result<Vec<&'o Op<'o>>, ApplyError> {
    if ops.is_empty() {
        return Ok(Vec::new());
    }
    let mut ops = ops.to_vec();
    ops.sort_by_key(|op| op.position);
    let keys: Vec<String> = ops.iter().map(|op| key(op)).collect();
    let mut lasts: BTreeMap<&str, Last<'o>> = BTreeMap::new();
    for (op, key) in ops.iter().zip(&keys) {
        lasts.insert(key, Last::of(op));
        lasts.insert(op.repo.as_ref(), Last::of_repo(op));
    }
    let taken = take(client, &lasts)?;
    let settled = read_settled(client, member)?;
    let is_timely = |op: &Op, key: &str| taken.contains(key) && op.position.entry >= settled;
    let timely = ops.into_iter().zip(&keys).filter(|(op, key)| is_timely(op, key));
    Ok(timely.map(|(op, _)| op).collect())
}

impl<'o> Last<'o> {
    fn of(op: &'o Op<'o>) -> Self {
        let cid = match &op.change {
            Change::Put(Values::Pair(row)) => Some(row.cid.as_ref()),
            _ => None,
        };
        Last {
            position: op.position,
            is_deleted: matches!(op.change, Change::Delete),
            cid,
        }
    }

    fn of_repo(op: &Op) -> Self {
        Last {
            position: op.position,
            is_deleted: false,
            cid: None,
        }
    }
}

/// The record's URI, whatever the key of its row. An identity event has no record; its key is the repo's URI with an
/// empty path.
fn key(op: &Op) -> String {
    format!("at://{}/{}", op.repo, op.path)
}

/// Takes the positions of handles. Returns the handles that no later event has assigned.
pub fn take_positions<'o>(
    client: &mut Client,
    positions: impl Iterator<Item = (&'o str, Position)>,
) -> Result<HashSet<String>, ApplyError> {
    let last = |position| Last {
        position,
        is_deleted: false,
        cid: None,
    };
    take(
        client,
        &positions.map(|(handle, position)| (handle, last(position))).collect(),
    )
}

fn take(client: &mut Client, lasts: &BTreeMap<&str, Last>) -> Result<HashSet<String>, ApplyError> {
    let positions = || lasts.values().map(|last| last.position);
    let cids: Vec<Option<&str>> = lasts.values().map(|last| last.cid).collect();
    let rows = Params::new()
        .texts(lasts.keys().copied())
        .longs(positions().map(|position| position.entry.ms as i64))
        .longs(positions().map(|position| position.entry.n as i64))
        .ints(positions().map(|position| position.op as i32))
        .bools(lasts.values().map(|last| last.is_deleted))
        .optional_texts(cids.iter())
        .query(client, sql::VERSIONS_TAKE)?;
    rows.iter().map(|row| row.get(0)).collect()
}

fn read_settled(client: &mut Client, member: i64) -> Result<EntryId, ApplyError> {
    let rows = Params::new().long(member).query(client, sql::MEMBERS_SETTLED)?;
    // A process that was removed from the group has no row; `Member::check` fails its transaction before the commit.
    rows.first()
        .map_or(Ok(EntryId::ZERO), |row| row.entry_id("settled_ms", "settled_n"))
}

/// Sets the positions at which stored pair rows were put, and the CIDs for which their tables have no column. A row
/// without a version was put before every op that is not yet acknowledged; `pairs::plan` relies on this.
pub fn set_positions(client: &mut Client, mut rows: Vec<&mut PairRow<'static>>) -> Result<(), ApplyError> {
    if rows.is_empty() {
        return Ok(());
    }
    let answer = Params::new()
        .texts(rows.iter().map(|row| &row.uri))
        .query(client, sql::VERSIONS_POSITIONS)?;
    let positions = answer.iter().map(|row| Ok((row.get("key")?, row)));
    let positions: HashMap<&str, &Row> = positions.collect::<Result<_, ApplyError>>()?;
    for row in &mut rows {
        let Some(version) = positions.get(row.uri.as_ref()) else {
            continue;
        };
        row.position = version.position()?;
        if let (true, Some(cid)) = (row.cid.is_empty(), version.get::<_, Option<String>>("cid")?) {
            row.cid = Cow::Owned(cid);
        }
    }
    Ok(())
}
