//! The steps of a round: for each kind of row that an account can have missed, how its causes are found and written.
//!
//! Owns the walk within one step, by the order of an existing index. A row can be found by the account that it concerns
//! because the owner of a record is the authority of its URI. The URIs of an account's posts lie between two texts,
//! whatever the collation: `/` sorts before `0`, and both before or after the characters of another DID.

use std::collections::{BTreeMap, HashSet};

use super::states;
use crate::apply::missed::{Recipients, notify_of_pairs, notify_of_posts};
use crate::apply::posts_that_mention;
use crate::job::yielding;
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql::{self, Statement};
use crate::postgres::templates;
use crate::rows::PairTable;

/// Rows in a slice, and thus in a transaction.
const SLICE: i64 = 1000;

/// Posts in a slice of those that may mention an account; few do.
const MENTIONS_SLICE: i64 = 5000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Notifications,
    ViewerStates,
}

/// The accounts of a round, and what is read for them.
pub struct Round {
    pub dids: HashSet<String>,
    /// Notifications are filled of records that were indexed from then on.
    pub since: Micros,
    /// The text of the statement that reads until when accounts have seen their notifications.
    pub seen: String,
}

impl Round {
    fn recipients(&self) -> Recipients<'_> {
        Recipients {
            dids: &self.dids,
            seen: &self.seen,
        }
    }
}

/// A slice of causes.
pub struct Found {
    /// The key of the last row.
    pub last: Vec<String>,
    /// The URIs of the rows that may cause something; for viewer states those of the posts.
    pub uris: Vec<String>,
}

type Find = fn(&mut Client, &Round, &str, &[String]) -> Result<Option<Found>, ApplyError>;

type Write = fn(&mut Client, &Round, &str, &[String]) -> Result<u64, ApplyError>;

pub struct Step {
    /// Its name in the log and the stored progress.
    pub name: &'static str,
    pub kind: Kind,
    /// Whether the step walks through the rows of one account after the other, and not through all at once.
    pub of_each: bool,
    /// Finds the slice of an account after a key, which is empty at first. `None` if no rows are left.
    pub find: Find,
    /// Writes what the rows with these URIs have caused.
    pub write: Write,
}

/// In the order of the walk. Mentions come last, because they are looked for in all recent posts.
pub static STEPS: [Step; 9] = [
    states_step("viewer states of likes", |client, _, did, after| {
        find_subjects(client, PairTable::Likes, did, after)
    }),
    states_step("viewer states of reposts", |client, _, did, after| {
        find_subjects(client, PairTable::Reposts, did, after)
    }),
    states_step("viewer states of bookmarks", |client, _, did, after| {
        find_subjects(client, PairTable::Bookmarks, did, after)
    }),
    step(
        "likes",
        |client, round, did, after| find_about(client, PairTable::Likes, round, did, after),
        |client, round, _, uris| write_pairs(client, PairTable::Likes, round, uris),
    ),
    step(
        "reposts",
        |client, round, did, after| find_about(client, PairTable::Reposts, round, did, after),
        |client, round, _, uris| write_pairs(client, PairTable::Reposts, round, uris),
    ),
    step("follows", find_follows, |client, round, _, uris| {
        write_pairs(client, PairTable::Follows, round, uris)
    }),
    step("replies", find_replies, write_posts),
    step("quotes", find_quotes, write_posts),
    Step {
        of_each: false,
        ..step("mentions", find_mentions, write_posts)
    },
];

const fn step(name: &'static str, find: Find, write: Write) -> Step {
    Step {
        name,
        kind: Kind::Notifications,
        of_each: true,
        find,
        write,
    }
}

const fn states_step(name: &'static str, find: Find) -> Step {
    Step {
        kind: Kind::ViewerStates,
        ..step(name, find, write_states)
    }
}

/// The text of the statement that reads until when accounts have seen their notifications. Some versions of the AppView
/// store that time.
pub fn statement_of_seen(client: &mut Client) -> Result<String, ApplyError> {
    const TABLE: &str = "user_preferences";
    const COLUMN: &str = "last_notification_seen_at";
    let rows = Params::new()
        .texts([TABLE].into_iter())
        .texts([COLUMN].into_iter())
        .query(client, sql::LOCAL_TABLES)?;
    let is_readable = rows.first().map_or(Ok(false), |row| row.get("is_readable"))?;
    let stored = match is_readable {
        true => format!("(SELECT max({COLUMN}) FROM {TABLE} WHERE user_did = account.did)"),
        false => "NULL".to_owned(),
    };
    Ok(sql::FILL_SEEN_READ.text.replace("{stored}", &stored))
}

/// The texts between which the URIs of an account's posts are.
fn posts_of(did: &str) -> (String, String) {
    let posts = format!("at://{did}/app.bsky.feed.post");
    (format!("{posts}/"), format!("{posts}0"))
}

fn find_about(
    client: &mut Client,
    table: PairTable,
    round: &Round,
    did: &str,
    after: &[String],
) -> Result<Option<Found>, ApplyError> {
    match templates::pair(table).about {
        Some(find) => find_between(client, find, "post_uri", "uri", posts_of(did), round, after),
        None => Ok(None),
    }
}

/// Replies to any record of the account.
fn find_replies(client: &mut Client, round: &Round, did: &str, after: &[String]) -> Result<Option<Found>, ApplyError> {
    let between = (format!("at://{did}/"), format!("at://{did}0"));
    find_between(
        client,
        sql::FILL_REPLIES_FIND,
        "parent_uri",
        "uri",
        between,
        round,
        after,
    )
}

fn find_quotes(client: &mut Client, round: &Round, did: &str, after: &[String]) -> Result<Option<Found>, ApplyError> {
    let between = posts_of(did);
    find_between(
        client,
        sql::FILL_QUOTES_FIND,
        "quoted_uri",
        "post_uri",
        between,
        round,
        after,
    )
}

/// Finds rows about records whose URIs lie between two texts. `subject` is the column with such a URI, `cause` the one
/// with the URI of the record that causes the notification.
fn find_between(
    client: &mut Client,
    statement: Statement,
    subject: &'static str,
    cause: &'static str,
    (low, high): (String, String),
    round: &Round,
    after: &[String],
) -> Result<Option<Found>, ApplyError> {
    let (after_subject, after_uri) = (text_at(after, 0), text_at(after, 1));
    let rows = Params::new()
        .text(&low)
        .text(&high)
        .text(after_subject)
        .text(after_uri)
        .time(round.since)
        .long(SLICE)
        .query(client, statement)?;
    found(&rows, &[subject, "uri"], cause)
}

fn find_follows(client: &mut Client, round: &Round, did: &str, after: &[String]) -> Result<Option<Found>, ApplyError> {
    let rows = Params::new()
        .text(did)
        .text(text_at(after, 0))
        .time(round.since)
        .long(SLICE)
        .query(client, sql::FILL_FOLLOWS_FIND)?;
    found(&rows, &["uri"], "uri")
}

/// The slice in which `rows` are, of which the recent ones matter.
fn found(rows: &[Row], key: &[&'static str], cause: &'static str) -> Result<Option<Found>, ApplyError> {
    let Some(last) = rows.last() else { return Ok(None) };
    let mut uris = Vec::new();
    for row in rows {
        if row.get("is_recent")? {
            uris.push(row.get(cause)?);
        }
    }
    Ok(Some(Found {
        last: key.iter().map(|column| last.get(*column)).collect::<Result<_, _>>()?,
        uris,
    }))
}

/// Looks through all recent posts, because no index leads to those that mention an account.
fn find_mentions(client: &mut Client, round: &Round, _: &str, after: &[String]) -> Result<Option<Found>, ApplyError> {
    let from = after
        .first()
        .and_then(|time| time.parse().ok())
        .map_or(round.since, Micros);
    let rows = Params::new()
        .time(from)
        .text(text_at(after, 1))
        .long(MENTIONS_SLICE)
        .query(client, sql::FILL_MENTIONS_FIND)?;
    let Some(first) = rows.first() else { return Ok(None) };
    let Micros(time) = first.get("last_indexed_at")?;
    let last = vec![time.to_string(), first.get("last_uri")?];
    let mut facets: BTreeMap<String, &str> = BTreeMap::new();
    for row in &rows {
        if let (Some(uri), Some(text)) = (row.get("uri")?, row.get("facets")?) {
            facets.insert(uri, text);
        }
    }
    let uris = posts_that_mention(&round.dids, facets);
    Ok(Some(Found { last, uris }))
}

fn find_subjects(
    client: &mut Client,
    table: PairTable,
    did: &str,
    after: &[String],
) -> Result<Option<Found>, ApplyError> {
    let Some(find) = templates::pair(table).subjects else {
        return Ok(None);
    };
    let rows = Params::new()
        .text(did)
        .text(text_at(after, 0))
        .long(SLICE)
        .query(client, find)?;
    let uris: Vec<String> = rows.iter().map(|row| row.get("post_uri")).collect::<Result<_, _>>()?;
    let last = uris.last().map(|uri| vec![uri.clone()]);
    Ok(last.map(|last| Found { last, uris }))
}

fn text_at(key: &[String], index: usize) -> &str {
    key.get(index).map_or("", String::as_str)
}

fn write_pairs(client: &mut Client, table: PairTable, round: &Round, uris: &[String]) -> Result<u64, ApplyError> {
    yielding(client, |client| {
        notify_of_pairs(client, table, uris, &round.recipients())
    })
}

fn write_posts(client: &mut Client, round: &Round, _: &str, uris: &[String]) -> Result<u64, ApplyError> {
    yielding(client, |client| notify_of_posts(client, uris, &round.recipients()))
}

fn write_states(client: &mut Client, _: &Round, did: &str, posts: &[String]) -> Result<u64, ApplyError> {
    let mut pairs: Vec<states::Pair> = posts.iter().map(|post| (post.clone(), did.to_owned())).collect();
    pairs.sort_unstable();
    states::make(client, &pairs)?;
    states::set(client, &pairs)
}
