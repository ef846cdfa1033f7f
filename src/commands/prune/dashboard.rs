//! Adds the changes of row totals to the dashboard's hash, each exactly once.
//!
//! Owns the key that holds the number of the last changes that were added. Changes with this number or an earlier one
//! are not added again, whichever process sends them, and whether or not a reply was lost.

use std::time::{Duration, Instant};

use redis::{Cmd, RedisResult, from_redis_value};

use super::progress::Sending;
use crate::keys;
use crate::metrics::flush::{RECORD_COUNTS, has_record_counts};
use crate::redis::link::{self, Link, Redis};
use crate::settings::config::Config;

/// How often counts are sent, and how soon after Redis did not take them.
const INTERVAL: Duration = Duration::from_secs(2);
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Longer than an unfinished prune is left alone.
const TTL_SECONDS: u64 = 60 * 24 * 60 * 60;

pub struct Dashboard {
    link: Link,
    key: String,
    due_at: Instant,
}

impl Dashboard {
    pub fn new(redis: &Redis, config: &Config) -> Dashboard {
        Dashboard {
            link: redis.link(Duration::ZERO),
            key: keys::of_group("prune", config),
            due_at: Instant::now() + INTERVAL,
        }
    }

    pub fn is_due(&self) -> bool {
        Instant::now() >= self.due_at
    }

    /// Adds changes unless they have been added. Returns the reason if it is unknown whether they are.
    pub fn add(&mut self, sending: &Sending) -> Result<(), String> {
        let added = self.try_add(sending);
        self.due_at = Instant::now() + if added.is_ok() { INTERVAL } else { AFTER_FAILURE };
        added.map_err(|error| {
            // Reports that Redis is down, or logs the refusal with the others at the end.
            self.link.waits_out(&error);
            link::describe(&error)
        })
    }

    fn try_add(&mut self, sending: &Sending) -> RedisResult<()> {
        loop {
            let mut watch = redis::pipe();
            watch.cmd("WATCH").arg(&self.key).cmd("GET").arg(&self.key);
            let mut answers: Vec<redis::Value> = self.link.pipeline(&watch)?;
            let last: Option<i64> = answers.pop().map_or(Ok(None), from_redis_value)?;
            if last.is_some_and(|last| last >= sending.number) {
                return self.link.query(&redis::cmd("UNWATCH"));
            }
            let mut commands: Vec<Cmd> = Vec::new();
            // If the hash does not exist, the program that creates it counts the rows.
            if has_record_counts(&mut self.link)? {
                for (field, count) in &sending.counts {
                    let mut add = redis::cmd("HINCRBY");
                    add.arg(RECORD_COUNTS).arg(field).arg(count);
                    commands.push(add);
                }
            }
            let mut set = redis::cmd("SET");
            set.arg(&self.key).arg(sending.number).arg("EX").arg(TTL_SECONDS);
            commands.push(set);
            if self.link.transaction(&commands)?.is_some() {
                return Ok(());
            }
        }
    }
}
