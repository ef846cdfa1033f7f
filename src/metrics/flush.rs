//! The `metrics` thread: adds counters to the dashboard's hashes.
//!
//! Owns how much of each count each field of each hash is known to hold. Every 500 ms, and once more after the last
//! thread has ended, the differences are sent in one MULTI.
//!
//! Invariant: no interval is counted twice, and none is lost while the process lives. A flush without a reply is
//! repeated unchanged through `once` until it is known to have been executed. A field that cannot be incremented keeps
//! its counts for later.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult, Value};

use crate::keys;
use crate::metrics::{Count, Metrics};
use crate::postgres::db::Db;
use crate::redis::exactly_once::{self, Once};
use crate::redis::link::{self, Link, Redis};
use crate::runtime::retry::{Outage, Refusal};
use crate::runtime::shutdown::Stop;
use crate::settings::config::Config;

const INTERVAL: Duration = Duration::from_millis(500);

/// The dashboard takes its totals from this hash if the hash has any field, so the worker never creates it.
pub const RECORD_COUNTS: &str = "db:record_counts";

/// A hash to which counts are added.
struct Hash {
    key: String,
    counts: fn(&Metrics) -> Vec<Count>,
    /// The counts that the hash is known to hold.
    confirmed: Vec<i64>,
}

impl Hash {
    fn new(key: &str, counts: fn(&Metrics) -> Vec<Count>) -> Hash {
        Hash {
            key: key.to_owned(),
            counts,
            confirmed: counts(&Metrics::default()).iter().map(|(_, count)| *count).collect(),
        }
    }

    /// The counts that the hash does not hold yet; `hash` is the index of the hash.
    fn rest(&self, hash: usize, metrics: &Metrics) -> Vec<Addition> {
        let counts = (self.counts)(metrics).into_iter().zip(&self.confirmed).enumerate();
        let rest = counts.map(|(number, ((field, count), confirmed))| Addition {
            hash,
            number,
            field,
            by: count - confirmed,
        });
        rest.filter(|addition| addition.by != 0).collect()
    }

    fn confirm(&mut self, addition: &Addition) {
        self.confirmed[addition.number] += addition.by;
    }
}

/// An increment of one field.
#[derive(Clone)]
struct Addition {
    /// The index of the hash, and of the field in it (`number`).
    hash: usize,
    number: usize,
    field: &'static str,
    by: i64,
}

/// Adds the counters to the dashboard's hashes.
pub struct Flusher {
    link: Link,
    metrics: Arc<Metrics>,
    hashes: Vec<Hash>,
    once: Once,
    /// The increments that were sent without a reply.
    unclear: Option<Vec<Addition>>,
    refusal: Refusal,
    misfit: Refusal,
    outages: [Arc<Outage>; 2],
}

impl Flusher {
    pub fn new(redis: &Redis, db: &Db, config: &Config, metrics: Arc<Metrics>) -> Flusher {
        let events = config
            .metrics_keys
            .iter()
            .map(|key| Hash::new(key, Metrics::event_counts));
        let mut hashes: Vec<Hash> = events.collect();
        hashes.push(Hash::new(RECORD_COUNTS, Metrics::row_counts));
        hashes.push(Hash::new(&keys::losses(config), Metrics::loss_counts));
        Flusher {
            link: redis.link(Duration::ZERO),
            metrics,
            hashes,
            once: Once::new(keys::of_consumer("flush", config, &config.consumer)),
            unclear: None,
            refusal: Refusal::default(),
            misfit: Refusal::default(),
            outages: [Arc::clone(&redis.outage), Arc::clone(&db.outage)],
        }
    }

    /// Flushes until `stop`, then once more. `stop` is requested after all threads that count have ended.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        while !stop.wait(INTERVAL) {
            // Counts that could not be sent are kept and go out with the next flush.
            let _ = self.flush();
            self.metrics.repeats.report_due();
            self.outages.iter().for_each(|outage| outage.repeats.report_due());
        }
        let flushed = self.flush().or_else(|_| self.flush());
        let reason = flushed.map_or_else(|error| link::describe(&error), |()| "see above".to_owned());
        let rest = self.rest();
        if !rest.is_empty() {
            log::error!(
                "the last counts could not be flushed to redis ({reason}): {}",
                rest.join("; ")
            );
        }
        log::info!("counted {}", self.metrics.summary());
        Ok(())
    }

    /// The counts that the hashes lack. Hashes that lack the same counts share an item.
    fn rest(&self) -> Vec<String> {
        let mut rest: Vec<(String, Vec<&str>)> = Vec::new();
        for (number, hash) in self.hashes.iter().enumerate() {
            let mut counts = hash.rest(number, &self.metrics);
            counts.retain(|_| hash.key != RECORD_COUNTS);
            let counts: Vec<String> = counts
                .iter()
                .map(|count| format!("{} {}", count.field, count.by))
                .collect();
            match rest.iter_mut().find(|(others, _)| *others == counts.join(", ")) {
                _ if counts.is_empty() => {}
                Some((_, keys)) => keys.push(&hash.key),
                None => rest.push((counts.join(", "), vec![&hash.key])),
            }
        }
        let line = |(counts, keys): &(String, Vec<&str>)| format!("{counts} of {}", keys.join(" and "));
        rest.iter().map(line).collect()
    }

    /// Flushes new counts and logs errors.
    fn flush(&mut self) -> RedisResult<()> {
        let flushed = self.try_flush();
        match &flushed {
            Ok(()) => self.refusal.end("redis accepts the counters"),
            Err(error) if self.link.waits_out(error) => {}
            Err(error) => self.refusal.say(format!(
                "redis refuses the counters: {}; they are kept and sent again{}",
                link::describe(error),
                self.hint(error)
            )),
        }
        flushed
    }

    /// The advice for a refusal, if the error does not contain it.
    fn hint(&self, error: &RedisError) -> String {
        if link::code(error) == "WRONGTYPE" {
            let key = self.once.key();
            return format!("; another program made the key {key}: redis-cli DEL {key}");
        }
        let is_own = |hash: &&Hash| hash.key.starts_with("firehose:worker:");
        let hashes = self.hashes.iter();
        let hashes = hashes.filter(|hash| hash.key != RECORD_COUNTS && !is_own(hash));
        let keys: Vec<String> = hashes.map(|hash| format!("~{}", hash.key)).collect();
        link::hint(error, &format!("{} {} +hincrby", exactly_once::RULE, keys.join(" ")))
    }

    fn try_flush(&mut self) -> RedisResult<()> {
        if let Some(additions) = self.unclear.clone() {
            self.send(additions)?;
        }
        let mut additions = Vec::new();
        for (number, hash) in self.hashes.iter_mut().enumerate() {
            let rest = hash.rest(number, &self.metrics);
            // If the hash of row totals does not exist, its counts are dropped: the program that creates it counts the
            // rows.
            if hash.key == RECORD_COUNTS && !rest.is_empty() && !has_record_counts(&mut self.link)? {
                rest.iter().for_each(|addition| hash.confirm(addition));
            } else {
                additions.extend(rest);
            }
        }
        match additions.is_empty() {
            true => self.probe_outage(),
            false => self.send(additions),
        }
    }

    fn send(&mut self, additions: Vec<Addition>) -> RedisResult<()> {
        let commands = additions.iter().map(|addition| self.command(addition)).collect();
        let sent = self.once.execute(&mut self.link, commands);
        if self.once.is_unclear() {
            self.unclear = Some(additions);
            return sent.map(drop);
        }
        self.unclear = None;
        self.confirm(additions, sent?);
        Ok(())
    }

    fn command(&self, addition: &Addition) -> Cmd {
        let mut add = redis::cmd("HINCRBY");
        add.arg(&self.hashes[addition.hash].key);
        add.arg(addition.field).arg(addition.by);
        add
    }

    /// Records which increments were executed. EXEC continues if one of its commands fails, for example on a key that
    /// is not a hash.
    fn confirm(&mut self, additions: Vec<Addition>, answers: Vec<Value>) {
        let mut answers = answers.into_iter();
        let mut misfit = None;
        for addition in additions {
            let hash = &mut self.hashes[addition.hash];
            // There are no replies if an earlier attempt was executed and its reply was lost.
            let added = answers.next().map_or(Ok(()), |answer| answer.extract_error().map(drop));
            if let Err(error) = &added {
                let why = || format!("{} of {}: {}", addition.field, hash.key, link::describe(error));
                misfit.get_or_insert_with(why);
            }
            // Row totals that cannot be incremented are dropped: the program that owns the hash has to count the rows
            // again.
            if added.is_ok() || hash.key == RECORD_COUNTS {
                hash.confirm(&addition);
            }
        }
        match misfit {
            Some(misfit) => self.misfit.say(format!(
                "redis cannot add to {misfit}; the counts are kept and sent again, those of {RECORD_COUNTS} are not; delete \
                 what is in the way"
            )),
            None => self.misfit.end("redis adds to all counters"),
        }
    }

    /// Called when there is nothing to send. While Redis is down, checks whether it is back.
    fn probe_outage(&mut self) -> RedisResult<()> {
        if !self.link.is_down() {
            return Ok(());
        }
        self.link.query::<Value>(&redis::cmd("PING")).map(drop)
    }
}

/// Whether the hash of row totals exists. A missing right to ask is logged once, and counts as a missing hash.
///
/// # Errors
///
/// Fails if Redis cannot be reached or refuses to answer for another reason.
pub fn has_record_counts(link: &mut Link) -> RedisResult<bool> {
    let exists = link.query(redis::cmd("EXISTS").arg(RECORD_COUNTS));
    let exists = link.optional(
        exists,
        "db:record_counts is not kept up to date",
        "~db:record_counts +exists +hincrby",
    )?;
    Ok(exists.unwrap_or(false))
}
