//! Pending entries of dead consumers.
//!
//! Owns XAUTOCLAIM, and which consumers are considered dead. Entries are claimed by ID alone; the reader then reads
//! them among the pending entries of its own consumer.
//!
//! Invariant: XAUTOCLAIM also removes trimmed entries from the pending entries list, including those that a live
//! consumer has just received and is applying. Therefore it is sent only for ranges of the list in which all entries
//! belong to dead consumers, and only trimmed entries of dead consumers count as lost. The fence moves in the same
//! transaction, so that a previous holder checks what it still holds before it acknowledges.

use std::time::Duration;

use redis::streams::StreamInfoConsumer;
use redis::{Cmd, RedisResult, Value, from_redis_value};

use crate::entry::EntryId;
use crate::group::consumer::{Consumer, Pending};
use crate::group::fence::Fence;
use crate::group::stream_info;
use crate::reader::delivered::{ids, text};
use crate::redis::link::{self, Link};

const NO_IDLE: &str = "trimmed entries that live consumers are applying are counted as lost";

pub struct Claim {
    pub consumer: Consumer,
    /// Entries that have been idle for this long belong to dead consumers.
    pub idle: Duration,
    pub fence: Fence,
}

/// Where the next XAUTOCLAIM starts.
pub struct Cursor(Option<String>);

impl Cursor {
    pub fn start() -> Cursor {
        Cursor(Some("0-0".to_owned()))
    }

    pub fn is_at_end(&self) -> bool {
        self.0.is_none()
    }

    fn advance(&mut self, next: Option<Value>) {
        self.0 = next.and_then(text).filter(|next| next != "0-0");
    }
}

/// The result of one XAUTOCLAIM.
#[derive(Default)]
pub struct Claimed {
    /// Entries that now belong to this consumer, in stream order. They have yet to be read.
    pub ids: Vec<EntryId>,
    /// Lost entries: trimmed from the stream while a dead consumer held them. They are no longer pending.
    pub trimmed: Vec<EntryId>,
}

impl Claim {
    /// Transfers the next entries of dead consumers, at most `count`, to this consumer. Does not read them.
    pub fn next(&self, link: &mut Link, cursor: &mut Cursor, mut count: usize) -> RedisResult<Claimed> {
        let idle = self.idle(link, cursor, count)?;
        if let Some(idle) = &idle {
            let Some(first) = idle.first() else {
                *cursor = Cursor(None);
                return Ok(Claimed::default());
            };
            *cursor = Cursor(Some(first.to_string()));
            count = self.run(link, idle)?;
        }
        let mut claim = self.consumer.command("XAUTOCLAIM");
        claim.arg(&self.consumer.name).arg(self.idle.as_millis() as u64);
        claim.arg(&cursor.0).arg("COUNT").arg(count).arg("JUSTID");
        let mut parts = self.behind_fence(link, claim)?.into_iter();
        cursor.advance(parts.next());
        let mut claimed = Claimed {
            ids: ids(parts.next()),
            trimmed: ids(parts.next()),
        };
        if let Some(idle) = idle {
            // If others have acknowledged some of these entries since the query, XAUTOCLAIM continues after the last of
            // them.
            let is_of_dead = |id: &EntryId| idle.last() < Some(id) || idle.binary_search(id).is_ok();
            claimed.trimmed.retain(is_of_dead);
        }
        Ok(claimed)
    }

    /// Sends XAUTOCLAIM in one MULTI with a move of the fence, or alone if Redis refuses that.
    fn behind_fence(&self, link: &mut Link, claim: Cmd) -> RedisResult<Vec<Value>> {
        match link.transaction(&[self.fence.move_away(), claim.clone()]) {
            Ok(answers) => {
                let answer = answers.unwrap_or_default().pop().unwrap_or(Value::Nil);
                Ok(from_redis_value(answer.extract_error()?)?)
            }
            Err(error) if link::is_connection_error(&error) => Err(error),
            Err(_) => link.query(&claim),
        }
    }

    /// Moves the fence alone.
    pub fn move_fence(&self, link: &mut Link) -> RedisResult<()> {
        match link.query::<()>(&self.fence.move_away()) {
            Err(error) if link::is_connection_error(&error) => Err(error),
            Err(error) => {
                log::debug!("failed to move the fence: {}", link::describe(&error));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// How many of these entries are consecutive in the list of all pending entries. XAUTOCLAIM would remove trimmed
    /// entries that live consumers hold in between.
    fn run(&self, link: &mut Link, idle: &[EntryId]) -> RedisResult<usize> {
        let range = (idle.first().map(EntryId::to_string), "+", idle.len());
        let all = self.consumer.pending(link, range)?;
        let follows = |(pending, idle): &(&Pending, &EntryId)| pending.id == **idle;
        Ok(all.iter().zip(idle).take_while(follows).count().max(1))
    }

    /// The next entries of dead consumers, in stream order, or `None` if the Redis user lacks the right to query them.
    fn idle(&self, link: &mut Link, cursor: &Cursor, count: usize) -> RedisResult<Option<Vec<EntryId>>> {
        let range = ("IDLE", self.idle.as_millis() as u64, &cursor.0, "+", count);
        let pending = self.consumer.pending(link, range);
        let pending = link.optional(pending, NO_IDLE, "+xpending")?;
        Ok(pending.map(|pending| pending.iter().map(|pending| pending.id).collect()))
    }

    /// Other consumers that hold entries and have sent no command for `time`, or `None` if the Redis user lacks the
    /// right to query them.
    pub fn silent(&self, link: &mut Link, time: Duration) -> RedisResult<Option<Vec<String>>> {
        let consumers = stream_info::consumers(link, &self.consumer.stream, &self.consumer.group);
        let cost = "the start does not wait for entries of consumers that may be dead";
        let Some(consumers) = link.optional(consumers, cost, "+xinfo")? else {
            return Ok(None);
        };
        let is_silent = |other: &StreamInfoConsumer| {
            other.pending > 0 && other.name != self.consumer.name && other.idle as u128 + 50 >= time.as_millis()
        };
        let silent = consumers.into_iter().filter(is_silent);
        Ok(Some(silent.map(|consumer| consumer.name).collect()))
    }
}
