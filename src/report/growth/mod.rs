//! How fast the database grows: once an hour, one process of the group notes its size and how much the group has read.
//!
//! Owns the key that `check` reads. Runs in the thread `status`, beside the data path, while the worker applies entries.
//! A sample that fails is tried again, and nothing depends on it: without the rights, or before Redis 7.0, which does
//! not count the entries of a stream, there is no history.
//!
//! Invariant: a sample is stored only if no other process has stored one since the history was read.

pub mod history;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::RedisResult;

use crate::keys;
use crate::losses::unread::Seen;
use crate::losses::{self, SEEN};
use crate::postgres::client::Client;
use crate::postgres::db::Db;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql;
use crate::redis::link::{self, Link};
use crate::settings::config::Config;
use history::{History, INTERVAL, KEPT, Sample};

/// The wait after a sample that failed, and until the thread `losses` has taken its first one.
const RETRY: Duration = Duration::from_secs(5);

/// The time after which Redis drops the history of a group in which no worker reads any more.
const TTL: Duration = KEPT;

/// The consequence of lacking the rights.
const UNMEASURED: &str = "it is not measured how fast the database grows";
const RULE: &str = "~firehose:worker:* +watch +get +set +hget +multi +exec";

/// Takes the samples.
pub struct Sampler {
    db: Db,
    key: String,
    losses_key: String,
    /// What is written, in words.
    settings: String,
    due: Instant,
    is_allowed: bool,
}

/// What a group has read, as the thread `losses` stores it.
struct Progress {
    events: u64,
    groups_recreated: u64,
}

impl Sampler {
    pub fn new(db: &Db, config: &Config) -> Sampler {
        let switches = config.switches;
        Sampler {
            db: db.clone(),
            key: keys::growth(config),
            losses_key: keys::losses(config),
            settings: format!(
                "{:?} {:?} {:?}",
                switches.notifications, switches.viewer_states, switches.generic_records
            ),
            due: Instant::now(),
            is_allowed: true,
        }
    }

    /// Takes a sample if the last one of the group is an hour old.
    pub fn sample_if_due(&mut self, link: &mut Link) {
        if !self.is_allowed || Instant::now() < self.due {
            return;
        }
        let rest = self.sample(link).unwrap_or_else(|error| {
            log::debug!("failed to measure the database's growth: {error}");
            RETRY
        });
        self.due = Instant::now() + rest;
    }

    /// Returns how long to wait until the next one.
    fn sample(&mut self, link: &mut Link) -> Result<Duration, String> {
        let known = self.known(link);
        let Some((history, Some(progress))) = self.allowed(link, known)? else {
            return Ok(RETRY);
        };
        let mut history = history.unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = now.as_millis() as u64;
        if let Some(rest) = history.rest(at_ms) {
            return Ok(rest);
        }
        let (database, bytes) = self.db.with_spare(size).map_err(|error| error.describe())?;
        let of = format!("{database} {} {}", progress.groups_recreated, self.settings);
        let events = progress.events;
        history.add(&of, Sample { at_ms, bytes, events });
        let mut set = redis::cmd("SET");
        set.arg(&self.key).arg(history.to_string());
        set.arg("PX").arg(TTL.as_millis() as u64);
        let stored = link.transaction(&[set]);
        Ok(match self.allowed(link, stored)? {
            Some(Some(_)) => INTERVAL,
            // Another process was faster, and the next try finds its sample.
            _ => RETRY,
        })
    }

    /// The history, and the group's progress, while the key is watched.
    fn known(&self, link: &mut Link) -> RedisResult<(Option<History>, Option<Progress>)> {
        link.query::<()>(redis::cmd("WATCH").arg(&self.key))?;
        Ok((read_history(link, &self.key)?, self.progress(link)?))
    }

    /// The answer, or `None` if the Redis user lacks the rights: then no more samples are taken.
    fn allowed<T>(&mut self, link: &Link, answer: RedisResult<T>) -> Result<Option<T>, String> {
        let answer = link.optional(answer, UNMEASURED, RULE);
        let answer = answer.map_err(|error| link::describe(&error))?;
        self.is_allowed &= answer.is_some();
        Ok(answer)
    }

    /// `None` while the group's position is unknown.
    fn progress(&self, link: &mut Link) -> RedisResult<Option<Progress>> {
        let field = |link: &mut Link, name: &str| -> RedisResult<Option<String>> {
            link.query(redis::cmd("HGET").arg(&self.losses_key).arg(name))
        };
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
        let seen = field(link, SEEN)?.and_then(|text| Seen::parse(&text));
        let Some(position) = seen.and_then(|seen| seen.position) else {
            return Ok(None);
        };
        let lost: u64 = number(field(link, losses::UNREAD_TRIMMED)?);
        Ok(Some(Progress {
            // What was trimmed unread has made no rows.
            events: position.saturating_sub(lost),
            groups_recreated: number(field(link, losses::GROUPS_RECREATED)?),
        }))
    }
}

/// The history in a key. Whatever else the key holds is replaced.
fn read_history(link: &mut Link, key: &str) -> RedisResult<Option<History>> {
    let text: Option<String> = link.query(redis::cmd("GET").arg(key))?;
    Ok(text.and_then(|text| History::parse(&text)))
}

/// Reads the history of the group.
///
/// # Errors
///
/// As for `Link::query`. The command needs the right `+get` on the key.
pub fn read(link: &mut Link, config: &Config) -> RedisResult<Option<History>> {
    read_history(link, &keys::growth(config))
}

/// Which database it is, and its size.
fn size(client: &mut Client) -> Result<(i64, u64), ApplyError> {
    let begun = client.batch_execute(sql::CHECK_BEGIN.text);
    begun.map_err(|source| ApplyError::of_statement(sql::CHECK_BEGIN, source))?;
    let rows = Params::new().query(client, sql::DATABASE_SIZE);
    // Also after an error: the session goes back to the pool.
    let ended = client.batch_execute("ROLLBACK");
    let rows = rows?;
    ended.map_err(|source| ApplyError::of_statement(sql::CHECK_BEGIN, source))?;
    rows.first().map_or(Ok((0, 0)), |row| {
        Ok((row.get("database")?, row.get::<_, i64>("bytes")? as u64))
    })
}
