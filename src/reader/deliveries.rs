//! How often Redis has delivered entries that are read again.

use redis::RedisResult;

use super::delivered::Delivered;
use crate::group::consumer::Consumer;
use crate::redis::link::Link;

const NO_COUNTS: &str = "an entry that crashes the process is not found";

/// Fills in the number of deliveries of each of these entries, which must be in stream order and pending for
/// `consumer`.
pub fn look_up(consumer: &Consumer, link: &mut Link, delivered: &mut [Delivered]) -> RedisResult<()> {
    let (Some(first), Some(last)) = (delivered.first(), delivered.last()) else {
        return Ok(());
    };
    let range = (
        first.id().to_string(),
        last.id().to_string(),
        delivered.len(),
        &consumer.name,
    );
    let pending = consumer.pending(link, range);
    let pending = link.optional(pending, NO_COUNTS, "+xpending")?.unwrap_or_default();
    let mut pending = pending.into_iter().peekable();
    for delivered in delivered {
        let id = delivered.id();
        while pending.next_if(|pending| pending.id < id).is_some() {}
        if let (Delivered::Entry(entry), Some(pending)) = (delivered, pending.next_if(|pending| pending.id == id)) {
            entry.deliveries = pending.deliveries;
        }
    }
    Ok(())
}
