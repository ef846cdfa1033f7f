//! Entries that may be what ends the process.
//!
//! Owns the search for an entry that the process does not survive: by taking all memory, say, which leaves no error to
//! catch. Redis' own count of deliveries only decides that an entry is run alone, since it rises for all that was in
//! flight, whatever ended the process. The tries alone are counted in keys of the worker's own: each is stored before it
//! begins, and taken back when it ends in any way but the process' end, and when the process ends in good order while a
//! statement of the try still hangs.
//!
//! Invariant: an entry delivered once costs nothing here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult};

use crate::entry::EntryId;
use crate::group::keys;
use crate::reader::delivered::Delivered;
use crate::servers::link::{self, Link, Redis};
use crate::servers::retry::Backoff;
use crate::settings::config::Config;
use crate::shutdown::Stop;

/// Deliveries that a stop, a crash and another restart explain.
const USUAL_DELIVERIES: u64 = 3;

/// A count goes by itself once nobody has tried the entry for a week.
const TTL_SECONDS: u64 = 7 * 24 * 60 * 60;

/// Entries delivered more often than this are run alone; with a limit of tries below it, sooner.
pub fn alone_above(max_deliveries: u64) -> u64 {
    USUAL_DELIVERIES.min(max_deliveries)
}

/// How often Redis has delivered entries that are read again.
pub struct Deliveries {
    stream: String,
    group: String,
    consumer: String,
    is_allowed: bool,
}

impl Deliveries {
    pub fn new(config: &Config) -> Deliveries {
        Deliveries {
            stream: config.stream.clone(),
            group: config.group.clone(),
            consumer: config.consumer.clone(),
            is_allowed: true,
        }
    }

    /// Writes down how often each of these entries of the own consumer, in stream order, was delivered.
    pub fn look_up(&mut self, link: &mut Link, delivered: &mut [Delivered]) -> RedisResult<()> {
        let (Some(first), Some(last), true) = (delivered.first(), delivered.last(), self.is_allowed) else {
            return Ok(());
        };
        let mut pending = redis::cmd("XPENDING");
        pending.arg(&self.stream).arg(&self.group);
        pending.arg(first.id().to_string()).arg(last.id().to_string());
        pending.arg(delivered.len()).arg(&self.consumer);
        let counts: Vec<(String, String, u64, u64)> = match link.query(&pending) {
            Ok(counts) => counts,
            Err(error) if link::code(&error) == "NOPERM" => {
                log::warn!(
                    "redis does not allow XPENDING: an entry that ends the process is not found; allow +xpending"
                );
                self.is_allowed = false;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut counts = counts
            .into_iter()
            .filter_map(|(id, _, _, deliveries)| Some((EntryId::parse(id.as_bytes())?, deliveries)))
            .peekable();
        for delivered in delivered {
            let id = delivered.id();
            while counts.next_if(|(counted, _)| *counted < id).is_some() {}
            if let (Delivered::Entry(entry), Some((_, deliveries))) = (delivered, counts.next_if(|(at, _)| *at == id)) {
                entry.deliveries = deliveries;
            }
        }
        Ok(())
    }
}

/// The tries of all workers that are stored and run: their keys, and how many tries of that entry were fatal before.
#[derive(Clone, Default)]
pub struct Tries(Arc<Mutex<BTreeMap<String, u64>>>);

impl Tries {
    /// Takes all of them back, for who ends the process without waiting for them: it is not the entries that end it.
    pub fn take_back(&self, redis: &Redis) {
        let tries = self.change(std::mem::take);
        let mut link = redis.link(Duration::ZERO);
        for (key, fatal) in tries {
            if let Err(error) = link.query::<()>(&restore(&key, fatal)) {
                log::warn!(
                    "a try alone that the stop interrupts counts as one that ended the process: {}",
                    link::describe(&error)
                );
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, u64>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The tries alone of one worker's suspects, one after the other.
pub struct Trials {
    tries: Tries,
    link: Link,
    config: Config,
    limit: u64,
    stop: Stop,
    trial: Option<Trial>,
    has_said: bool,
}

struct Trial {
    key: String,
    /// Tries that the process did not survive.
    fatal: u64,
    /// Whether one more is written down.
    is_stored: bool,
}

impl Trials {
    pub fn new(redis: &Redis, config: &Config, stop: &Stop, tries: &Tries) -> Trials {
        Trials {
            tries: tries.clone(),
            link: redis.link(Duration::ZERO),
            config: config.clone(),
            limit: config.max_deliveries,
            stop: stop.clone(),
            trial: None,
            has_said: false,
        }
    }

    /// Begins the first try of an entry; why not, if it has been tried too often.
    pub fn begin(&mut self, id: EntryId) -> Result<(), String> {
        let key = keys::of_entry("tries", &self.config, id);
        let fatal = self.insist(redis::cmd("GET").arg(&key)).flatten().unwrap_or(0);
        if fatal >= self.limit {
            return Err(format!("tried alone {fatal} times, each time the process ended"));
        }
        if fatal > 0 {
            log::warn!(
                "entry {id}: the process has ended {fatal} times while it was tried alone; set apart after {}",
                self.limit
            );
        }
        self.trial = Some(Trial {
            key,
            fatal,
            is_stored: false,
        });
        self.resume();
        Ok(())
    }

    /// Whether an entry is on trial.
    pub fn is_on(&self) -> bool {
        self.trial.is_some()
    }

    /// Stores that a try begins.
    pub fn resume(&mut self) {
        if let Some(mut trial) = self.trial.take() {
            if !trial.is_stored {
                let (key, fatal) = (trial.key.clone(), trial.fatal);
                self.tries.change(|tries| tries.insert(key, fatal));
                trial.is_stored = self.insist::<()>(&set(&trial.key, trial.fatal + 1)).is_some();
            }
            self.trial = Some(trial);
        }
    }

    /// Takes the try back: it ended, and the process did not.
    pub fn suspend(&mut self) {
        if let Some(mut trial) = self.trial.take() {
            if trial.is_stored {
                self.set_back(&trial.key, trial.fatal);
                trial.is_stored = false;
            }
            self.tries.change(|tries| tries.remove(&trial.key));
            self.trial = Some(trial);
        }
    }

    /// Ends the trial: nothing about the entry is kept if it is done with.
    pub fn end(&mut self, is_done: bool) {
        let Some(trial) = self.trial.take() else { return };
        if is_done && (trial.is_stored || trial.fatal > 0) {
            self.set_back(&trial.key, 0);
        } else if trial.is_stored {
            self.set_back(&trial.key, trial.fatal);
        }
        self.tries.change(|tries| tries.remove(&trial.key));
    }

    fn set_back(&mut self, key: &str, fatal: u64) {
        self.insist::<()>(&restore(key, fatal));
    }

    /// Tries until Redis answers; `None` if it refuses, or a stop is requested while it does not answer.
    fn insist<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Option<T> {
        let mut backoff = Backoff::default();
        loop {
            match self.link.query(command) {
                Ok(answer) => return Some(answer),
                Err(error) if link::is_unready(&error) => self.link.unserved(&error),
                Err(error) if link::is_connection_error(&error) => {}
                Err(error) => {
                    self.say(&error);
                    return None;
                }
            }
            if self.stop.is_requested() || backoff.wait(&self.stop) {
                return None;
            }
        }
    }

    fn say(&mut self, error: &RedisError) {
        if !self.has_said {
            log::warn!(
                "redis refuses the count of tries ({}): an entry that ends the process is not set apart; allow \
                 ~firehose:worker:* +get +set +del",
                link::describe(error)
            );
            self.has_said = true;
        }
    }
}

impl Drop for Trials {
    /// A worker that panics does so for the entry it tries: that try stays stored.
    fn drop(&mut self) {
        if let Some(trial) = &self.trial {
            self.tries.change(|tries| tries.remove(&trial.key));
        }
    }
}

fn set(key: &str, tries: u64) -> Cmd {
    let mut set = redis::cmd("SET");
    set.arg(key).arg(tries).arg("EX").arg(TTL_SECONDS);
    set
}

/// Sets the count back to what it was before a try; none is kept of an entry whose tries were not fatal.
fn restore(key: &str, fatal: u64) -> Cmd {
    match fatal {
        0 => redis::cmd("DEL").arg(key).to_owned(),
        fatal => set(key, fatal),
    }
}
