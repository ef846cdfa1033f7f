//! Pending entries of consumers that are gone.
//!
//! Owns XAUTOCLAIM, and who is taken for gone. Entries are claimed by their IDs alone: the reader finds them among its own
//! pending ones afterwards.
//!
//! Invariant: XAUTOCLAIM drops whatever was trimmed from the stream, also what a live consumer was given a moment ago and
//! applies. So it is sent only for entries of gone consumers that follow each other, and of what it dropped only theirs is
//! lost. The fence moves with it, so that who held the entries before looks again before he acknowledges them.

use std::time::Duration;

use redis::streams::StreamInfoConsumer;
use redis::{Cmd, RedisResult, Value, from_redis_value};

use crate::entry::EntryId;
use crate::group::consumer::{Consumer, Pending};
use crate::group::fence::Fence;
use crate::group::stream_info;
use crate::reader::delivered::{ids, text};
use crate::redis::link::{self, Link};

const NO_LOOK: &str = "entries of live consumers are counted as lost where they were trimmed, though they are applied";

pub struct Claim {
    pub consumer: Consumer,
    /// Entries that have been pending for this long are of consumers that are gone.
    pub idle: Duration,
    pub fence: Fence,
}

/// Where XAUTOCLAIM goes on.
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

/// What one XAUTOCLAIM found.
#[derive(Default)]
pub struct Claimed {
    /// Now the own consumer's, in the order of the stream; still to be read.
    pub ids: Vec<EntryId>,
    /// Lost: trimmed from the stream while a gone consumer held them. Pending no more.
    pub trimmed: Vec<EntryId>,
}

impl Claim {
    /// Makes the next entries of consumers that are gone, so many at most, the own consumer's, without reading them.
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
            // Where others have acknowledged some since the look, it goes on behind the last of them.
            let is_of_gone = |id: &EntryId| idle.last() < Some(id) || idle.binary_search(id).is_ok();
            claimed.trimmed.retain(is_of_gone);
        }
        Ok(claimed)
    }

    /// Sends XAUTOCLAIM in one MULTI with a move of the fence; by itself where Redis does not take that.
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

    /// How many of these follow each other among all pending entries: of what live consumers hold in between, XAUTOCLAIM
    /// would drop what was trimmed.
    fn run(&self, link: &mut Link, idle: &[EntryId]) -> RedisResult<usize> {
        let range = (idle.first().map(EntryId::to_string), "+", idle.len());
        let all = self.consumer.pending(link, range)?;
        let follows = |(pending, idle): &(&Pending, &EntryId)| pending.id == **idle;
        Ok(all.iter().zip(idle).take_while(follows).count().max(1))
    }

    /// The next entries, in the order of the stream, that are of consumers that are gone; `None` where Redis does not allow
    /// to ask.
    fn idle(&self, link: &mut Link, cursor: &Cursor, count: usize) -> RedisResult<Option<Vec<EntryId>>> {
        let range = ("IDLE", self.idle.as_millis() as u64, &cursor.0, "+", count);
        let pending = self.consumer.pending(link, range);
        let pending = link.optional(pending, NO_LOOK, "+xpending")?;
        Ok(pending.map(|pending| pending.iter().map(|pending| pending.id).collect()))
    }

    /// Other consumers that hold entries and have not spoken to Redis for `time`; `None` where Redis does not allow to ask.
    pub fn silent(&self, link: &mut Link, time: Duration) -> RedisResult<Option<Vec<String>>> {
        let consumers = stream_info::consumers(link, &self.consumer.stream, &self.consumer.group);
        let cost = "entries of other consumers are not waited for";
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
