//! The place of the last op on each record, while several processes apply ops of one repo in any order, and of the last
//! identity event that gave each handle away, always.
//!
//! Owns `firehose_worker.versions` as far as a batch goes: which of its ops come too late since a later one of their record
//! has been applied, and where in the stream the rows that records of a pair meet were put.
//!
//! Invariant: the rows of the batch's repos are locked from here to the commit, so that two transactions on one repo come
//! one after the other, and no statement after this meets another process in the rows of its repos.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use postgres::Client;

use crate::entry::{EntryId, Position};
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::rows::{Change, Op, PairRow, Row as Values};

/// The last op on one record.
struct Last<'o> {
    place: Position,
    is_deleted: bool,
    cid: Option<&'o str>,
}

/// The ops that do not come too late, in stream order: those taken over from another process may stand behind later ones.
///
/// An op is late if a later one of its record has been applied: the version of that is there for as long as a member holds
/// the entry of an earlier one. It is late too if everything up to it was applied once: a Redis that has gone back may know an
/// entry as pending and a later one as acknowledged, whose version is pruned.
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
            place: op.position,
            is_deleted: matches!(op.change, Change::Delete),
            cid,
        }
    }

    fn of_repo(op: &Op) -> Self {
        Last {
            place: op.position,
            is_deleted: false,
            cid: None,
        }
    }
}

/// The record's URI, whatever the key of its row; of an identity event, which is no record, the repo's with no path.
fn key(op: &Op) -> String {
    format!("at://{}/{}", op.repo, op.path)
}

/// Takes places of handles; returns the handles that no later event has given away.
pub fn take_places<'o>(
    client: &mut Client,
    places: impl Iterator<Item = (&'o str, Position)>,
) -> Result<HashSet<String>, ApplyError> {
    let last = |place| Last {
        place,
        is_deleted: false,
        cid: None,
    };
    take(client, &places.map(|(handle, place)| (handle, last(place))).collect())
}

fn take(client: &mut Client, lasts: &BTreeMap<&str, Last>) -> Result<HashSet<String>, ApplyError> {
    let places = || lasts.values().map(|last| last.place);
    let cids: Vec<Option<&str>> = lasts.values().map(|last| last.cid).collect();
    let rows = Params::new()
        .texts(lasts.keys().copied())
        .longs(places().map(|place| place.entry.ms as i64))
        .longs(places().map(|place| place.entry.n as i64))
        .ints(places().map(|place| place.op as i32))
        .bools(lasts.values().map(|last| last.is_deleted))
        .optional_texts(cids.iter())
        .query(client, sql::VERSIONS_TAKE)?;
    rows.iter().map(|row| row.get(0)).collect()
}

fn read_settled(client: &mut Client, member: i64) -> Result<EntryId, ApplyError> {
    let rows = Params::new().long(member).query(client, sql::MEMBERS_SETTLED)?;
    // A process that was taken out has no row; the look before the commit says so.
    rows.first()
        .map_or(Ok(EntryId::ZERO), |row| row.entry_id("settled_ms", "settled_n"))
}

/// Gives stored rows of pairs the places at which they were put, and the CIDs that their tables have no column for. A row
/// without a version was put before every op that is not yet acknowledged, as `pairs::plan` takes it.
pub fn place(client: &mut Client, mut rows: Vec<&mut PairRow<'static>>) -> Result<(), ApplyError> {
    if rows.is_empty() {
        return Ok(());
    }
    let answer = Params::new()
        .texts(rows.iter().map(|row| &row.uri))
        .query(client, sql::VERSIONS_PLACES)?;
    let places = answer.iter().map(|row| Ok((row.get("key")?, row)));
    let places: HashMap<&str, &Row> = places.collect::<Result<_, ApplyError>>()?;
    for row in &mut rows {
        let Some(version) = places.get(row.uri.as_ref()) else {
            continue;
        };
        row.position = version.position()?;
        if let (true, Some(cid)) = (row.cid.is_empty(), version.get::<_, Option<String>>("cid")?) {
            row.cid = Cow::Owned(cid);
        }
    }
    Ok(())
}
