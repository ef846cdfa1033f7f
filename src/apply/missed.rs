//! The notifications that stored rows cause, for recipients that got none when the rows were written.
//!
//! Owns what differs from the notifications of a batch. Their causes are read from the tables, so that the CIDs of likes
//! and follows, for which their tables have no column, are unknown. Each is dated as its cause and not by the clock, and
//! is read if its recipient has seen later ones.
//!
//! Invariant: a notification is written while its cause is locked. A worker that deletes or changes the cause at the
//! same time finds the notification afterwards.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::effects::{self, Notification, PostCauses};
use super::{pairs, posts};
use crate::decode::text::fits;
use crate::entry::Position;
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::rows::{Mention, PairTable, URI_MAX};

/// The recipients of missed notifications.
pub struct Recipients<'r> {
    pub dids: &'r HashSet<String>,
    /// The text of the statement that reads until when they have seen their notifications.
    pub seen: &'r str,
}

/// A notification, with the time of its cause.
type Dated<'n> = (Notification<'n>, Micros);

/// The maximum number of milliseconds by which notifications of a recipient with one time are moved apart.
const MAX_MOVES: usize = 1000;

/// Writes the notifications that rows of a table of pairs cause. Returns the number of rows written.
pub fn notify_of_pairs(
    client: &mut Client,
    table: PairTable,
    uris: &[String],
    recipients: &Recipients,
) -> Result<u64, ApplyError> {
    let uris: HashSet<&str> = uris.iter().map(String::as_str).collect();
    let mut rows = pairs::read_stored(client, table, &uris, &BTreeSet::new())?;
    if table == PairTable::Reposts {
        let mut cids = cids_of_reposts(client, &uris)?;
        for row in &mut rows {
            row.cid = Cow::Owned(cids.remove(row.uri.as_ref()).unwrap_or_default());
        }
    }
    let caused = rows
        .iter()
        .filter_map(|row| Some((effects::pair_notification(table, row)?, row.indexed_at)));
    write(client, caused, recipients)
}

fn cids_of_reposts(client: &mut Client, uris: &HashSet<&str>) -> Result<HashMap<String, String>, ApplyError> {
    let rows = Params::new()
        .texts(uris.iter().copied())
        .query(client, sql::FILL_CIDS_READ)?;
    rows.iter().map(|row| Ok((row.get("uri")?, row.get("cid")?))).collect()
}

/// A stored post.
struct Stored {
    uri: String,
    cid: String,
    author_did: String,
    parent_uri: Option<String>,
    quoted_uri: Option<String>,
    mentions: Vec<Mention<'static>>,
    created_at: Micros,
    indexed_at: Micros,
}

/// Writes the notifications that posts cause. Returns the number of rows written.
pub fn notify_of_posts(client: &mut Client, uris: &[String], recipients: &Recipients) -> Result<u64, ApplyError> {
    let uris: BTreeSet<&str> = uris.iter().map(String::as_str).collect();
    let posts = read_posts(client, &uris)?;
    let caused = posts.iter().flat_map(|post| {
        let causes = PostCauses {
            uri: &post.uri,
            cid: &post.cid,
            author_did: &post.author_did,
            parent_uri: post.parent_uri.as_deref(),
            quoted_uri: post.quoted_uri.as_deref(),
            mentions: &post.mentions,
            created_at: post.created_at,
            position: Position::FIRST,
        };
        effects::notifications_of(&causes)
            .into_iter()
            .map(|notification| (notification, post.indexed_at))
    });
    write(client, caused, recipients)
}

fn read_posts(client: &mut Client, uris: &BTreeSet<&str>) -> Result<Vec<Stored>, ApplyError> {
    let rows = Params::new()
        .texts(uris.iter().copied())
        .query(client, sql::FILL_POSTS_READ)?;
    let read = rows.iter().map(|row| {
        let facets: Option<&str> = row.get("facets")?;
        let mentions = facets.map(posts::stored_mentions).unwrap_or_default();
        Ok(Stored {
            uri: row.get("uri")?,
            cid: row.get("cid")?,
            author_did: row.get("author_did")?,
            parent_uri: row.get("parent_uri")?,
            quoted_uri: row.get::<_, Option<&str>>("embed")?.and_then(posts::stored_quoted),
            mentions: mentions.into_iter().map(Cow::Owned).collect(),
            created_at: row.get("created_at")?,
            indexed_at: row.get("indexed_at")?,
        })
    });
    read.collect()
}

fn write<'n>(
    client: &mut Client,
    caused: impl Iterator<Item = Dated<'n>>,
    recipients: &Recipients,
) -> Result<u64, ApplyError> {
    let wanted = caused.filter(|(notification, _)| {
        recipients.dids.contains(notification.recipient_did.as_ref()) && fits(&notification.uri, URI_MAX)
    });
    let mut wanted: BTreeMap<String, Dated> = wanted.map(|dated| (dated.0.uri.clone(), dated)).collect();
    if wanted.is_empty() {
        return Ok(0);
    }
    move_apart(client, &mut wanted)?;
    let seen_at = read_seen(client, &wanted, recipients.seen)?;
    let items = || wanted.values().map(|(notification, _)| notification);
    let is_read = |(notification, time): &Dated| {
        let seen_at = seen_at.get(notification.recipient_did.as_ref());
        seen_at.is_some_and(|seen_at| time <= seen_at)
    };
    Params::new()
        .texts(wanted.keys())
        .texts(items().map(|item| &item.recipient_did))
        .texts(items().map(|item| &item.author_did))
        .texts(items().map(|item| item.reason))
        .optional_texts(items().map(|item| &item.reason_subject))
        .optional_texts(items().map(|item| &item.cid))
        .times(items().map(|item| item.created_at))
        .times(wanted.values().map(|(_, time)| *time))
        .bools(wanted.values().map(is_read))
        .execute(client, sql::FILL_NOTIFICATIONS_UPSERT)
}

/// Gives each notification of a recipient a millisecond of its own, since readers page by it (`page_keys`).
fn move_apart(client: &mut Client, wanted: &mut BTreeMap<String, Dated>) -> Result<(), ApplyError> {
    for _ in 0..MAX_MOVES {
        let items = || wanted.values();
        let rows = Params::new()
            .texts(items().map(|(notification, _)| &notification.recipient_did))
            .times(items().map(|(_, time)| *time))
            .texts(wanted.keys())
            .query(client, sql::FILL_TIMES_TAKEN)?;
        let taken = rows
            .iter()
            .map(|row| Ok((row.get("recipient_did")?, row.get("indexed_at")?)));
        let mut taken: HashSet<(String, Micros)> = taken.collect::<Result<_, ApplyError>>()?;
        let mut has_moved = false;
        for (notification, time) in wanted.values_mut() {
            while !taken.insert((notification.recipient_did.to_string(), *time)) {
                *time = Micros::of_millis(time.millis() + 1);
                has_moved = true;
            }
        }
        if !has_moved {
            break;
        }
    }
    Ok(())
}

/// Until when recipients have seen their notifications.
fn read_seen(
    client: &mut Client,
    wanted: &BTreeMap<String, Dated>,
    statement: &str,
) -> Result<HashMap<String, Micros>, ApplyError> {
    let dids: BTreeSet<&str> = wanted.values().map(|(item, _)| item.recipient_did.as_ref()).collect();
    let rows = Params::new()
        .texts(dids.iter().copied())
        .query_filled(client, sql::FILL_SEEN_READ, statement)?;
    let mut seen = HashMap::new();
    for row in &rows {
        if let Some(seen_at) = row.get("seen_at")? {
            seen.insert(row.get("did")?, seen_at);
        }
    }
    Ok(seen)
}
