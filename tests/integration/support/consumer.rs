//! The consumer's binary between a relay and a Redis of its own.

use std::collections::BTreeMap;

use serde_json::Value;

use super::redis::RedisServer;
use super::stack::EVENTS;
use super::wait::{equal, wait_until};
use super::worker::{Worker, WorkerBuilder};
use crate::generator::{Event, Events};
use crate::relay::frames::Frame;
use crate::relay::{Conduct, Relay};

pub(crate) const CURSOR: &str = "firehose:python_cursor";
pub(crate) const STATE: &str = "firehose:consumer:state:firehose:python_cursor";
pub(crate) const HOLDER: &str = "firehose:consumer:holder:firehose:python_cursor";
pub(crate) const SET_ASIDE: &str = "firehose:consumer:set-aside";
pub(crate) const STATUS: &str = "firehose:status";

/// A relay, a Redis, and the environment of a consumer between them.
pub(crate) struct Line {
    pub(crate) relay: Relay,
    pub(crate) redis: RedisServer,
}

impl Line {
    /// A relay like a PDS without events, and an empty Redis.
    pub(crate) fn new() -> Line {
        Line::with(Relay::start(), RedisServer::start())
    }

    pub(crate) fn like(conduct: Conduct) -> Line {
        Line::with(Relay::with(1, conduct, None), RedisServer::start())
    }

    pub(crate) fn with(relay: Relay, redis: RedisServer) -> Line {
        Line { relay, redis }
    }

    /// A consumer that begins with the oldest event.
    pub(crate) fn consumer(&self) -> WorkerBuilder {
        WorkerBuilder::new()
            .arg("consume")
            .env("RELAY_URL", &self.relay.url())
            .env("REDIS_URL", &self.redis.url())
            .env("FIREHOSE_START", "oldest")
    }

    /// Appends made-up events to the relay.
    pub(crate) fn append(&self, seed: u64, n_events: u64) {
        let events = Events::new(seed, n_events);
        self.relay.append_all(events.map(|event| Frame::of(&event).message()));
    }

    /// The entries of the stream.
    pub(crate) fn entries(&self) -> Vec<Event> {
        type Entries = Vec<(String, Vec<(String, String)>)>;
        let entries: Entries = redis::cmd("XRANGE")
            .arg(EVENTS)
            .arg("-")
            .arg("+")
            .query(&mut self.redis.connection())
            .expect("XRANGE");
        entries
            .into_iter()
            .map(|(id, fields)| {
                let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
                assert_eq!(names, ["type", "data", "seq"], "the fields of {id}");
                let mut values = fields.into_iter().map(|(_, value)| value);
                let mut next = || values.next().expect("three fields");
                Event {
                    kind: next(),
                    data: next(),
                    seq: next(),
                }
            })
            .collect()
    }

    pub(crate) fn length(&self) -> u64 {
        self.query(redis::cmd("XLEN").arg(EVENTS))
    }

    pub(crate) fn cursor(&self) -> Option<String> {
        self.query(redis::cmd("GET").arg(CURSOR))
    }

    /// The status that the AppView reads; `None` if there is none.
    pub(crate) fn status(&self) -> Option<Value> {
        let text: Option<String> = self.query(redis::cmd("GET").arg(STATUS));
        text.map(|text| serde_json::from_str(&text).expect("JSON"))
    }

    /// How much was set aside, by reason.
    pub(crate) fn set_aside(&self) -> BTreeMap<String, u64> {
        let mut reasons = BTreeMap::new();
        for reason in self.set_aside_fields("reason") {
            *reasons.entry(reason).or_default() += 1;
        }
        reasons
    }

    /// A field of everything set aside, oldest first.
    pub(crate) fn set_aside_fields(&self, field: &str) -> Vec<String> {
        type Entries = Vec<(String, BTreeMap<String, Vec<u8>>)>;
        let entries: Entries = self.query(redis::cmd("XRANGE").arg(SET_ASIDE).arg("-").arg("+"));
        let text = |fields: BTreeMap<String, Vec<u8>>| String::from_utf8_lossy(&fields[field]).into_owned();
        entries.into_iter().map(|(_, fields)| text(fields)).collect()
    }

    #[track_caller]
    pub(crate) fn query<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        command.query(&mut self.redis.connection()).expect("redis answers")
    }

    /// Waits until the cursor is at the relay's newest event.
    #[track_caller]
    pub(crate) fn wait_until_read(&self) {
        let newest = self.relay.last_seq().map(|seq| seq.to_string());
        wait_until("the cursor is at the newest event", || {
            let cursor = self
                .redis
                .try_connection()
                .and_then(|mut redis| redis::cmd("GET").arg(CURSOR).query::<Option<String>>(&mut redis));
            equal(cursor.ok().flatten(), newest.clone())
        });
    }

    /// Asserts that the stream contains the relay's events after this seq, each once and in order.
    #[track_caller]
    pub(crate) fn assert_exact_after(&self, seq: u64) {
        assert_equal(&self.entries(), &self.relay.entries_after(seq));
    }

    #[track_caller]
    pub(crate) fn assert_exact(&self) {
        self.assert_exact_after(0);
    }
}

/// Asserts that two lists have the same events.
#[track_caller]
pub(crate) fn assert_equal(entries: &[Event], wanted: &[Event]) {
    let seqs = |events: &[Event]| -> Vec<String> { events.iter().map(|event| event.seq.clone()).collect() };
    let (found, expected) = (seqs(entries), seqs(wanted));
    if let Some(at) = (0..found.len().max(expected.len())).find(|at| found.get(*at) != expected.get(*at)) {
        panic!(
            "{} entries of {} events; at {at}: seq {:?} instead of {:?}",
            found.len(),
            expected.len(),
            found.get(at),
            expected.get(at)
        );
    }
    for (entry, event) in entries.iter().zip(wanted) {
        assert_eq!(entry.kind, event.kind, "seq {}", event.seq);
        let json = |data: &str| -> Value { serde_json::from_str(data).expect("JSON") };
        assert_eq!(json(&entry.data), json(&event.data), "seq {}", event.seq);
    }
}

/// Waits until the log has a line with this text.
#[track_caller]
pub(crate) fn wait_for_log(consumer: &Worker, text: &str) {
    wait_until(&format!("the log says {text:?}"), || consumer.log().contains(text));
}
