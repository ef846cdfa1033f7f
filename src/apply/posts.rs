//! Posts and their quotes.
//!
//! Owns `posts` and `quotes`, and reports inserted, deleted and changed posts to `effects`. A post that already exists
//! is replaced: its earlier side effects are read first, so that counters move only by the difference.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::copy::WriteMode;
use super::effects::{self, Counter, Effects, post_notification_uris};
use crate::decode::json::{self, Json};
use crate::decode::{dialect, embed};
use crate::postgres::client::Client;
use crate::postgres::copy::copy;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::rows::{self, Post};

/// The side effects of a post that is, or was, in the table.
struct Stored {
    parent_uri: Option<String>,
    mentions: Vec<String>,
    /// Another program wrote the row, and may or may not have counted it.
    is_foreign: bool,
    /// The URI that a foreign post quotes, whether or not a quotes row exists for it.
    foreign_quoted: Option<String>,
}

impl Stored {
    fn read(row: &Row) -> Result<(String, Stored), ApplyError> {
        let facets: Option<&str> = row.get("facets")?;
        let stored = Stored {
            parent_uri: row.get("parent_uri")?,
            mentions: facets.map(stored_mentions).unwrap_or_default(),
            is_foreign: row.get("is_foreign")?,
            foreign_quoted: row.get::<_, Option<&str>>("foreign_embed")?.and_then(stored_quoted),
        };
        Ok((row.get("uri")?, stored))
    }

    /// Requests a recount of every subject for which a foreign post may have been counted.
    fn recount(&self, effects: &mut Effects) {
        if self.is_foreign {
            let subjects = [
                (&self.parent_uri, Counter::Replies),
                (&self.foreign_quoted, Counter::Quotes),
            ];
            for (uri, counter) in subjects {
                uri.iter()
                    .for_each(|uri| effects.recount(Cow::Owned(uri.clone()), counter));
            }
        }
    }
}

/// The URI that a stored embed quotes. Older workers stored the embed unchanged, in the dialect and with the type name
/// in which it arrived.
pub fn stored_quoted(embed: &str) -> Option<String> {
    let mut embed = json::parse(embed).ok()?;
    dialect::normalise(&mut embed);
    let embed = embed::sanitise(embed)?;
    embed::quoted(&embed).map(|quoted| quoted.uri.into_owned())
}

/// The accounts that stored facets mention.
pub fn stored_mentions(facets: &str) -> Vec<String> {
    match json::parse(facets) {
        Ok(Json::Array(facets)) => rows::mentions(&facets).into_iter().map(Cow::into_owned).collect(),
        // Facets that are not an array: no worker of any version reads mentions from them, so no account was notified.
        _ => Vec::new(),
    }
}

/// Of posts, given with their stored facets, those that mention one of the accounts.
pub fn posts_that_mention(dids: &HashSet<String>, facets: BTreeMap<String, &str>) -> Vec<String> {
    let does = |text: &str| stored_mentions(text).iter().any(|did| dids.contains(did));
    facets
        .into_iter()
        .filter(|(_, text)| does(text))
        .map(|(uri, _)| uri)
        .collect()
}

/// What a delete of posts leaves to its caller.
#[derive(Default)]
pub struct Deleted {
    /// The URIs of the notifications that the posts may have caused.
    pub notifications: Vec<String>,
    /// The numbers of deleted rows.
    pub n_quotes: u64,
    pub n_contexts: u64,
}

/// Deletes posts and their side effects, except their notifications.
pub fn delete<'e>(client: &mut Client, uris: &[&'e str], effects: &mut Effects<'e>) -> Result<Deleted, ApplyError> {
    if uris.is_empty() {
        return Ok(Deleted::default());
    }
    let rows = Params::new()
        .texts(uris.iter().copied())
        .query(client, sql::POSTS_DELETE)?;
    let mut deleted: HashMap<String, Stored> = rows.iter().map(Stored::read).collect::<Result<_, _>>()?;
    effects.record_counts.posts -= deleted.len() as i64;
    let n_quotes = delete_quotes(client, uris, &deleted, effects)?;
    let n_contexts = Params::new()
        .texts(uris.iter().copied())
        .execute(client, sql::THREAD_CONTEXTS_DELETE)?;
    let mut notifications = Vec::new();
    for &uri in uris {
        effects.feed_item_gone(Cow::Borrowed(uri));
        let Some(stored) = deleted.remove(uri) else {
            notifications.extend(post_notification_uris(uri, std::iter::empty::<&str>()));
            continue;
        };
        notifications.extend(post_notification_uris(uri, stored.mentions.iter()));
        stored.recount(effects);
        if let Some(parent) = stored.parent_uri {
            effects.count(Cow::Owned(parent), Counter::Replies, -1);
        }
    }
    Ok(Deleted {
        notifications,
        n_quotes,
        n_contexts,
    })
}

/// Deletes the quotes of posts that are deleted or no longer quote anything. Returns how many there were.
fn delete_quotes(
    client: &mut Client,
    posts: &[&str],
    stored: &HashMap<String, Stored>,
    effects: &mut Effects,
) -> Result<u64, ApplyError> {
    if posts.is_empty() {
        return Ok(0);
    }
    let uris: Vec<String> = posts.iter().map(|uri| quote_uri(uri)).collect();
    let rows = Params::new().texts(uris.iter()).query(client, sql::QUOTES_DELETE)?;
    for row in &rows {
        let (post, quoted): (&str, String) = (row.get("post_uri")?, row.get("quoted_uri")?);
        effects.count(Cow::Owned(quoted.clone()), Counter::Quotes, -1);
        if stored.get(post).is_none_or(|stored| stored.is_foreign) {
            effects.recount(Cow::Owned(quoted), Counter::Quotes);
        }
    }
    Ok(rows.len() as u64)
}

fn quote_uri(post: &str) -> String {
    format!("{post}#quote")
}

/// Inserts or replaces posts. The posts are sorted by URI.
pub fn put<'e>(
    client: &mut Client,
    posts: &[&'e Post<'e>],
    write_mode: WriteMode,
    effects: &mut Effects<'e>,
) -> Result<(), ApplyError> {
    if posts.is_empty() {
        return Ok(());
    }
    if write_mode.copies(posts.len()) {
        effects.record_counts.posts += copy_posts(client, posts)? as i64;
        for post in posts {
            effects.post_is(post);
            count_reply(post, effects);
        }
        return put_quotes(client, posts, effects);
    }
    let times = posts.iter().map(|post| post.indexed_at);
    let rows = params(posts).times(times).query(client, sql::POSTS_INSERT)?;
    effects.record_counts.posts += rows.len() as i64;
    for post in posts {
        effects.post_is(post);
    }
    if rows.len() == posts.len() {
        for post in posts {
            count_reply(post, effects);
        }
        return put_quotes(client, posts, effects);
    }
    let inserted: HashSet<&str> = rows.iter().map(|row| row.get("uri")).collect::<Result<_, _>>()?;
    let (new, old): (Vec<_>, Vec<_>) = posts.iter().partition(|post| inserted.contains(post.uri.as_str()));
    for post in new {
        count_reply(post, effects);
    }
    replace(client, &old, effects)?;
    put_quotes(client, posts, effects)
}

fn count_reply<'e>(post: &'e Post<'e>, effects: &mut Effects<'e>) {
    if let Some(parent) = &post.parent_uri {
        effects.count(Cow::Borrowed(parent), Counter::Replies, 1);
    }
}

/// Replaces posts that already exist.
fn replace<'e>(client: &mut Client, posts: &[&'e Post<'e>], effects: &mut Effects<'e>) -> Result<(), ApplyError> {
    let rows = Params::new()
        .texts(posts.iter().map(|post| &post.uri))
        .query(client, sql::POSTS_EXISTING)?;
    let stored: HashMap<String, Stored> = rows.iter().map(Stored::read).collect::<Result<_, _>>()?;
    params(posts).execute(client, sql::POSTS_UPDATE)?;
    effects.meets_old_rows();
    for post in posts {
        let stored = stored.get(&post.uri).ok_or(ApplyError::Vanished("posts"))?;
        replace_effects(post, stored, effects);
    }
    let without_quote: Vec<&str> = posts
        .iter()
        .filter(|post| post.quoted.is_none())
        .map(|post| post.uri.as_str())
        .collect();
    delete_quotes(client, &without_quote, &stored, effects)?;
    Ok(())
}

fn replace_effects<'e>(post: &'e Post<'e>, stored: &Stored, effects: &mut Effects<'e>) {
    let (before, now) = (stored.parent_uri.as_deref(), post.parent_uri.as_deref());
    if before != now {
        if let Some(parent) = before {
            effects.count(Cow::Owned(parent.to_owned()), Counter::Replies, -1);
        }
        count_reply(post, effects);
    }
    if before.and_then(effects::authority) != now.and_then(effects::authority) {
        effects.notification_moved(effects::reply_notification_uri(&post.uri));
    }
    stored.recount(effects);
    if stored.is_foreign {
        let quoted = post.quoted.as_ref().map(|quoted| quoted.uri.as_ref());
        for (uri, counter) in [(now, Counter::Replies), (quoted, Counter::Quotes)] {
            uri.into_iter()
                .for_each(|uri| effects.recount(Cow::Borrowed(uri), counter));
        }
    }
    let wanted: HashSet<String> = effects::post_notifications(post).into_iter().map(|n| n.uri).collect();
    let possible = post_notification_uris(&post.uri, stored.mentions.iter());
    effects.notifications_gone(possible.into_iter().filter(|uri| !wanted.contains(uri)));
}

/// Inserts or replaces the quotes of those posts that quote something.
fn put_quotes<'e>(client: &mut Client, posts: &[&'e Post<'e>], effects: &mut Effects<'e>) -> Result<(), ApplyError> {
    let quoting: Vec<&'e Post<'e>> = posts.iter().copied().filter(|post| post.quoted.is_some()).collect();
    if quoting.is_empty() {
        return Ok(());
    }
    let uris: Vec<String> = quoting.iter().map(|post| quote_uri(&post.uri)).collect();
    let times = quoting.iter().map(|post| post.indexed_at);
    let rows = quote_params(&uris, &quoting)
        .times(times)
        .query(client, sql::QUOTES_INSERT)?;
    let inserted: HashSet<&str> = rows.iter().map(|row| row.get("uri")).collect::<Result<_, _>>()?;
    let mut old_uris = Vec::new();
    let mut old = Vec::new();
    for (uri, &post) in uris.iter().zip(&quoting) {
        if !inserted.contains(uri.as_str()) {
            old_uris.push(uri.clone());
            old.push(post);
        } else if let Some(quoted) = &post.quoted {
            effects.count(Cow::Borrowed(&quoted.uri), Counter::Quotes, 1);
        }
    }
    if old.is_empty() {
        return Ok(());
    }
    for row in quote_params(&old_uris, &old).query(client, sql::QUOTES_UPDATE)? {
        let (before, now): (String, String) = (row.get("old_quoted_uri")?, row.get("quoted_uri")?);
        if effects::post_author(&before) != effects::post_author(&now) {
            effects.notification_moved(effects::quote_notification_uri(row.get("post_uri")?));
        }
        effects.count(Cow::Owned(before), Counter::Quotes, -1);
        effects.count(Cow::Owned(now), Counter::Quotes, 1);
    }
    Ok(())
}

fn quote_params<'p>(uris: &'p [String], posts: &'p [&Post]) -> Params<'p> {
    let quoted = || posts.iter().filter_map(|post| post.quoted.as_ref());
    Params::new()
        .texts(uris.iter())
        .texts(posts.iter().map(|post| &post.cid))
        .texts(posts.iter().map(|post| &post.uri))
        .texts(quoted().map(|quoted| &quoted.uri))
        .optional_texts(quoted().map(|quoted| &quoted.cid))
        .times(posts.iter().map(|post| post.created_at))
}

fn copy_posts(client: &mut Client, posts: &[&Post]) -> Result<u64, ApplyError> {
    copy(client, sql::POSTS_COPY, |rows| {
        posts.iter().try_for_each(|post| {
            rows.write(|columns| {
                columns
                    .text(&post.uri)
                    .text(&post.cid)
                    .text(&post.author_did)
                    .text(&post.text)
                    .optional_json(post.langs.as_deref())
                    .optional_text(post.parent_uri.as_deref())
                    .optional_text(post.parent_cid.as_deref())
                    .optional_text(post.root_uri.as_deref())
                    .optional_text(post.root_cid.as_deref())
                    .optional_json(post.embed.as_deref())
                    .optional_json(post.facets.as_deref())
                    .json(&post.tags)
                    .time(post.created_at)
                    .text(&post.commit_seq)
                    .time(post.indexed_at);
            })
        })
    })
}

fn params<'p>(posts: &'p [&Post]) -> Params<'p> {
    Params::new()
        .texts(posts.iter().map(|post| &post.uri))
        .texts(posts.iter().map(|post| &post.cid))
        .texts(posts.iter().map(|post| &post.author_did))
        .texts(posts.iter().map(|post| &post.text))
        .optional_jsons(posts.iter().map(|post| &post.langs))
        .optional_texts(posts.iter().map(|post| &post.parent_uri))
        .optional_texts(posts.iter().map(|post| &post.parent_cid))
        .optional_texts(posts.iter().map(|post| &post.root_uri))
        .optional_texts(posts.iter().map(|post| &post.root_cid))
        .optional_jsons(posts.iter().map(|post| &post.embed))
        .optional_jsons(posts.iter().map(|post| &post.facets))
        .jsons(posts.iter().map(|post| &post.tags))
        .times(posts.iter().map(|post| post.created_at))
        .texts(posts.iter().map(|post| &post.commit_seq))
}
