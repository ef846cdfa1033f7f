//! Posts from before the limit, and what is left about posts that are not stored.

use super::protection::{Candidate, protected};
use super::{Context, Place, Slice, Step};
use crate::apply::prune::{Pruned, Subjects, prune};
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;

pub const POSTS: Step = Step {
    name: "posts",
    table: "posts",
    chunk: 300,
    read: read_posts,
    delete: |client, context, uris| prune(client, subjects(context, uris, true)),
    count: |client, context, uris| count(client, context, uris, true),
};

/// Likes, reposts and bookmarks from before the limit, and counters without rows, of posts that are not stored.
pub const SUBJECTS: Step = Step {
    name: "unstored_posts",
    table: "post_aggregations",
    chunk: 500,
    read: read_subjects,
    delete: |client, context, uris| prune(client, subjects(context, uris, false)),
    count: |client, context, uris| count(client, context, uris, false),
};

/// Posts in a slice.
const SLICE: usize = 1000;

/// Counters in a slice. Most are only looked up in an index.
const SUBJECTS_SLICE: i64 = 5000;

/// Likes, reposts and bookmarks in a transaction. Each has a notification and a viewer state besides, so that 300 posts
/// with about seven rows each make some 5000 rows.
const N_ROWS: usize = 1000;

fn subjects<'s>(context: &Context, uris: &'s [String], are_stored: bool) -> Subjects<'s> {
    Subjects {
        uris,
        are_stored,
        limit: context.limit,
        n_rows: N_ROWS,
    }
}

fn read_posts(client: &mut Client, context: &Context, after: &Place) -> Result<Option<Slice>, ApplyError> {
    let mut length = SLICE;
    loop {
        let rows = Params::new()
            .time(Micros(after.at))
            .text(&after.uri)
            .time(context.limit)
            .long(length as i64)
            .query(client, sql::PRUNE_POSTS_FIND)?;
        let Some(last) = rows.last() else { return Ok(None) };
        let last = Place {
            step: POSTS.name.to_owned(),
            at: last.get::<_, Micros>("indexed_at")?.0,
            uri: last.get("uri")?,
        };
        let candidates: Vec<Candidate> = rows.iter().map(Candidate::read).collect::<Result<_, _>>()?;
        let staying = match protected(client, &context.accounts, &candidates)? {
            Some(staying) => staying,
            // A post with more replies than are looked at stays.
            None if length == 1 => candidates.iter().map(|candidate| candidate.uri.clone()).collect(),
            None => {
                length = length.min(rows.len()) / 2;
                length = length.max(1);
                continue;
            }
        };
        let going = candidates.into_iter().map(|candidate| candidate.uri);
        let mut going: Vec<String> = going.filter(|uri| !staying.contains(uri)).collect();
        going.sort_unstable();
        return Ok(Some(Slice {
            last,
            examined: rows.len() as u64,
            kept: (rows.len() - going.len()) as u64,
            going,
        }));
    }
}

fn read_subjects(client: &mut Client, context: &Context, after: &Place) -> Result<Option<Slice>, ApplyError> {
    let rows = Params::new()
        .text(&after.uri)
        .time(context.limit)
        .long(SUBJECTS_SLICE)
        .query(client, sql::PRUNE_SUBJECTS_FIND)?;
    slice_of(SUBJECTS.name, &rows)
}

/// Makes a slice from the rows of a statement that repeats the last key and the length of the slice in each row.
pub fn slice_of(step: &str, rows: &[Row]) -> Result<Option<Slice>, ApplyError> {
    let Some(first) = rows.first() else { return Ok(None) };
    let Some(last) = first.get::<_, Option<String>>("last")? else {
        return Ok(None);
    };
    let going: Vec<Option<String>> = rows.iter().map(|row| row.get("uri")).collect::<Result<_, _>>()?;
    let mut going: Vec<String> = going.into_iter().flatten().collect();
    going.sort_unstable();
    Ok(Some(Slice {
        last: Place {
            step: step.to_owned(),
            at: 0,
            uri: last,
        },
        examined: first.get::<_, i64>("n")? as u64,
        kept: 0,
        going,
    }))
}

/// The tables that are counted for a dry run. Notifications are counted by their own step.
const COUNTED: [&str; 10] = [
    "likes",
    "reposts",
    "bookmarks",
    "feed_items",
    "quotes",
    "thread_contexts",
    "thread_gates",
    "post_gates",
    "post_viewer_states",
    "post_aggregations",
];

fn count(client: &mut Client, context: &Context, uris: &[String], are_stored: bool) -> Result<Pruned, ApplyError> {
    let limit = if are_stored { Micros::INFINITY } else { context.limit };
    let rows = Params::new()
        .texts(uris.iter())
        .time(limit)
        .query(client, sql::PRUNE_COUNTS)?;
    let mut pruned = Pruned::default();
    if are_stored {
        pruned.rows.insert("posts", uris.len() as u64);
    }
    for row in &rows {
        for table in COUNTED {
            pruned.rows.insert(table, row.get::<_, i64>(table)? as u64);
        }
    }
    Ok(pruned)
}
