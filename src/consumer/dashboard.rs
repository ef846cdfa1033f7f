//! Thread `status`: writes what the AppView's dashboard shows of the producer.
//!
//! Owns the keys that the AppView reads, in the form that its own producers write them: the status, the recent events
//! and the channel on which events are broadcast. All are samples: at full speed they would cost more than the stream.
//! If the user may not write them, the consumer runs without them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use chrono::Utc;
use crossbeam_channel::Receiver;
use redis::RedisResult;
use serde::Serialize;

use super::choice::Relays;
use super::counts::Counts;
use super::intake::now_ms;
use super::peers::Noticed;
use super::term::Terms;
use crate::figures::producer::{PRODUCER, STATUS, is_foreign};
use crate::lease::mark;
use crate::redis::link::{self, Link};
use crate::runtime::heartbeat;
use crate::runtime::rates::{LONGEST, Rates};
use crate::runtime::shutdown::Stop;
use crate::settings::cli::VERSION;

const RECENT: &str = "firehose:recent_events";
const BROADCAST: &str = "firehose:events:broadcast";
const RULE: &str = "~firehose:status ~firehose:recent_events &firehose:events:broadcast +get +setex +publish";

/// The keys expire, so that the AppView notices that the producer has ended.
const TTL_SECONDS: u64 = 10;

const STATUS_INTERVAL: Duration = Duration::from_secs(5);
const RECENT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a change of the connection may go unpublished.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How many events are kept for the dashboard.
const MAX_RECENT: usize = 50;

/// One event as the dashboard shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    #[serde(rename = "type")]
    kind: &'static str,
    /// The collection, or what stands for one.
    lexicon: String,
    did: String,
    action: String,
    /// `HH:MM:SS`, UTC.
    timestamp: String,
}

impl Sample {
    pub fn commit(did: &str, collection: &str, action: &str) -> Sample {
        Sample::new("#commit", did, collection, action.to_owned())
    }

    pub fn identity(did: &str, handle: Option<&str>) -> Sample {
        let action = handle.map_or_else(|| "update".to_owned(), |handle| format!("→ {handle}"));
        Sample::new("#identity", did, "com.atproto.identity", action)
    }

    pub fn account(did: &str, is_active: bool) -> Sample {
        let action = if is_active { "active" } else { "inactive" };
        Sample::new("#account", did, "com.atproto.account", action.to_owned())
    }

    fn new(kind: &'static str, did: &str, lexicon: &str, action: String) -> Sample {
        Sample {
            kind,
            lexicon: lexicon.to_owned(),
            did: did.to_owned(),
            action,
            timestamp: Utc::now().format("%H:%M:%S").to_string(),
        }
    }
}

/// The status. The AppView reads the first three members.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub connected: bool,
    pub url: String,
    pub current_cursor: Option<String>,
    /// The program, its version, host and process ID.
    pub producer: String,
    pub paused: bool,
    /// The age of the newest event in the stream, in milliseconds.
    pub lag_ms: Option<u64>,
    pub events_per_second: f64,
    pub entries: u64,
    pub set_aside: u64,
    pub set_aside_by_reason: BTreeMap<&'static str, u64>,
    pub reconnects: u64,
    pub pauses: u64,
    /// The duration of the pauses that have ended.
    pub paused_ms: u64,
}

/// Writes the keys.
pub struct Dashboard {
    link: Link,
    samples: Receiver<Sample>,
    relays: Relays,
    terms: Terms,
    noticed: Noticed,
    counts: Arc<Counts>,
    is_beside_others: bool,
    recent: VecDeque<Sample>,
    rates: Rates,
    is_connected: bool,
}

impl Dashboard {
    pub fn new(
        link: Link,
        samples: Receiver<Sample>,
        relays: Relays,
        terms: Terms,
        noticed: Noticed,
        counts: Arc<Counts>,
        is_beside_others: bool,
    ) -> Dashboard {
        Dashboard {
            link,
            samples,
            relays,
            terms,
            noticed,
            counts,
            is_beside_others,
            recent: VecDeque::new(),
            rates: Rates::default(),
            is_connected: false,
        }
    }

    /// Writes until `stop`, then writes that the producer is not connected.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        let mut status_at: Option<Instant> = None;
        let mut recent_at: Option<Instant> = None;
        let mut is_new = false;
        while !stop.is_requested() {
            if let Ok(sample) = self.samples.recv_timeout(POLL_INTERVAL) {
                self.broadcast(&sample);
                self.recent.push_front(sample);
                self.recent.truncate(MAX_RECENT);
                is_new = true;
            }
            heartbeat::beat();
            let has_changed = self.is_connected != self.is_connected();
            let is_term = self.terms.is_any() || self.counts.is_paused.load(Relaxed);
            if is_term && (has_changed || status_at.is_none_or(|at| at.elapsed() >= STATUS_INTERVAL)) {
                status_at = Some(Instant::now());
                self.is_connected = self.is_connected();
                self.write_status(self.is_connected);
            }
            let interval = if is_new { RECENT_INTERVAL } else { STATUS_INTERVAL };
            if is_term && !self.recent.is_empty() && recent_at.is_none_or(|at| at.elapsed() >= interval) {
                recent_at = Some(Instant::now());
                is_new = false;
                self.write_recent();
            }
        }
        if status_at.is_some() && !self.noticed.is_set() {
            self.write_status(false);
        }
        Ok(())
    }

    /// Whether events flow, or wait by this process's own decision.
    fn is_connected(&self) -> bool {
        self.counts.is_connected.load(Relaxed) || self.counts.is_paused.load(Relaxed)
    }

    fn write_status(&mut self, is_connected: bool) {
        let held: RedisResult<Option<Vec<u8>>> = self.link.query(redis::cmd("GET").arg(STATUS));
        if !self.is_beside_others && held.is_ok_and(|held| held.is_some_and(|held| is_foreign(&held))) {
            self.noticed.set();
            return;
        }
        let status = self.status(is_connected);
        let Ok(text) = serde_json::to_string(&status) else {
            return;
        };
        self.set(STATUS, &text);
    }

    fn status(&mut self, is_connected: bool) -> Status {
        let counts = &self.counts;
        let entries = counts.committed.entries();
        self.rates.add(Instant::now(), entries);
        let seq = counts.seq.load(Relaxed);
        Status {
            connected: is_connected,
            url: self.relays.current().to_string(),
            current_cursor: (seq > 0).then(|| seq.to_string()),
            producer: format!("{PRODUCER} {VERSION} {}", mark::this_process()),
            paused: counts.is_paused.load(Relaxed),
            lag_ms: counts.lag(now_ms()).map(|lag| lag.as_millis() as u64),
            events_per_second: self.rates.over(LONGEST),
            entries,
            set_aside: counts.committed.set_aside(),
            set_aside_by_reason: counts.committed.set_aside_by_reason(),
            reconnects: counts.reconnects.iter().map(super::counts::Counter::get).sum(),
            pauses: counts.pauses.get(),
            paused_ms: counts.paused_ms.get(),
        }
    }

    fn write_recent(&mut self) {
        let Ok(text) = serde_json::to_string(&self.recent) else {
            return;
        };
        self.set(RECENT, &text);
    }

    fn set(&mut self, key: &str, text: &str) {
        let written = self
            .link
            .query::<()>(redis::cmd("SETEX").arg(key).arg(TTL_SECONDS).arg(text));
        self.note(written);
    }

    fn broadcast(&mut self, sample: &Sample) {
        let Ok(text) = serde_json::to_string(sample) else {
            return;
        };
        let published = self.link.query::<()>(redis::cmd("PUBLISH").arg(BROADCAST).arg(text));
        self.note(published);
    }

    /// Treats the answer to a command that the consumer can do without.
    fn note(&mut self, answer: RedisResult<()>) {
        let cost = "the AppView's dashboard shows less of the firehose";
        if let Err(error) = self.link.optional(answer, cost, RULE) {
            // The link reports an outage; the next sample is written soon.
            log::debug!("failed to write for the dashboard: {}", link::describe(&error));
        }
    }
}
