//! Asks Redis for the figures.
//!
//! Owns the questions. What Redis refuses to answer is left out, and listed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::Utc;
use redis::streams::StreamInfoConsumer;
use redis::{FromRedisValue, RedisError, RedisResult, Value, from_redis_value};

use super::kept::{self, Kept};
use super::letters::{DeadLetter, Letters};
use super::producer::{self, Consumer, Producer, STATUS, SetAside, State, is_foreign};
use super::target::Target;
use super::{Figures, Question, Worker, judge};
use crate::dead_letter::DEAD_LETTERS;
use crate::group::stream_info::{self, StreamInfo};
use crate::keys::{self, SET_ASIDE};
use crate::lease::mark;
use crate::losses::forecast::seconds_left;
use crate::redis::link::{self, Link, Redis};
use crate::report::status;
use crate::runtime::rates::{Rates, per_second};

/// A consumer without a worker or pending entries is left out when it has been idle for longer.
const RECENTLY_MS: u64 = 60_000;

/// Consumers whose processes are asked for, at most: the least idle ones.
const MAX_ASKED: usize = 500;

/// Reads the figures repeatedly, because rates need two samples.
pub struct Gatherer {
    link: Link,
    target: Target,
    letters: Letters,
    totals: Rates,
    added: Rates,
    last_backlog: Option<(Instant, u64)>,
    refusals: BTreeMap<Question, RedisError>,
}

impl Gatherer {
    pub fn new(redis: &Redis, target: Target) -> Gatherer {
        Gatherer {
            link: redis.link(Duration::ZERO),
            target,
            letters: Letters::default(),
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
        let target = self.target.clone();
        let mut figures = Figures {
            counters: self.hash(Question::Counters, &target.counters)?,
            dead_letters: self.ask(Question::DeadLetters, redis::cmd("XLEN").arg(DEAD_LETTERS))?,
            losses: self.hash(Question::Losses, &keys::losses(&target))?,
            ..target.unknown()
        };
        figures.newest_dead_letters = self.newest_dead_letters(figures.dead_letters)?;
        let report = self.text(Question::Producer, STATUS)?;
        match report.as_deref().map(serde_json::from_str) {
            Some(Ok(producer)) => figures.producer = Some(producer),
            Some(Err(error)) => figures.producer_fault = Some(error.to_string()),
            None => {}
        }
        figures.consumer = self.consumer(report.as_deref(), figures.producer.as_ref())?;
        let info = stream_info::read(&mut self.link, &target.stream, &target.group);
        let info = self.unless_refused(Question::Stream, info)?.flatten();
        figures.workers = self.workers(info.as_ref())?;
        self.add_rates(&mut figures);
        if let Some(info) = info {
            self.add_stream(&mut figures, &info);
        }
        figures.refusals = std::mem::take(&mut self.refusals);
        figures.findings = judge::all(&figures, &target);
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

    /// The newest dead letters, of which there are `number`.
    fn newest_dead_letters(&mut self, number: Option<u64>) -> anyhow::Result<Option<Vec<DeadLetter>>> {
        let answer = self.letters.newest(&mut self.link, number);
        self.unless_refused(Question::NewestDeadLetters, answer)
    }

    /// The numbers in a hash.
    fn hash(&mut self, question: Question, key: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let fields: Option<BTreeMap<String, String>> = self.ask(question, redis::cmd("HGETALL").arg(key))?;
        let number = |(name, text): (String, String)| Some((name, text.parse().ok()?));
        Ok(fields.unwrap_or_default().into_iter().filter_map(number).collect())
    }

    /// The consumer, if one runs. `report` is that of whichever producer runs.
    fn consumer(&mut self, report: Option<&str>, producer: Option<&Producer>) -> anyhow::Result<Option<Consumer>> {
        let is_foreign = report.is_some_and(|report| is_foreign(report.as_bytes()));
        let own = report.filter(|_| !is_foreign);
        let status: Option<producer::Status> = own.and_then(|report| serde_json::from_str(report).ok());
        let holder = self.text(Question::Consumer, &keys::cursor_holder(&self.target.cursor_key))?;
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
        let own = self.target.consumer.clone();
        if let Some(own) = &own {
            own.clone_into(&mut workers.entry(own.clone()).or_default().consumer);
        }
        self.add_processes(&mut workers)?;
        let is_shown = |worker: &Worker| {
            let is_recent = worker.idle_ms.is_some_and(|idle| idle < RECENTLY_MS);
            let is_own = own.as_ref() == Some(&worker.consumer);
            is_own || worker.pending > 0 || worker.held_by.is_some() || is_recent
        };
        Ok(workers.into_values().filter(is_shown).collect())
    }

    /// Adds the processes, for which it asks in one round trip. Dead processes can leave thousands of consumers behind.
    fn add_processes(&mut self, workers: &mut BTreeMap<String, Worker>) -> anyhow::Result<()> {
        let mut asked: Vec<&mut Worker> = workers.values_mut().collect();
        asked.sort_by_key(|worker| worker.idle_ms);
        asked.truncate(MAX_ASKED);
        let mut packed = Vec::new();
        for worker in &asked {
            for key in [
                keys::holder(&self.target, &worker.consumer),
                status::key(&self.target, &worker.consumer),
            ] {
                redis::cmd("GET").arg(key).write_packed_command(&mut packed);
            }
        }
        let answers = self.link.exchange(&packed, 2 * asked.len());
        let mut answers = answers
            .map_err(|error| anyhow::anyhow!(link::describe(&error)))?
            .into_iter();
        for worker in asked {
            let mut text = |question| {
                let answer = answers.next().unwrap_or(Value::Nil).extract_error();
                let answer = answer.and_then(|value| Ok(from_redis_value::<Option<String>>(value)?));
                anyhow::Ok(self.unless_refused(question, answer)?.flatten())
            };
            worker.held_by = text(Question::Holder)?.map(|mark| mark::process(&mark).to_owned());
            worker.status = text(Question::Status)?.and_then(|text| serde_json::from_str(&text).ok());
        }
        Ok(())
    }

    fn add_rates(&mut self, figures: &mut Figures) {
        let total = figures.counters.get("totalEvents").copied().unwrap_or(0);
        self.totals.add(Instant::now(), total);
        let statuses = || figures.workers.iter().filter_map(|worker| worker.status.as_ref());
        // Workers of other kinds count in the same hash, but report no status.
        let counted = self.totals.over(Duration::from_secs(3));
        let reported: f64 = statuses().map(|status| status.events_per_second).sum();
        let reported_over_a_minute: f64 = statuses().map(|status| status.events_per_second_over_a_minute).sum();
        let ignored = sums(statuses().map(|status| &status.ignored));
        let dead_letters_by_reason = sums(statuses().map(|status| &status.dead_letters_by_reason));
        let newest = statuses().filter_map(|status| status.newest_committed_ms).max();
        let now_ms = Utc::now().timestamp_millis();
        figures.time_ms = u64::try_from(now_ms).ok();
        figures.freshness_seconds = newest.map(|ms| (now_ms as f64 - ms as f64).max(0.0) / 1000.0);
        figures.events_per_second = reported.max(counted);
        figures.events_per_second_over_a_minute = reported_over_a_minute.max(self.totals.over(Duration::from_secs(60)));
        figures.ignored = ignored;
        figures.dead_letters_by_reason = dead_letters_by_reason;
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
            figures.trim_headroom_seconds = seconds_left(self.target.max_stream_len, backlog, rate);
        }
    }
}

/// The sums of several processes' counts, by name.
fn sums<'c>(counts: impl Iterator<Item = &'c BTreeMap<String, u64>>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (name, number) in counts.flatten() {
        *sums.entry(name.clone()).or_default() += number;
    }
    sums
}

fn of(consumer: &StreamInfoConsumer) -> Worker {
    Worker {
        consumer: consumer.name.clone(),
        pending: consumer.pending as u64,
        idle_ms: Some(consumer.idle as u64),
        ..Worker::default()
    }
}
