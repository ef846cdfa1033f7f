//! Entries of a stream that is kept for operators: dead letters, and what the consumer set aside.
//!
//! Owns how they are read: page by page, because each may be large.

use std::collections::HashMap;

use anyhow::Context;
use chrono::{DateTime, SecondsFormat};
use redis::RedisError;

use crate::entry::EntryId;
use crate::redis::link::{self, Link};

/// How many are read at a time; each may have a megabyte.
const PAGE: u64 = 16;

/// The ID and fields of an entry in Redis's reply.
pub type Raw = (String, HashMap<String, Vec<u8>>);

/// One entry. Those of other programs may lack some fields.
pub struct Kept {
    pub id: EntryId,
    pub fields: HashMap<String, Vec<u8>>,
}

impl Kept {
    /// # Errors
    ///
    /// The reply has no ID of an entry.
    pub fn of((id, fields): Raw) -> anyhow::Result<Kept> {
        let id = EntryId::parse(id.as_bytes()).with_context(|| format!("redis sent the ID {id:?}"))?;
        Ok(Kept { id, fields })
    }

    /// The field's text; empty if the entry lacks the field.
    pub fn text(&self, field: &str) -> String {
        let bytes = self.fields.get(field).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// When the entry was stored, by its ID.
    pub fn time(&self) -> String {
        let time = i64::try_from(self.id.ms).ok().and_then(DateTime::from_timestamp_millis);
        time.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

/// Passes at most `limit` entries of the stream to `each`, newest first.
///
/// # Errors
///
/// Redis cannot be reached or refuses the command, or `each` fails.
pub fn newest_first(
    link: &mut Link,
    stream: &str,
    limit: u64,
    mut each: impl FnMut(Kept) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut left = limit;
    let mut end = "+".to_owned();
    while left > 0 {
        let mut range = redis::cmd("XREVRANGE");
        range.arg(stream).arg(&end).arg("-").arg("COUNT").arg(left.min(PAGE));
        let page: Vec<Raw> = link
            .query(&range)
            .map_err(|error| explained(&error, stream, "+xrevrange"))?;
        let Some((last, _)) = page.last() else { break };
        end = format!("({last}");
        left -= page.len() as u64;
        for entry in page {
            each(Kept::of(entry)?)?;
        }
    }
    Ok(())
}

/// The entry of the stream with this ID.
///
/// # Errors
///
/// The stream does not have it, or Redis cannot be reached or refuses the command.
pub fn find(link: &mut Link, stream: &str, id: EntryId) -> anyhow::Result<Kept> {
    let mut range = redis::cmd("XRANGE");
    range.arg(stream).arg(id.to_string()).arg(id.to_string());
    let page: Vec<Raw> = link
        .query(&range)
        .map_err(|error| explained(&error, stream, "+xrange"))?;
    let entry = page.into_iter().next();
    Kept::of(entry.with_context(|| format!("{id} is not in {stream}"))?)
}

/// An error of Redis, with the ACL rule that avoids it if there is one.
pub fn explained(error: &RedisError, stream: &str, rights: &str) -> anyhow::Error {
    let hint = link::hint(error, &format!("~{stream} {rights}"));
    anyhow::anyhow!("redis: {}{hint}", link::describe(error))
}
