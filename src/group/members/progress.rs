//! How far the consumer group is.
//!
//! Owns XINFO GROUPS and XPENDING, read for the place before which everything is acknowledged.

use std::collections::HashMap;

use redis::{FromRedisValue, RedisResult, Value};

use crate::entry::EntryId;
use crate::redis::link::Link;

/// A stream and its group.
pub struct GroupKey {
    pub stream: String,
    pub group: String,
}

/// The progress of all its consumers together.
pub struct GroupProgress {
    /// The last entry that any consumer was given.
    pub delivered: EntryId,
    /// Every entry before this is acknowledged.
    pub unsettled: EntryId,
}

impl GroupKey {
    pub fn read(&self, link: &mut Link) -> RedisResult<GroupProgress> {
        // In this order: what is delivered in between is pending or comes after `delivered`.
        let delivered = self.delivered(link)?;
        let mut pending = redis::cmd("XPENDING");
        pending.arg(&self.stream).arg(&self.group);
        let oldest = link.query::<Vec<Value>>(&pending)?.into_iter().nth(1).and_then(id);
        let after_delivered = EntryId {
            n: delivered.n + 1,
            ..delivered
        };
        Ok(GroupProgress {
            delivered,
            unsettled: oldest.unwrap_or(after_delivered),
        })
    }

    fn delivered(&self, link: &mut Link) -> RedisResult<EntryId> {
        let mut info = redis::cmd("XINFO");
        info.arg("GROUPS").arg(&self.stream);
        for group in link.query::<Vec<HashMap<String, Value>>>(&info)? {
            if group.get("name").cloned().and_then(text).as_deref() == Some(&self.group) {
                let last = group.get("last-delivered-id").cloned();
                return Ok(last.and_then(id).unwrap_or(EntryId::ZERO));
            }
        }
        Err((redis::ErrorKind::UnexpectedReturnType, "the group is not there yet").into())
    }
}

fn id(value: Value) -> Option<EntryId> {
    EntryId::parse(text(value)?.as_bytes())
}

fn text(value: Value) -> Option<String> {
    FromRedisValue::from_redis_value(value).ok()
}
