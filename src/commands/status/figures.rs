//! The figures of a status, out of Redis.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::streams::StreamInfoConsumer;
use redis::{FromRedisValue, RedisResult};
use serde::Serialize;

use crate::commands::producer::{self, Producer};
use crate::dead_letter::DEAD_LETTERS;
use crate::group::stream_info::{self, StreamInfo};
use crate::group::{holder, mark};
use crate::keys;
use crate::losses::forecast::seconds_left;
use crate::metrics::rates::{Rates, per_second};
use crate::redis::link::{self, Link, Redis};
use crate::report::status::{self, Status};
use crate::settings::config::Config;

/// All of it at one moment; what may not be asked, or is not there, is `null`.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    pub stream: String,
    pub group: String,
    pub producer: Option<Producer>,
    /// Age of the newest committed entry, in seconds.
    pub freshness_seconds: Option<f64>,
    pub events_per_second: f64,
    pub events_per_second_over_a_minute: f64,
    /// The dashboard's counters.
    pub counters: BTreeMap<String, u64>,
    /// Ops that the workers, since they started, have deliberately not applied.
    pub ignored: BTreeMap<String, u64>,
    pub length: Option<u64>,
    /// Entries that no consumer was given yet.
    pub backlog: Option<u64>,
    pub pending: Option<u64>,
    pub added_per_second: Option<f64>,
    /// How long a standstill of all workers may last before the producer trims unread entries.
    pub trim_headroom_seconds: Option<f64>,
    /// Until nothing is unread, at this rate; 0 where nothing is, `null` where the backlog does not shrink.
    pub catch_up_seconds: Option<f64>,
    pub dead_letters: Option<u64>,
    pub dead_letter_limit: u64,
    pub losses: BTreeMap<String, u64>,
    pub workers: Vec<Worker>,
}

/// A consumer of the group, and the worker behind it.
#[derive(Debug, Default, Serialize)]
pub struct Worker {
    pub consumer: String,
    pub pending: u64,
    pub idle_ms: Option<u64>,
    /// Host and process number of who holds the name.
    pub held_by: Option<String>,
    /// `null` of a worker of another kind, and of one that is gone.
    pub status: Option<Status>,
}

/// Takes the figures again and again, since rates need two looks.
pub struct Gatherer {
    link: Link,
    config: Config,
    totals: Rates,
    added: Rates,
    last_backlog: Option<(Instant, u64)>,
}

impl Gatherer {
    pub fn new(redis: &Redis, config: &Config) -> Gatherer {
        Gatherer {
            link: redis.link(Duration::ZERO),
            config: config.clone(),
            totals: Rates::default(),
            added: Rates::default(),
            last_backlog: None,
        }
    }

    /// Takes the figures.
    ///
    /// # Errors
    ///
    /// Redis cannot be reached. What it refuses is left out.
    pub fn gather(&mut self) -> anyhow::Result<Figures> {
        let config = self.config.clone();
        let mut figures = Figures {
            stream: config.stream.clone(),
            group: config.group.clone(),
            dead_letter_limit: config.dead_letter_maxlen as u64,
            ..Figures::default()
        };
        let counters = config.metrics_keys.first().map(String::as_str).unwrap_or_default();
        figures.counters = self.ask(redis::cmd("HGETALL").arg(counters))?.unwrap_or_default();
        figures.producer = self.refusable(producer::ask)?.flatten().and_then(Result::ok);
        figures.dead_letters = self.ask(redis::cmd("XLEN").arg(DEAD_LETTERS))?;
        let losses: Option<BTreeMap<String, String>> = self.ask(redis::cmd("HGETALL").arg(keys::losses(&config)))?;
        let losses = losses.unwrap_or_default().into_iter();
        figures.losses = losses
            .filter_map(|(name, text)| Some((name, text.parse().ok()?)))
            .collect();
        let info = self.refusable(|link| stream_info::read(link, &config.stream, &config.group))?;
        let info = info.flatten();
        figures.workers = self.workers(info.as_ref())?;
        self.add_rates(&mut figures);
        if let Some(info) = info {
            self.add_stream(&mut figures, &info);
        }
        Ok(figures)
    }

    /// An answer, or `None` where this user may not ask or the key holds something else.
    fn ask<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> anyhow::Result<Option<T>> {
        self.refusable(|link| link.query(command))
    }

    fn refusable<T>(&mut self, ask: impl FnOnce(&mut Link) -> RedisResult<T>) -> anyhow::Result<Option<T>> {
        match ask(&mut self.link) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if link::is_refused(&error) || link::code(&error) == "WRONGTYPE" => Ok(None),
            Err(error) => Err(anyhow::anyhow!(link::describe(&error))),
        }
    }

    /// The consumers that hold something, or behind which somebody is; the own name always.
    fn workers(&mut self, info: Option<&StreamInfo>) -> anyhow::Result<Vec<Worker>> {
        let mut consumers: Vec<StreamInfoConsumer> = info.map(|info| info.group.consumers.clone()).unwrap_or_default();
        if consumers.iter().all(|consumer| consumer.name != self.config.consumer) {
            consumers.push(StreamInfoConsumer {
                name: self.config.consumer.clone(),
                ..StreamInfoConsumer::default()
            });
        }
        consumers.sort_by(|a, b| a.name.cmp(&b.name));
        let mut workers = Vec::new();
        for consumer in consumers {
            let is_known =
                info.is_some_and(|info| info.group.consumers.iter().any(|known| known.name == consumer.name));
            let mark: Option<Option<String>> =
                self.ask(redis::cmd("GET").arg(holder::key(&self.config, &consumer.name)))?;
            let status: Option<Option<String>> =
                self.ask(redis::cmd("GET").arg(status::key(&self.config, &consumer.name)))?;
            let worker = Worker {
                pending: consumer.pending as u64,
                idle_ms: is_known.then_some(consumer.idle as u64),
                held_by: mark.flatten().map(|mark| mark::process(&mark).to_owned()),
                status: status.flatten().and_then(|text| serde_json::from_str(&text).ok()),
                consumer: consumer.name,
            };
            let is_own = worker.consumer == self.config.consumer;
            if is_own || worker.pending > 0 || worker.held_by.is_some() || worker.idle_ms < Some(60_000) {
                workers.push(worker);
            }
        }
        Ok(workers)
    }

    fn add_rates(&mut self, figures: &mut Figures) {
        let total = figures.counters.get("totalEvents").copied().unwrap_or(0);
        self.totals.add(Instant::now(), total);
        let statuses = || figures.workers.iter().filter_map(|worker| worker.status.as_ref());
        // Workers of other kinds count in the same hash, but tell nothing.
        let counted = self.totals.over(Duration::from_secs(3));
        let told: f64 = statuses().map(|status| status.events_per_second).sum();
        let told_over_a_minute: f64 = statuses().map(|status| status.events_per_second_over_a_minute).sum();
        let mut ignored: BTreeMap<String, u64> = BTreeMap::new();
        for (reason, number) in statuses().flat_map(|status| &status.ignored) {
            *ignored.entry(reason.clone()).or_default() += number;
        }
        let newest = statuses().filter_map(|status| status.newest_committed_ms).max();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        figures.freshness_seconds = newest.map(|ms| (now - ms as f64 / 1000.0).max(0.0));
        figures.events_per_second = told.max(counted);
        figures.events_per_second_over_a_minute = told_over_a_minute.max(self.totals.over(Duration::from_secs(60)));
        figures.ignored = ignored;
    }

    fn add_stream(&mut self, figures: &mut Figures, info: &StreamInfo) {
        let now = Instant::now();
        let backlog = info.unread(None);
        figures.length = Some(info.length);
        figures.backlog = Some(backlog);
        figures.pending = Some(info.group.pending);
        let last = self.last_backlog.replace((now, backlog));
        let shrinking = last.map(|(at, before)| per_second(before.saturating_sub(backlog) as f64, now - at));
        figures.catch_up_seconds = match (backlog, shrinking) {
            (0, _) => Some(0.0),
            (_, Some(rate)) if rate > 0.0 => Some(backlog as f64 / rate),
            _ => None,
        };
        if let Some(added) = info.added {
            self.added.add(now, added);
            let rate = self.added.over(Duration::from_secs(10));
            figures.added_per_second = Some(rate);
            figures.trim_headroom_seconds = seconds_left(self.config.max_stream_len as u64, backlog, rate);
        }
    }
}
