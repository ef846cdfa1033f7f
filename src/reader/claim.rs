//! Pending entries of consumers that are gone.
//!
//! Owns XAUTOCLAIM, and who is taken for gone. Entries are claimed by their IDs alone: the reader finds them among its own
//! pending ones afterwards.
//!
//! Invariant: XAUTOCLAIM drops whatever was trimmed from the stream, also what a live consumer was given a moment ago and
//! applies. So it is sent only for entries of gone consumers that follow each other, and of what it dropped only theirs is
//! lost. The fence moves with it, so that who held the entries before looks again before he acknowledges them.

use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisResult, Value, from_redis_value};

use crate::entry::EntryId;
use crate::group::fence::Fence;
use crate::reader::delivered::{ids, text};
use crate::redis::link::{self, Link};

const NO_LOOK: &str = "entries of live consumers are counted as lost where they were trimmed, though they are applied";

pub struct Claim {
    pub stream: String,
    pub group: String,
    pub consumer: String,
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
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim.arg(&self.stream).arg(&self.group).arg(&self.consumer);
        claim.arg(self.idle.as_millis() as u64);
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
        let mut pending = redis::cmd("XPENDING");
        pending.arg(&self.stream).arg(&self.group);
        pending
            .arg(idle.first().map(EntryId::to_string))
            .arg("+")
            .arg(idle.len());
        let all = link.query::<Vec<(String, String, u64, u64)>>(&pending)?;
        let follows = |((id, ..), idle): &(&(String, String, u64, u64), &EntryId)| *id == idle.to_string();
        Ok(all.iter().zip(idle).take_while(follows).count().max(1))
    }

    /// The next entries, in the order of the stream, that are of consumers that are gone; `None` where Redis does not allow
    /// to ask.
    fn idle(&self, link: &mut Link, cursor: &Cursor, count: usize) -> RedisResult<Option<Vec<EntryId>>> {
        let mut pending = redis::cmd("XPENDING");
        pending.arg(&self.stream).arg(&self.group);
        pending.arg("IDLE").arg(self.idle.as_millis() as u64);
        pending.arg(&cursor.0).arg("+").arg(count);
        let answer = link.query::<Vec<(String, String, u64, u64)>>(&pending);
        let entries = link.optional(answer, NO_LOOK, "+xpending")?;
        let id = |(id, ..): &(String, String, u64, u64)| EntryId::parse(id.as_bytes());
        Ok(entries.map(|entries| entries.iter().filter_map(id).collect()))
    }

    /// Other consumers that hold entries and have not spoken to Redis for `time`; `None` where Redis does not allow to ask.
    pub fn silent(&self, link: &mut Link, time: Duration) -> RedisResult<Option<Vec<String>>> {
        let mut ask = redis::cmd("XINFO");
        ask.arg("CONSUMERS").arg(&self.stream).arg(&self.group);
        let answer = link.query::<Vec<Consumer>>(&ask);
        let cost = "entries of other consumers are not waited for";
        let Some(consumers) = link.optional(answer, cost, "+xinfo")? else {
            return Ok(None);
        };
        let is_silent = |consumer: &Consumer| {
            consumer.pending > 0
                && consumer.name != self.consumer
                && u128::from(consumer.idle_ms) + 50 >= time.as_millis()
        };
        let silent = consumers.into_iter().filter(is_silent);
        Ok(Some(silent.map(|consumer| consumer.name).collect()))
    }
}

/// What XINFO CONSUMERS says of one.
struct Consumer {
    name: String,
    pending: u64,
    /// Since it last spoke to Redis.
    idle_ms: u64,
}

impl FromRedisValue for Consumer {
    fn from_redis_value(value: Value) -> Result<Self, redis::ParsingError> {
        let mut fields: std::collections::HashMap<String, Value> = FromRedisValue::from_redis_value(value)?;
        let mut field = |name: &str| fields.remove(name).unwrap_or(Value::Nil);
        Ok(Consumer {
            name: FromRedisValue::from_redis_value(field("name"))?,
            pending: FromRedisValue::from_redis_value(field("pending"))?,
            idle_ms: FromRedisValue::from_redis_value(field("idle"))?,
        })
    }
}
