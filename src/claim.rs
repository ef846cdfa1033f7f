//! Pending entries of consumers that are gone.
//!
//! Owns XAUTOCLAIM, and the wait at the start: where another consumer holds entries and shows no sign of life, they are
//! waited for until they may be taken, so that after a cutover from another worker nothing newer is applied before them.
//! Entries are claimed by their IDs and read afterwards, as many at a time as there is room for.

use std::time::{Duration, Instant};

use redis::{FromRedisValue, RedisResult, Value};

use crate::delivered::{Delivered, entries, ids, text};
use crate::entry::EntryId;
use crate::link::{self, Link};
use crate::shutdown::Stop;

/// Entries of one XAUTOCLAIM.
const COUNT: usize = 200;

/// How often consumers that may be gone are looked at.
const LOOK: Duration = Duration::from_millis(200);

pub struct Claim {
    pub stream: String,
    pub group: String,
    pub consumer: String,
    /// Entries that have been pending for this long are of consumers that are gone.
    pub idle: Duration,
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
    /// Pending, but trimmed from the stream; pending no more.
    pub trimmed: Vec<EntryId>,
}

impl Claim {
    /// Makes the next entries of consumers that are gone the own consumer's, without reading them.
    pub fn next(&self, link: &mut Link, cursor: &mut Cursor) -> RedisResult<Claimed> {
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim.arg(&self.stream).arg(&self.group).arg(&self.consumer);
        claim.arg(self.idle.as_millis() as u64);
        claim.arg(&cursor.0).arg("COUNT").arg(COUNT).arg("JUSTID");
        let mut parts = link.query::<Vec<Value>>(&claim)?.into_iter();
        cursor.advance(parts.next());
        Ok(Claimed {
            ids: ids(parts.next()),
            trimmed: ids(parts.next()),
        })
    }

    /// Reads entries that were claimed, which counts as a delivery. Those that were acknowledged meanwhile do not come.
    pub fn read(&self, link: &mut Link, ids: &[EntryId]) -> RedisResult<Vec<Delivered>> {
        let mut claim = redis::cmd("XCLAIM");
        claim.arg(&self.stream).arg(&self.group).arg(&self.consumer).arg(0);
        for id in ids {
            claim.arg(id.to_string());
        }
        Ok(entries(Some(link.query(&claim)?)))
    }

    /// Makes entries of consumers that are gone the own consumer's, without reading them; those that are not idle for
    /// long enough yet are waited for, `idle` at most. What was trimmed is added to `trimmed`. `false` if a stop was
    /// requested first.
    pub fn adopt_gone(&self, link: &mut Link, trimmed: &mut Vec<EntryId>, stop: &Stop) -> RedisResult<bool> {
        let start = Instant::now();
        let mut has_said = false;
        loop {
            self.adopt(link, trimmed)?;
            let silent = self.silent(link, start.elapsed())?;
            if silent.is_empty() || start.elapsed() > self.idle + LOOK {
                return Ok(true);
            }
            if !has_said {
                log::info!(
                    "waiting for entries that may be of consumers that are gone ({}), for {} s at most",
                    silent.join(", "),
                    self.idle.as_secs()
                );
                has_said = true;
            }
            if stop.wait(LOOK) {
                return Ok(false);
            }
        }
    }

    fn adopt(&self, link: &mut Link, trimmed: &mut Vec<EntryId>) -> RedisResult<()> {
        let mut cursor = Cursor::start();
        while !cursor.is_at_end() {
            trimmed.extend(self.next(link, &mut cursor)?.trimmed);
        }
        Ok(())
    }

    /// Other consumers that hold entries and have not spoken to Redis for `time`. Who may not ask, does not wait.
    fn silent(&self, link: &mut Link, time: Duration) -> RedisResult<Vec<String>> {
        let mut ask = redis::cmd("XINFO");
        ask.arg("CONSUMERS").arg(&self.stream).arg(&self.group);
        let consumers: Vec<Consumer> = match link.query(&ask) {
            Ok(consumers) => consumers,
            Err(error) if link::code(&error) == "NOPERM" => {
                log::warn!("redis does not allow XINFO: entries of other consumers are not waited for; allow +xinfo");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let is_silent = |consumer: &Consumer| {
            consumer.pending > 0
                && consumer.name != self.consumer
                && u128::from(consumer.idle_ms) + 50 >= time.as_millis()
        };
        let silent = consumers.into_iter().filter(is_silent);
        Ok(silent.map(|consumer| consumer.name).collect())
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
