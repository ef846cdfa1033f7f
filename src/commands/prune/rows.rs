//! Rows that go by their own age: notifications, generic records, and what else is left of posts that are not stored.

use super::posts::slice_of;
use super::{Context, Place, Slice, Step};
use crate::apply::prune::{Pruned, delete_notifications};
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql::{self, Statement};
use crate::postgres::templates;
use crate::rows::KEYED_TABLES;

pub const NOTIFICATIONS: Step = Step {
    name: "notifications",
    table: "notifications",
    chunk: CHUNK,
    read: read_notifications,
    delete: |client, _, uris| Ok(of("notifications", delete_notifications(client, uris)?)),
    count: |_, _, uris| Ok(of("notifications", uris.len() as u64)),
};

pub const GENERIC_RECORDS: Step = Step {
    name: "generic_records",
    table: "generic_records",
    chunk: CHUNK,
    read: |client, context, after| {
        let find = sql::PRUNE_GENERIC_RECORDS_FIND;
        read(client, GENERIC_RECORDS.name, find, after, |params| {
            params.time(context.limit)
        })
    },
    delete: |client, context, uris| {
        let params = Params::new().texts(uris.iter()).time(context.limit);
        Ok(of(
            "generic_records",
            params.execute(client, sql::PRUNE_GENERIC_RECORDS_DELETE)?,
        ))
    },
    count: |_, _, uris| Ok(of("generic_records", uris.len() as u64)),
};

pub const THREAD_CONTEXTS: Step = Step {
    name: "thread_contexts",
    table: "thread_contexts",
    chunk: CHUNK,
    read: |client, context, after| read_leftovers(client, context, after, "thread_contexts"),
    delete: |client, _, uris| delete(client, "thread_contexts", sql::THREAD_CONTEXTS_DELETE, uris),
    count: |_, _, uris| Ok(of("thread_contexts", uris.len() as u64)),
};

pub const THREAD_GATES: Step = Step {
    name: "thread_gates",
    table: "thread_gates",
    chunk: CHUNK,
    read: |client, context, after| read_leftovers(client, context, after, "thread_gates"),
    delete: |client, _, uris| delete_keyed(client, "thread_gates", uris),
    count: |_, _, uris| Ok(of("thread_gates", uris.len() as u64)),
};

pub const POST_GATES: Step = Step {
    name: "post_gates",
    table: "post_gates",
    chunk: CHUNK,
    read: |client, context, after| read_leftovers(client, context, after, "post_gates"),
    delete: |client, _, uris| delete_keyed(client, "post_gates", uris),
    count: |_, _, uris| Ok(of("post_gates", uris.len() as u64)),
};

/// Remembered records whose pair has no row, because the AppView deleted it.
pub const RIVALS: Step = Step {
    name: "rivals",
    table: "firehose_worker.rivals",
    chunk: CHUNK,
    read: |client, context, after| {
        let ms = context.limit.millis();
        read(client, RIVALS.name, sql::PRUNE_RIVALS_FIND, after, |params| {
            params.long(ms)
        })
    },
    delete: |client, _, uris| {
        let none = || std::iter::empty::<&str>();
        let params = Params::new()
            .texts(uris.iter())
            .texts(none())
            .texts(none())
            .texts(none());
        params.query(client, sql::RIVALS_TAKE)?;
        Ok(of("firehose_worker.rivals", uris.len() as u64))
    },
    count: |_, _, uris| Ok(of("firehose_worker.rivals", uris.len() as u64)),
};

/// Rows in a slice, and in a transaction.
const SLICE: i64 = 5000;
const CHUNK: usize = 5000;

fn of(table: &'static str, n_rows: u64) -> Pruned {
    Pruned {
        rows: [(table, n_rows)].into(),
        ..Pruned::default()
    }
}

fn read_notifications(client: &mut Client, context: &Context, after: &Place) -> Result<Option<Slice>, ApplyError> {
    let rows = Params::new()
        .time(Micros(after.at))
        .text(&after.uri)
        .time(context.limit)
        .long(SLICE)
        .query(client, sql::PRUNE_NOTIFICATIONS_FIND)?;
    let Some(last) = rows.last() else { return Ok(None) };
    let last = Place {
        step: NOTIFICATIONS.name.to_owned(),
        at: last.get::<_, Micros>("indexed_at")?.0,
        uri: last.get("uri")?,
    };
    let mut going: Vec<String> = rows.iter().map(|row| row.get("uri")).collect::<Result<_, _>>()?;
    going.sort_unstable();
    Ok(Some(Slice {
        last,
        examined: rows.len() as u64,
        kept: 0,
        going,
    }))
}

fn read_leftovers(
    client: &mut Client,
    context: &Context,
    after: &Place,
    table: &'static str,
) -> Result<Option<Slice>, ApplyError> {
    let find = templates::leftovers().iter().find(|(name, _)| *name == table);
    let Some((_, find)) = find else { return Ok(None) };
    read(client, table, *find, after, |params| params.time(context.limit))
}

/// Reads a slice by URI.
fn read<'p>(
    client: &mut Client,
    step: &str,
    find: Statement,
    after: &'p Place,
    limit: impl FnOnce(Params<'p>) -> Params<'p>,
) -> Result<Option<Slice>, ApplyError> {
    let params = limit(Params::new().text(&after.uri));
    slice_of(step, &params.long(SLICE).query(client, find)?)
}

fn delete_keyed(client: &mut Client, table: &'static str, uris: &[String]) -> Result<Pruned, ApplyError> {
    let keyed = KEYED_TABLES.into_iter().find(|keyed| keyed.name == table);
    match keyed {
        Some(keyed) => delete(client, table, templates::keyed(keyed).delete, uris),
        None => Ok(Pruned::default()),
    }
}

fn delete(
    client: &mut Client,
    table: &'static str,
    statement: Statement,
    uris: &[String],
) -> Result<Pruned, ApplyError> {
    Ok(of(table, Params::new().texts(uris.iter()).execute(client, statement)?))
}
