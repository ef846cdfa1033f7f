//! What XINFO reports about the stream and its group.
//!
//! Owns the parsing of XINFO's answers and what follows from a single sample: the group's position, as far as it can be
//! determined, and the number of unread entries. Does not compare samples with each other; `losses` does.
//!
//! `lag` and `entries-read` are unreliable. After entries were trimmed unread, Redis before 8.2 reports a lag that
//! stays too high, since entries-read counts deliveries; later versions make entries-read jump over the gap. A restart
//! from an append-only file and a failover set entries-read back, since it is not replicated. Lengths and IDs are
//! always right.

use std::collections::HashMap;

use redis::streams::{StreamInfoConsumer, StreamInfoConsumersReply, StreamInfoGroup, StreamInfoGroupsReply};
use redis::{FromRedisValue, ParsingError, RedisResult, Value, from_redis_value};

use crate::entry::EntryId;
use crate::redis::link::{self, Link};

/// The stream at one moment.
#[derive(Clone, Debug, Default)]
pub struct StreamInfo {
    /// Entries in the stream.
    pub length: u64,
    /// Entries ever added; `None` before Redis 7.0.
    pub added: Option<u64>,
    /// The oldest entry; `None` in an empty stream.
    pub first: Option<EntryId>,
    /// The newest entry ever added.
    pub last: EntryId,
    /// The newest entry that was deleted by XDEL; trimming does not move it.
    pub max_deleted: EntryId,
    pub group: GroupInfo,
}

/// The consumer group at the same moment.
#[derive(Clone, Debug, Default)]
pub struct GroupInfo {
    /// The newest entry delivered to any consumer.
    pub delivered: EntryId,
    /// The number of entries delivered according to Redis; see the module.
    pub entries_read: Option<u64>,
    pub lag: Option<u64>,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    pub consumers: Vec<StreamInfoConsumer>,
}

/// The group's position, counted in entries ever added to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPosition {
    Exact(u64),
    AtLeast(u64),
    /// Entries were deleted in the part of the stream that still exists.
    Unknown,
}

/// Queries the stream and its group. Returns `None` if the stream or the group does not exist.
///
/// # Errors
///
/// As for `Link::query`. The commands need the rights `+xinfo +multi +exec` on the stream.
pub fn read(link: &mut Link, stream: &str, group: &str) -> RedisResult<Option<StreamInfo>> {
    // A MULTI samples all three at one moment: entries added between the answers would look lost.
    let ask = [
        &["STREAM", stream][..],
        &["GROUPS", stream],
        &["CONSUMERS", stream, group],
    ];
    let ask = ask.map(|arguments| redis::cmd("XINFO").arg(arguments).to_owned());
    let answers = link.transaction(&ask)?.unwrap_or_default();
    let answers: RedisResult<Vec<Value>> = answers.into_iter().map(Value::extract_error).collect();
    let mut answers = match answers {
        Ok(answers) => answers.into_iter(),
        // XINFO's errors for a missing key and a missing group.
        Err(error) if matches!(link::code(&error), "ERR" | "NOGROUP") => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut next = || answers.next().unwrap_or(Value::Nil);
    let mut stream = from_redis_value(next())?;
    let groups: StreamInfoGroupsReply = from_redis_value(next())?;
    let consumers: StreamInfoConsumersReply = from_redis_value(next())?;
    let Some(group) = named(groups, group) else {
        return Ok(None);
    };
    Ok(Some(StreamInfo {
        length: take(&mut stream, "length")?,
        added: take(&mut stream, "entries-added")?,
        first: first_id(stream.remove("first-entry")),
        last: take_id(&mut stream, "last-generated-id")?,
        max_deleted: take_id(&mut stream, "max-deleted-entry-id")?,
        group: GroupInfo {
            delivered: id(&group.last_delivered_id),
            entries_read: group.entries_read.map(|read| read as u64),
            lag: group.lag.map(|lag| lag as u64),
            pending: group.pending as u64,
            consumers: consumers.consumers,
        },
    }))
}

/// Queries the group's consumers.
///
/// # Errors
///
/// As for `Link::query`. The command needs the right `+xinfo` on the stream.
pub fn consumers(link: &mut Link, stream: &str, group: &str) -> RedisResult<Vec<StreamInfoConsumer>> {
    let answer: StreamInfoConsumersReply = link.query(redis::cmd("XINFO").arg(("CONSUMERS", stream, group)))?;
    Ok(answer.consumers)
}

/// Queries the newest entry delivered to any consumer of the group.
///
/// # Errors
///
/// As for `consumers`, or the group does not exist yet.
pub fn delivered(link: &mut Link, stream: &str, group: &str) -> RedisResult<EntryId> {
    let groups = link.query(redis::cmd("XINFO").arg(("GROUPS", stream)))?;
    let missing = || (redis::ErrorKind::UnexpectedReturnType, "the group does not exist yet").into();
    named(groups, group)
        .map(|group| id(&group.last_delivered_id))
        .ok_or_else(missing)
}

fn named(groups: StreamInfoGroupsReply, name: &str) -> Option<StreamInfoGroup> {
    groups.groups.into_iter().find(|group| group.name == name)
}

type Fields = HashMap<String, Value>;

fn take<T: FromRedisValue>(fields: &mut Fields, name: &str) -> Result<T, ParsingError> {
    T::from_redis_value(fields.remove(name).unwrap_or(Value::Nil))
}

/// An ID; zero if this version of Redis does not report it.
fn take_id(fields: &mut Fields, name: &str) -> Result<EntryId, ParsingError> {
    let text: Option<String> = take(fields, name)?;
    Ok(text.as_deref().map(id).unwrap_or_default())
}

fn id(text: &str) -> EntryId {
    EntryId::parse(text.as_bytes()).unwrap_or_default()
}

fn first_id(entry: Option<Value>) -> Option<EntryId> {
    let Some(Value::Array(parts)) = entry else {
        return None;
    };
    let id = String::from_redis_value(parts.into_iter().next()?).ok()?;
    EntryId::parse(id.as_bytes())
}

impl StreamInfo {
    /// The group's position, derived from lengths and IDs alone. A group that stands before the stream's first entry
    /// has lost everything in between: its position is the end of the gap. `None` before Redis 7.0.
    pub fn position(&self) -> Option<GroupPosition> {
        let added = self.added?;
        let removed = added.saturating_sub(self.length);
        let delivered = self.group.delivered;
        Some(match self.first {
            _ if delivered >= self.last => GroupPosition::Exact(added),
            None => GroupPosition::Exact(added),
            Some(first) if self.max_deleted >= first => GroupPosition::Unknown,
            Some(first) if delivered < first => GroupPosition::Exact(removed),
            Some(first) if delivered == first => GroupPosition::Exact(removed + 1),
            Some(_) => GroupPosition::AtLeast(removed + 1),
        })
    }

    /// Whether entries were trimmed before they were delivered to the group.
    pub fn has_gap(&self) -> bool {
        let delivered = self.group.delivered;
        // A group with no deliveries stands before the first entry, whether or not anything was trimmed. Before Redis
        // 7.0 the two cases cannot be distinguished.
        let was_trimmed = match self.added {
            Some(added) => added > self.length,
            None => delivered > EntryId::ZERO,
        };
        was_trimmed && delivered < self.last && self.first.is_none_or(|first| delivered < first)
    }

    /// The number of entries in the stream that were not delivered to the group yet. It is derived from `position`, the
    /// group's position, where that is known; otherwise from Redis's lag where that is plausible; otherwise roughly
    /// from the times in the IDs.
    pub fn unread(&self, position: Option<u64>) -> u64 {
        let Some(first) = self.first else { return 0 };
        let delivered = self.group.delivered;
        if delivered >= self.last {
            return 0;
        }
        if delivered < first {
            return self.length;
        }
        let by_position = self.added.zip(position).map(|(added, at)| added.saturating_sub(at));
        let unread = by_position.or(self.group.lag).filter(|unread| *unread <= self.length);
        unread.unwrap_or_else(|| {
            let span = (self.last.ms - first.ms).max(1) as f64;
            (self.length as f64 * (self.last.ms - delivered.ms) as f64 / span) as u64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, n: 0 }
    }

    /// Entries 41 to 100 of 100, of which those up to `delivered` were delivered.
    fn info(delivered: u64) -> StreamInfo {
        StreamInfo {
            length: 60,
            added: Some(100),
            first: Some(id(41)),
            last: id(100),
            group: GroupInfo {
                delivered: id(delivered),
                ..GroupInfo::default()
            },
            ..StreamInfo::default()
        }
    }

    #[test]
    fn lengths_and_ids_say_where_the_group_stands() {
        for (delivered, position, has_gap) in [
            (10, GroupPosition::Exact(40), true),
            (41, GroupPosition::Exact(41), false),
            (70, GroupPosition::AtLeast(41), false),
            (100, GroupPosition::Exact(100), false),
        ] {
            assert_eq!(info(delivered).position(), Some(position), "{delivered}");
            assert_eq!(info(delivered).has_gap(), has_gap, "{delivered}");
        }
        let emptied = StreamInfo {
            length: 0,
            first: None,
            ..info(10)
        };
        assert_eq!(emptied.position(), Some(GroupPosition::Exact(100)));
        assert!(emptied.has_gap());
        let untouched = StreamInfo {
            added: Some(60),
            ..info(0)
        };
        assert!(!untouched.has_gap());
        let deleted = StreamInfo {
            max_deleted: id(50),
            ..info(70)
        };
        assert_eq!(deleted.position(), Some(GroupPosition::Unknown));
    }

    #[test]
    fn what_is_unread_is_never_taken_from_a_lag_that_cannot_be_true() {
        let with_lag = |delivered, lag| {
            let mut info = info(delivered);
            info.group.lag = lag;
            info
        };
        assert_eq!(with_lag(100, Some(30)).unread(None), 0);
        assert_eq!(with_lag(10, Some(90)).unread(None), 60);
        assert_eq!(with_lag(70, Some(30)).unread(None), 30);
        assert_eq!(with_lag(70, Some(60)).unread(Some(70)), 30);
        for lag in [None, Some(90)] {
            let guess = with_lag(70, lag).unread(None);
            assert!((25..=35).contains(&guess), "{guess}");
        }
    }
}
