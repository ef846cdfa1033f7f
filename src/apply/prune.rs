//! Deletes posts, and rows about posts, whose records still exist.
//!
//! Owns what a transaction of `prune` deletes and in which order: that of a batch of deletes, so that workers and prune
//! lock rows in the same order. Which posts go is decided in `commands::prune`.
//!
//! Invariant: no row stays that counts nowhere or has lost what it belongs to. A post goes only in the transaction that
//! finds nothing else about it, except posts that answer or quote it; as long as there are some, its counters stay.

use std::collections::{BTreeMap, HashSet};

use super::effects::{self, Effects};
use super::scope::Scope;
use super::{pairs, posts};
use crate::metrics::RecordCounts;
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql::{self, Statement};
use crate::postgres::templates;
use crate::rows::{KEYED_TABLES, PairTable};

/// The tables of pairs about posts.
const PAIRS: [PairTable; 3] = [PairTable::Likes, PairTable::Reposts, PairTable::Bookmarks];

/// The keyed tables whose rows belong to a post.
const GATES: [&str; 2] = ["thread_gates", "post_gates"];

/// Posts to delete, or posts that are not stored and about which there are rows.
#[derive(Clone, Copy)]
pub struct Subjects<'s> {
    /// Sorted.
    pub uris: &'s [String],
    /// Whether the posts themselves are to be deleted, with rows of any age. Otherwise only rows go that were indexed
    /// before the limit.
    pub are_stored: bool,
    pub limit: Micros,
    /// The maximum number of likes, reposts, bookmarks, and of viewer states and feed items without one of them.
    pub n_rows: usize,
}

/// What a transaction has deleted.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The number of rows, by table.
    pub rows: BTreeMap<&'static str, u64>,
    pub record_counts: RecordCounts,
    /// There are more rows than a transaction deletes, so no post was deleted.
    pub has_more: bool,
    /// The posts that stay because a local account has touched them meanwhile.
    pub n_kept: u64,
}

impl Pruned {
    fn add(&mut self, table: &'static str, n_rows: u64) {
        if n_rows > 0 {
            *self.rows.entry(table).or_default() += n_rows;
        }
    }
}

/// The rows about the posts, apart from those of other posts.
#[derive(Default)]
struct Found {
    pairs: Vec<Pair>,
    states: Vec<State>,
    /// Those that belong to no stored post or repost, each after its subject.
    feed_items: Vec<(String, String)>,
}

struct Pair {
    table: PairTable,
    uri: String,
    subject: String,
}

impl Pair {
    fn read(row: &Row) -> Result<Pair, ApplyError> {
        let name: &str = row.get("table_name")?;
        Ok(Pair {
            table: PairTable::of_name(name).ok_or(ApplyError::Vanished("likes"))?,
            uri: row.get("uri")?,
            subject: row.get("key_b")?,
        })
    }
}

/// The key of a viewer state: post and viewer.
pub type State = (String, String);

/// Deletes rows about posts, and the posts if nothing else is left about them.
///
/// # Errors
///
/// Fails if a statement fails; the caller's transaction must then be rolled back.
pub fn prune(client: &mut Client, subjects: Subjects) -> Result<Pruned, ApplyError> {
    let mut pruned = Pruned::default();
    let (mut found, has_more) = find(client, subjects)?;
    pruned.has_more = has_more;
    // After the rows were read: a like by a local account that is not among them is seen here.
    let kept = match subjects.are_stored && !has_more {
        true => touched(client, subjects.uris, subjects.limit)?,
        false => HashSet::new(),
    };
    pruned.n_kept = kept.len() as u64;
    found.pairs.retain(|pair| !kept.contains(&pair.subject));
    found.states.retain(|(subject, _)| !kept.contains(subject));
    found.feed_items.retain(|(subject, _)| !kept.contains(subject));
    let uris: Vec<&str> = subjects.uris.iter().map(String::as_str).collect();
    let uris: Vec<&str> = uris.into_iter().filter(|uri| !kept.contains(*uri)).collect();
    delete(client, subjects, &uris, &found, &mut pruned)?;
    Ok(pruned)
}

/// Reads what there is about the posts, up to the maximum. Returns whether there may be more.
fn find(client: &mut Client, subjects: Subjects) -> Result<(Found, bool), ApplyError> {
    let uris = || Params::new().texts(subjects.uris.iter());
    // Those of a post go at any age.
    let limit = if subjects.are_stored {
        Micros::INFINITY
    } else {
        subjects.limit
    };
    let mut room = subjects.n_rows;
    let mut found = Found::default();
    let rows = uris()
        .time(limit)
        .long(room as i64)
        .query(client, sql::PRUNE_PAIRS_FIND)?;
    room -= rows.len();
    found.pairs = rows.iter().map(Pair::read).collect::<Result<_, _>>()?;
    if room > 0 {
        found.states = states(client, subjects.uris, room)?;
        room -= found.states.len();
    }
    if room > 0 {
        let rows = uris()
            .time(limit)
            .long(room as i64)
            .query(client, sql::PRUNE_FEED_ITEMS_FIND)?;
        room -= rows.len();
        found.feed_items = rows
            .iter()
            .map(|row| Ok((row.get(1)?, row.get(0)?)))
            .collect::<Result<_, _>>()?;
    }
    Ok((found, room == 0))
}

/// The viewer states of posts that stand for no like, repost or bookmark.
fn states<T: AsRef<str>>(client: &mut Client, uris: &[T], n_rows: usize) -> Result<Vec<State>, ApplyError> {
    let rows = Params::new()
        .texts(uris.iter())
        .long(n_rows as i64)
        .query(client, sql::PRUNE_STATES_FIND)?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// The posts that a local account has liked, reposted, bookmarked, quoted or answered, or that were first indexed at
/// the limit or later.
///
/// # Errors
///
/// Fails if the statement fails.
pub fn touched<T: AsRef<str>>(client: &mut Client, uris: &[T], limit: Micros) -> Result<HashSet<String>, ApplyError> {
    let rows = Params::new()
        .texts(uris.iter())
        .time(limit)
        .query(client, sql::PRUNE_TOUCHED_FIND)?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// Deletes in the order of tables that every worker follows.
fn delete(
    client: &mut Client,
    subjects: Subjects,
    uris: &[&str],
    found: &Found,
    pruned: &mut Pruned,
) -> Result<(), ApplyError> {
    let scope = Scope::none();
    let mut effects = Effects::new(&scope);
    let deletes_posts = subjects.are_stored && !pruned.has_more;
    let mut notifications = Vec::new();
    if deletes_posts {
        let posts = posts::delete(client, uris, &mut effects)?;
        pruned.add("quotes", posts.n_quotes);
        pruned.add("thread_contexts", posts.n_contexts);
        notifications = posts.notifications;
    }
    let gone = delete_pairs(client, found, &mut notifications, &mut effects, pruned)?;
    notifications.sort_unstable();
    pruned.add("notifications", delete_notifications(client, &notifications)?);
    pruned.add("firehose_worker.rivals", forget_rivals(client, &gone)?);
    if deletes_posts {
        for table in KEYED_TABLES.iter().filter(|table| GATES.contains(&table.name)) {
            let n_rows = execute(client, templates::keyed(table).delete, uris)?;
            pruned.add(table.name, n_rows);
        }
    }
    let items = found.feed_items.iter();
    items.for_each(|(_, uri)| effects.feed_item_gone(uri.as_str().into()));
    pruned.add("post_viewer_states", effects.delete_rows(client, &found.states)?);
    // Also creates and locks the counters, until the end of the transaction.
    if !pruned.has_more {
        uris.iter().for_each(|uri| effects.recount_all(uri));
    }
    let mut counts = effects.finish(client)?;
    if !pruned.has_more {
        // Those that an unlike has emptied since they were read. A worker that changes more of them waits for the lock of
        // the counters, and then creates the counters again.
        let states = states(client, uris, subjects.n_rows)?;
        pruned.add("post_viewer_states", effects::delete_states(client, states.iter())?);
        counts.post_aggregations -= execute(client, sql::PRUNE_COUNTERS_DELETE, uris)? as i64;
    }
    pruned.add("post_aggregations", counts.post_aggregations.min(0).unsigned_abs());
    pruned.add("posts", counts.posts.unsigned_abs());
    pruned.add("feed_items", counts.feed_items.unsigned_abs());
    pruned.record_counts = counts;
    Ok(())
}

fn delete_pairs<'f>(
    client: &mut Client,
    found: &'f Found,
    notifications: &mut Vec<String>,
    effects: &mut Effects<'f>,
    pruned: &mut Pruned,
) -> Result<Vec<pairs::DeletedRow>, ApplyError> {
    let mut gone = Vec::new();
    for table in PAIRS {
        let of_table = found.pairs.iter().filter(|pair| pair.table == table);
        let mut uris: Vec<&str> = of_table.map(|pair| pair.uri.as_str()).collect();
        uris.sort_unstable();
        let rows = pairs::delete(client, table, &uris, effects)?;
        pruned.add(table.name(), rows.len() as u64);
        notifications.extend(uris.iter().filter_map(|uri| effects::pair_notification_uri(table, uri)));
        gone.extend(rows);
    }
    Ok(gone)
}

/// Deletes notifications by their URIs, which are sorted; returns how many there were.
///
/// # Errors
///
/// Fails if the statement fails.
pub fn delete_notifications(client: &mut Client, uris: &[String]) -> Result<u64, ApplyError> {
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    execute(client, sql::NOTIFICATIONS_DELETE, &uris)
}

/// Forgets all records of pairs whose rows are gone, so that none of them takes the row's place.
fn forget_rivals(client: &mut Client, gone: &[pairs::DeletedRow]) -> Result<u64, ApplyError> {
    if gone.is_empty() {
        return Ok(0);
    }
    let mut pairs: Vec<(&str, &str, &str)> = gone
        .iter()
        .map(|row| (row.table.name(), row.key_a.as_str(), row.key_b.as_str()))
        .collect();
    pairs.sort_unstable();
    Params::new()
        .texts(pairs.iter().map(|(table, _, _)| *table))
        .texts(pairs.iter().map(|(_, key_a, _)| *key_a))
        .texts(pairs.iter().map(|(_, _, key_b)| *key_b))
        .execute(client, sql::PRUNE_RIVALS_DELETE)
}

fn execute(client: &mut Client, statement: Statement, uris: &[&str]) -> Result<u64, ApplyError> {
    match uris {
        [] => Ok(0),
        uris => Params::new().texts(uris.iter().copied()).execute(client, statement),
    }
}
