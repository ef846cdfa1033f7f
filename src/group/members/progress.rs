//! The progress of the consumer group.

use redis::{RedisResult, Value};

use crate::entry::EntryId;
use crate::group::consumer::Consumer;
use crate::group::stream_info;
use crate::redis::link::Link;

/// The combined progress of all consumers of the group.
pub struct GroupProgress {
    /// The last entry delivered to any consumer.
    pub delivered: EntryId,
    /// Every entry before this is acknowledged.
    pub unsettled: EntryId,
}

impl GroupProgress {
    pub fn read(link: &mut Link, consumer: &Consumer) -> RedisResult<GroupProgress> {
        // In this order: an entry delivered between the two queries is pending or comes after `delivered`.
        let delivered = stream_info::delivered(link, &consumer.stream, &consumer.group)?;
        let (_, oldest, _, _): (u64, Option<String>, Value, Value) = link.query(&consumer.command("XPENDING"))?;
        let oldest = oldest.and_then(|id| EntryId::parse(id.as_bytes()));
        let after_delivered = EntryId {
            n: delivered.n.saturating_add(1),
            ..delivered
        };
        Ok(GroupProgress {
            delivered,
            unsettled: oldest.unwrap_or(after_delivered),
        })
    }
}
