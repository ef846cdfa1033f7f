//! Thread `losses`: what the stream lost before it was read, and what it is about to lose.
//!
//! Owns the sample of the stream every two seconds, over a link of its own and outside of the data path. Unread entries
//! that the producer trimmed are counted and logged, and predicted while there is time. Also warns when the dead
//! letters approach their limit, and compares Redis's clock with this machine's. The reader finds pending entries whose
//! body was trimmed; they are counted when they are acknowledged.
//!
//! Invariant: a loss is counted once, whichever process detects it and however often it restarts. The last sample is
//! kept in Redis beside the counts, and both are replaced in one transaction, which fails if another process has
//! replaced them in between.

pub mod forecast;
pub mod unread;

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{InfoDict, RedisResult};

use crate::dead_letter::DEAD_LETTERS;
use crate::group::consumer::Consumer;
use crate::group::stream_info::{self, StreamInfo};
use crate::keys;
use crate::metrics::{Metrics, Reads};
use crate::redis::clock::{Clock, Comparison};
use crate::redis::link::{self, Link, Redis};
use crate::runtime::retry::Refusal;
use crate::runtime::shutdown::Stop;
use crate::settings::config::Config;
use forecast::{Forecast, News};
use unread::{Given, RunId, Seen};

const INTERVAL: Duration = Duration::from_secs(2);

/// The interval until there is a first sample: losses before it are not counted.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);

/// Another consumer did not read since the last sample if it was idle for longer than the time since then, by at least
/// this margin.
const IDLE_MARGIN: Duration = Duration::from_secs(1);

/// Consecutive samples that may be skipped because an answer is on its way to the reader.
const MAX_PUT_OFF: u32 = 5;

/// Whether there are so many dead letters that the oldest will be dropped before long.
pub fn dead_letters_are_many(number: u64, limit: u64) -> bool {
    number * 10 >= limit * 8
}

/// The consequences of lacking the rights on the stream, on the key with the results, on the dead letters and on INFO.
const NO_SAMPLES: &str = "unread entries that are trimmed are neither counted nor predicted";
const NO_KEEPING: &str = "losses are counted for this run only";
const NO_LETTERS: &str = "the log does not report when the dead letters reach their limit";
const NO_SERVER: &str = "losses beside other workers, or after a worker was killed, may go uncounted";

const KEEPING_RULE: &str = "~firehose:worker:* +watch +unwatch +hget +hset +hincrby +multi +exec";

/// The fields of the hash: the last sample, and counts.
pub const SEEN: &str = "seen";
pub const UNREAD_TRIMMED: &str = "unread_trimmed";
pub const GROUPS_RECREATED: &str = "groups_recreated";

pub struct Losses {
    link: Link,
    consumer: Consumer,
    key: String,
    dead_letter_maxlen: u64,
    metrics: Arc<Metrics>,
    clocks: Comparison,
    forecast: Forecast,
    /// The number of the link's connection, and the process of Redis at its other end.
    server: Option<(u64, Option<RunId>)>,
    last: Option<Look>,
    put_off: u32,
    /// The last sample, if the Redis user lacks the rights to store it.
    kept: Option<Seen>,
    may_keep: bool,
    has_said_letters: bool,
    refusal: Refusal,
}

/// A sample that was kept.
struct Look {
    at: Instant,
    seen: Seen,
    /// The number of entries that this process's reader had read up to the group's position, if it was known.
    reads: Option<Reads>,
}

impl Losses {
    pub fn new(redis: &Redis, config: &Config, metrics: Arc<Metrics>, clock: Clock) -> Losses {
        Losses {
            link: redis.link(Duration::ZERO),
            consumer: Consumer::new(config),
            key: keys::losses(config),
            dead_letter_maxlen: config.dead_letter_maxlen as u64,
            metrics,
            clocks: Comparison::new(clock),
            forecast: Forecast::new(config.max_stream_len as u64),
            server: None,
            last: None,
            put_off: 0,
            kept: None,
            may_keep: true,
            has_said_letters: false,
            refusal: Refusal::default(),
        }
    }

    /// Samples before anything is read: a gap that opened while no worker ran is visible only now.
    pub fn sample_before_reading(&mut self) {
        self.sample_and_log(true);
    }

    /// Samples until `stop`, which is requested after the reader has ended; then once more.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        while !stop.wait(if self.last.is_none() { FIRST_INTERVAL } else { INTERVAL }) {
            self.sample_and_log(false);
        }
        // If Redis restarts before the next process samples, that one can tell what was lost only since the last sample.
        // A broken connection is noticed only when it is used, hence a second attempt.
        let was_connected = self.link.is_connected();
        if !self.sample_and_log(false) && was_connected {
            self.sample_and_log(false);
        }
        Ok(())
    }

    /// Returns whether there was an answer to evaluate.
    fn sample_and_log(&mut self, is_before_reading: bool) -> bool {
        let look = self.sample(is_before_reading);
        match &look {
            Ok(()) => self.refusal.end("losses are counted"),
            // The next sample follows in two seconds, and the link logs an outage.
            Err(error) if link::is_connection_error(error) || link::is_unready(error) => {
                log::debug!("failed to sample {}: {}", self.consumer.stream, link::describe(error));
            }
            Err(error) => self.refusal.say(format!(
                "cannot read or store what {} has lost, in {}: {}; losses are counted once redis allows it",
                self.consumer.stream,
                self.key,
                link::describe(error)
            )),
        }
        if let Err(error) = self.check_dead_letters() {
            log::debug!(
                "failed to count the entries of {DEAD_LETTERS}: {}",
                link::describe(&error)
            );
        }
        if let Err(error) = self.clocks.sample(&mut self.link) {
            log::debug!("failed to ask redis for its time: {}", link::describe(&error));
        }
        look.is_ok()
    }

    fn sample(&mut self, is_before_reading: bool) -> RedisResult<()> {
        // Before the other commands: a connection that breaks in between makes them fail.
        let server = self.server()?;
        let info = stream_info::read(&mut self.link, &self.consumer.stream, &self.consumer.group);
        let Some(info) = self.link.optional(info, NO_SAMPLES, "+xinfo +multi +exec")? else {
            return Ok(());
        };
        let kept = self.kept()?;
        let Some(info) = info else {
            self.last = None;
            if is_before_reading && kept.is_some() {
                log::warn!(
                    "the group {} no longer exists: what was unread or pending in it is lost",
                    self.consumer.group
                );
                self.metrics.group_recreated();
            }
            return self.forget_watch();
        };
        let reads = self.reads_at(&info, is_before_reading);
        if self.is_to_put_off(&info, reads) {
            return self.forget_watch();
        }
        let given = self.given(kept.as_ref(), &info, reads, server);
        let Some((seen, lost)) = unread::compare(kept.as_ref(), given, &info, server) else {
            if self.link.is_first("old redis") {
                log::info!(
                    "redis before 7.0 does not report how many unread entries were trimmed: they are not counted"
                );
            }
            return self.forget_watch();
        };
        self.say_deletions(kept.as_ref(), &info);
        if self.keep(kept.as_ref(), &seen, lost)? {
            self.say_lost(lost);
            let at = Instant::now();
            self.last = Some(Look { at, seen, reads });
        }
        self.report_forecast(&info, &seen);
        Ok(())
    }

    /// What this process's reader had read up to the group's position, or `None` if an answer may be on its way.
    fn reads_at(&self, info: &StreamInfo, is_before_reading: bool) -> Option<Reads> {
        let reads = self.metrics.reads();
        if is_before_reading || reads.last == info.group.delivered {
            return Some(reads);
        }
        let has_stayed = |last: &&Look| last.seen.delivered == info.group.delivered;
        self.last.as_ref().filter(has_stayed).and_then(|last| last.reads)
    }

    /// Whether an answer is on its way to the reader, so that a moment later it will be known how much was delivered to
    /// the group.
    fn is_to_put_off(&mut self, info: &StreamInfo, reads: Option<Reads>) -> bool {
        let is_to_put_off = reads.is_none() && self.is_alone(info) && self.put_off < MAX_PUT_OFF;
        self.put_off = if is_to_put_off { self.put_off + 1 } else { 0 };
        is_to_put_off
    }

    /// Whether no other consumer can have received entries since the last sample.
    fn is_alone(&self, info: &StreamInfo) -> bool {
        let Some(last) = &self.last else { return false };
        let since = (last.at.elapsed() + IDLE_MARGIN).as_millis();
        let mut others = info
            .group
            .consumers
            .iter()
            .filter(|other| other.name != self.consumer.name);
        others.all(|other| other.idle as u128 > since)
    }

    fn given(&self, kept: Option<&Seen>, info: &StreamInfo, reads: Option<Reads>, server: Option<RunId>) -> Given {
        let counted = self.last.as_ref().and_then(|last| {
            let (then, now) = last.reads.zip(reads)?;
            let is_complete = then.epoch == now.epoch && kept == Some(&last.seen) && self.is_alone(info);
            is_complete.then(|| now.number - then.number)
        });
        let is_same_server = server.is_some() && kept.is_some_and(|kept| kept.server == server);
        match counted {
            Some(number) => Given::Counted(number),
            None if is_same_server => Given::ByRedis,
            None => Given::Unknown,
        }
    }

    /// The process of Redis that answers, or `None` if the Redis user may not ask. Queried once per connection.
    fn server(&mut self) -> RedisResult<Option<RunId>> {
        let number = self.link.reach()?;
        if let Some((_, server)) = self.server.filter(|(of, _)| *of == number) {
            return Ok(server);
        }
        let info = self.link.query::<InfoDict>(redis::cmd("INFO").arg("server"));
        let info = self.link.optional(info, NO_SERVER, "+info")?;
        let run_id: Option<String> = info.and_then(|info| info.get("run_id"));
        let server = run_id.and_then(|id| RunId::from_str_radix(id.get(..16)?, 16).ok());
        self.server = Some((number, server));
        Ok(server)
    }

    /// The last sample of any process. Watches it, so that `keep` detects if another process replaces it.
    fn kept(&mut self) -> RedisResult<Option<Seen>> {
        let watch = self.link.query::<()>(redis::cmd("WATCH").arg(&self.key));
        let mut get = redis::cmd("HGET");
        get.arg(&self.key).arg(SEEN);
        let text = watch.and_then(|()| self.link.query::<Option<String>>(&get));
        Ok(match self.allowed(text)? {
            Some(text) => text.and_then(|text| Seen::parse(&text)),
            None => self.kept,
        })
    }

    /// The answer to a command on the key, or `None` if the Redis user lacks the rights. In that case the sample is
    /// kept in memory.
    fn allowed<T>(&mut self, answer: RedisResult<T>) -> RedisResult<Option<T>> {
        let answer = self.link.optional(answer, NO_KEEPING, KEEPING_RULE)?;
        self.may_keep &= answer.is_some();
        Ok(answer)
    }

    fn forget_watch(&mut self) -> RedisResult<()> {
        if !self.may_keep {
            return Ok(());
        }
        let forgotten = self.link.query(&redis::cmd("UNWATCH"));
        self.allowed(forgotten).map(Option::unwrap_or_default)
    }

    /// Replaces the last sample and adds the losses. Returns `false` if another process was faster.
    fn keep(&mut self, kept: Option<&Seen>, seen: &Seen, lost: u64) -> RedisResult<bool> {
        if !self.may_keep {
            self.kept = Some(*seen);
            return Ok(true);
        }
        if kept == Some(seen) {
            self.forget_watch()?;
            return Ok(true);
        }
        let mut set = redis::cmd("HSET");
        set.arg(&self.key).arg(SEEN).arg(seen.to_string());
        let mut commands = vec![set];
        if lost > 0 {
            let mut add = redis::cmd("HINCRBY");
            add.arg(&self.key).arg(UNREAD_TRIMMED).arg(lost);
            commands.push(add);
        }
        let replaced = self.link.transaction(&commands);
        Ok(match self.allowed(replaced)? {
            Some(answers) => answers.is_some(),
            None => {
                self.kept = Some(*seen);
                true
            }
        })
    }

    fn say_lost(&self, lost: u64) {
        if lost > 0 {
            self.metrics.unread_trimmed(lost);
            log::error!(
                "{lost} entries were trimmed from {} before they were read: lost; the worker is too slow for the \
                 producer's limit, or was away for too long",
                self.consumer.stream
            );
        }
    }

    fn say_deletions(&mut self, kept: Option<&Seen>, info: &StreamInfo) {
        let has_deletions = kept.is_some_and(|kept| kept.has_deletions(info));
        if has_deletions && self.link.is_first("deletions") {
            log::warn!(
                "another program deletes entries of {} (XDEL): while that goes on, entries lost unread are not counted",
                self.consumer.stream
            );
        }
    }

    fn report_forecast(&mut self, info: &StreamInfo, seen: &Seen) {
        let unread = info.unread(seen.position);
        let added = info.added.unwrap_or_default();
        match self.forecast.sample(Instant::now(), added, unread) {
            Some(News::Near(near)) => log::warn!(
                "the backlog of {} has grown to {unread} unread entries: {near}, and they are lost",
                self.consumer.stream
            ),
            Some(News::Passed) => log::info!(
                "the backlog of {} has {unread} unread entries and no longer approaches the producer's limit",
                self.consumer.stream
            ),
            None => {}
        }
    }

    fn check_dead_letters(&mut self) -> RedisResult<()> {
        let number = self.link.query::<u64>(redis::cmd("XLEN").arg(DEAD_LETTERS));
        let rule = format!("~{DEAD_LETTERS} +xlen");
        let Some(number) = self.link.optional(number, NO_LETTERS, &rule)? else {
            return Ok(());
        };
        let limit = self.dead_letter_maxlen;
        if dead_letters_are_many(number, limit) {
            if !std::mem::replace(&mut self.has_said_letters, true) {
                log::warn!(
                    "{DEAD_LETTERS} holds {number} dead letters, and the oldest are dropped above about {limit}: run `firehose-worker \
                     dead-letters list`, and replay or drop them"
                );
            }
        } else if number * 10 < limit * 7 {
            self.has_said_letters = false;
        }
        Ok(())
    }
}
