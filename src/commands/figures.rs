//! The figures of the stream and of its workers, as Redis answers them now. `status` shows them, and `check` judges
//! them.
//!
//! Owns the questions, and the sentences about their answers. What Redis refuses to answer is left out, and listed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::Utc;
use redis::streams::StreamInfoConsumer;
use redis::{FromRedisValue, RedisError, RedisResult};
use serde::Serialize;

use super::kept::{self, Kept};
use super::producer::{self, Consumer, Producer, SetAside, State};
use super::terminal::duration;
use crate::consumer::peers::{self, STATUS};
use crate::consumer::position::{self, SET_ASIDE};
use crate::dead_letter::DEAD_LETTERS;
use crate::group::stream_info::{self, StreamInfo};
use crate::keys;
use crate::lease::mark;
use crate::losses::forecast::seconds_left;
use crate::redis::link::{self, Link, Redis};
use crate::report::status::{self, Status};
use crate::runtime::rates::{Rates, per_second};
use crate::settings::config::Config;

/// A consumer without a worker or pending entries is left out when it has been idle for longer.
const RECENTLY_MS: u64 = 60_000;

/// What Redis is asked about, as far as `check` must know that it refused to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    Counters,
    Producer,
    Consumer,
    SetAside,
    DeadLetters,
    Losses,
    Stream,
    Holder,
    Status,
}

/// The figures of one moment. In JSON, what is unknown is `null`.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    pub stream: String,
    pub group: String,
    pub producer: Option<Producer>,
    /// `null` if no consumer of this program runs.
    pub consumer: Option<Consumer>,
    /// Age of the newest committed entry, in seconds.
    pub freshness_seconds: Option<f64>,
    pub events_per_second: f64,
    pub events_per_second_over_a_minute: f64,
    /// The dashboard's counters.
    pub counters: BTreeMap<String, u64>,
    /// Ops that the running workers have deliberately not applied, by reason.
    pub ignored: BTreeMap<String, u64>,
    pub length: Option<u64>,
    /// Entries that were not delivered to any consumer yet.
    pub backlog: Option<u64>,
    pub pending: Option<u64>,
    pub added_per_second: Option<f64>,
    /// How long all workers may stand still before the producer trims unread entries.
    pub trim_headroom_seconds: Option<f64>,
    /// Time until nothing is unread, at the current rate; `null` if the backlog does not shrink.
    pub catch_up_seconds: Option<f64>,
    pub dead_letters: Option<u64>,
    pub dead_letter_limit: u64,
    pub losses: BTreeMap<String, u64>,
    pub workers: Vec<Worker>,
    /// How fast the backlog grows; negative if it shrinks. Known from the second time on.
    #[serde(skip)]
    pub backlog_growth: Option<f64>,
    /// Whether entries were trimmed before they were delivered to the group.
    #[serde(skip)]
    pub has_gap: bool,
    /// Why the producer's report is unreadable.
    #[serde(skip)]
    pub producer_fault: Option<String>,
    /// The questions that this user may not ask, or whose key has another type.
    #[serde(skip)]
    pub refusals: BTreeMap<Question, RedisError>,
}

/// A consumer of the group, and the worker that uses its name.
#[derive(Debug, Default, Serialize)]
pub struct Worker {
    pub consumer: String,
    pub pending: u64,
    /// `null` if the group has no such consumer.
    pub idle_ms: Option<u64>,
    /// Host and process ID of the worker that holds the name.
    pub held_by: Option<String>,
    /// `null` for a worker of another kind, and for one that has ended.
    pub status: Option<Status>,
}

/// Reads the figures repeatedly, because rates need two samples.
pub struct Gatherer {
    link: Link,
    config: Config,
    /// The key that names the holder of the cursor.
    cursor_holder: String,
    totals: Rates,
    added: Rates,
    last_backlog: Option<(Instant, u64)>,
    refusals: BTreeMap<Question, RedisError>,
}

impl Gatherer {
    pub fn new(redis: &Redis, config: &Config, cursor_key: &str) -> Gatherer {
        Gatherer {
            link: redis.link(Duration::ZERO),
            config: config.clone(),
            cursor_holder: position::holder_key(cursor_key),
            totals: Rates::default(),
            added: Rates::default(),
            last_backlog: None,
            refusals: BTreeMap::new(),
        }
    }

    /// Reads the figures.
    ///
    /// # Errors
    ///
    /// Redis cannot be reached, or cannot serve.
    pub fn gather(&mut self) -> anyhow::Result<Figures> {
        let config = self.config.clone();
        let counters = config.metrics_keys.first().map(String::as_str).unwrap_or_default();
        let mut figures = Figures {
            stream: config.stream.clone(),
            group: config.group.clone(),
            counters: self.hash(Question::Counters, counters)?,
            dead_letters: self.ask(Question::DeadLetters, redis::cmd("XLEN").arg(DEAD_LETTERS))?,
            dead_letter_limit: config.dead_letter_maxlen as u64,
            losses: self.hash(Question::Losses, &keys::losses(&config))?,
            ..Figures::default()
        };
        let report = self.text(Question::Producer, STATUS)?;
        match report.as_deref().map(serde_json::from_str) {
            Some(Ok(producer)) => figures.producer = Some(producer),
            Some(Err(error)) => figures.producer_fault = Some(error.to_string()),
            None => {}
        }
        figures.consumer = self.consumer(report.as_deref(), figures.producer.as_ref())?;
        let info = stream_info::read(&mut self.link, &config.stream, &config.group);
        let info = self.unless_refused(Question::Stream, info)?.flatten();
        figures.workers = self.workers(info.as_ref())?;
        self.add_rates(&mut figures);
        if let Some(info) = info {
            self.add_stream(&mut figures, &info);
        }
        figures.refusals = std::mem::take(&mut self.refusals);
        Ok(figures)
    }

    fn ask<T: FromRedisValue>(&mut self, question: Question, command: &redis::Cmd) -> anyhow::Result<Option<T>> {
        let answer = self.link.query(command);
        self.unless_refused(question, answer)
    }

    fn unless_refused<T>(&mut self, question: Question, answer: RedisResult<T>) -> anyhow::Result<Option<T>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if link::is_refused(&error) || link::code(&error) == "WRONGTYPE" => {
                self.refusals.insert(question, error);
                Ok(None)
            }
            Err(error) => Err(anyhow::anyhow!(link::describe(&error))),
        }
    }

    fn text(&mut self, question: Question, key: &str) -> anyhow::Result<Option<String>> {
        Ok(self.ask(question, redis::cmd("GET").arg(key))?.flatten())
    }

    /// The numbers in a hash.
    fn hash(&mut self, question: Question, key: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let fields: Option<BTreeMap<String, String>> = self.ask(question, redis::cmd("HGETALL").arg(key))?;
        let number = |(name, text): (String, String)| Some((name, text.parse().ok()?));
        Ok(fields.unwrap_or_default().into_iter().filter_map(number).collect())
    }

    /// The consumer, if one runs. `report` is that of whichever producer runs.
    fn consumer(&mut self, report: Option<&str>, producer: Option<&Producer>) -> anyhow::Result<Option<Consumer>> {
        let is_foreign = report.is_some_and(|report| peers::is_foreign(report.as_bytes()));
        let own = report.filter(|_| !is_foreign);
        let status: Option<producer::Status> = own.and_then(|report| serde_json::from_str(report).ok());
        let holder = self.text(Question::Consumer, &self.cursor_holder.clone())?;
        if status.is_none() && holder.is_none() {
            return Ok(None);
        }
        let mut newest = redis::cmd("XREVRANGE");
        newest.arg(SET_ASIDE).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: Option<Vec<kept::Raw>> = self.ask(Question::SetAside, &newest)?;
        let newest = newest.and_then(|entries| Kept::of(entries.into_iter().next()?).ok());
        Ok(Some(Consumer {
            state: match &status {
                _ if is_foreign => State::Standby,
                Some(status) if status.paused => State::Paused,
                Some(_) if producer.is_some_and(|producer| producer.connected) => State::Connected,
                _ => State::NotConnected,
            },
            held_by: holder.map(|mark| mark::process(&mark).to_owned()),
            status,
            last_set_aside: newest.map(SetAside::from),
        }))
    }

    /// The consumers that hold entries, are in use or were a moment ago, and always the one of these settings.
    fn workers(&mut self, info: Option<&StreamInfo>) -> anyhow::Result<Vec<Worker>> {
        let known: &[StreamInfoConsumer] = info.map_or(&[], |info| &info.group.consumers);
        let mut workers: BTreeMap<String, Worker> = known.iter().map(|known| (known.name.clone(), of(known))).collect();
        let own = self.config.consumer.clone();
        workers.entry(own.clone()).or_default().consumer = own.clone();
        for worker in workers.values_mut() {
            let held_by = self.text(Question::Holder, &keys::holder(&self.config, &worker.consumer))?;
            let status = self.text(Question::Status, &status::key(&self.config, &worker.consumer))?;
            worker.held_by = held_by.map(|mark| mark::process(&mark).to_owned());
            worker.status = status.and_then(|text| serde_json::from_str(&text).ok());
        }
        let is_shown = |worker: &Worker| {
            let is_recent = worker.idle_ms.is_some_and(|idle| idle < RECENTLY_MS);
            worker.consumer == own || worker.pending > 0 || worker.held_by.is_some() || is_recent
        };
        Ok(workers.into_values().filter(is_shown).collect())
    }

    fn add_rates(&mut self, figures: &mut Figures) {
        let total = figures.counters.get("totalEvents").copied().unwrap_or(0);
        self.totals.add(Instant::now(), total);
        let statuses = || figures.workers.iter().filter_map(|worker| worker.status.as_ref());
        // Workers of other kinds count in the same hash, but report no status.
        let counted = self.totals.over(Duration::from_secs(3));
        let reported: f64 = statuses().map(|status| status.events_per_second).sum();
        let reported_over_a_minute: f64 = statuses().map(|status| status.events_per_second_over_a_minute).sum();
        let mut ignored: BTreeMap<String, u64> = BTreeMap::new();
        for (reason, number) in statuses().flat_map(|status| &status.ignored) {
            *ignored.entry(reason.clone()).or_default() += number;
        }
        let newest = statuses().filter_map(|status| status.newest_committed_ms).max();
        let now_ms = Utc::now().timestamp_millis();
        figures.freshness_seconds = newest.map(|ms| (now_ms as f64 - ms as f64).max(0.0) / 1000.0);
        figures.events_per_second = reported.max(counted);
        figures.events_per_second_over_a_minute = reported_over_a_minute.max(self.totals.over(Duration::from_secs(60)));
        figures.ignored = ignored;
    }

    fn add_stream(&mut self, figures: &mut Figures, info: &StreamInfo) {
        let now = Instant::now();
        let backlog = info.unread(None);
        figures.length = Some(info.length);
        figures.backlog = Some(backlog);
        figures.pending = Some(info.group.pending);
        figures.has_gap = info.has_gap();
        let last = self.last_backlog.replace((now, backlog));
        figures.backlog_growth = last.map(|(at, before)| per_second(backlog as f64 - before as f64, now - at));
        figures.catch_up_seconds = match (backlog, figures.backlog_growth) {
            (0, _) => Some(0.0),
            (_, Some(growth)) if growth < 0.0 => Some(backlog as f64 / -growth),
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

fn of(consumer: &StreamInfoConsumer) -> Worker {
    Worker {
        consumer: consumer.name.clone(),
        pending: consumer.pending as u64,
        idle_ms: Some(consumer.idle as u64),
        ..Worker::default()
    }
}

/// The sentences about the figures.
impl Figures {
    pub fn describe_producer(&self) -> String {
        producer::describe(self.producer.as_ref(), self.consumer.as_ref())
    }

    pub fn describe_backlog(&self) -> String {
        let (Some(backlog), Some(pending)) = (self.backlog, self.pending) else {
            return "the group does not exist, or this user may not ask about it".to_owned();
        };
        let when = match self.catch_up_seconds {
            Some(seconds) if backlog > 0 => format!(", caught up in {}", duration(seconds.ceil() as u64)),
            None => ", not shrinking".to_owned(),
            Some(_) => String::new(),
        };
        format!("{} unread, {} pending{when}", grouped(backlog), grouped(pending))
    }

    pub fn describe_headroom(&self) -> String {
        match (self.added_per_second, self.trim_headroom_seconds) {
            (Some(added), Some(seconds)) => format!(
                "{added:.0} entries/s are added; a standstill of {} loses none",
                duration(seconds as u64)
            ),
            (Some(_), None) => "no entries are added".to_owned(),
            (None, _) => "unknown".to_owned(),
        }
    }

    pub fn describe_dead_letters(&self) -> String {
        match self.dead_letters {
            Some(number) => format!("{} of about {} kept", grouped(number), grouped(self.dead_letter_limit)),
            None => "unknown".to_owned(),
        }
    }
}

impl Worker {
    /// What the consumer holds, and since when it has not asked for more.
    pub fn describe_consumer(&self) -> Option<String> {
        let idle_ms = self.idle_ms?;
        Some(format!(
            "{} pending, idle {}",
            grouped(self.pending),
            duration(idle_ms / 1000)
        ))
    }
}

/// The numbers that are not zero, each with its name.
pub fn list(numbers: &BTreeMap<String, u64>) -> String {
    let shown = numbers.iter().filter(|(_, number)| **number > 0);
    let shown: Vec<String> = shown
        .map(|(name, number)| format!("{} {}", name.replace('_', " "), grouped(*number)))
        .collect();
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(", ")
    }
}

/// The number with a comma between groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
