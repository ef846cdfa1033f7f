//! Keeps the stream from being trimmed before the group has read it.
//!
//! Owns the number of entries that the group still needs, and the decision to pause. The relay keeps events for a day
//! or more and Redis for minutes, so that it is the relay where events have to wait.
//!
//! Invariant: between two samples the number is counted up by the entries that were added, so that it is never too low.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::batch::MAX_ENTRIES;
use super::counts::Counts;
use crate::group::stream_info::{self, GroupPosition};
use crate::redis::link::{self, Link, Redis};
use crate::settings::consumer::ConsumerConfig;

/// The longest time between two samples.
const INTERVAL: Duration = Duration::from_secs(2);

/// The shortest time between two samples: near the limit, each transaction would ask for one.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);

/// How often the backlog is sampled during a pause.
const PAUSED_INTERVAL: Duration = Duration::from_millis(500);

/// Shares of the stream's length at which the consumer pauses and resumes, in percent.
const PAUSE_AT: u64 = 80;
const RESUME_AT: u64 = 50;

/// Room for the batch that is being appended, and for the node of the stream that Redis does not trim.
const MARGIN: u64 = MAX_ENTRIES + 128;

/// The backlog of the group.
pub struct Pressure {
    link: Link,
    stream: String,
    group: String,
    max_stream_len: u64,
    relay_window: Duration,
    counts: Arc<Counts>,
    /// Unread and pending entries when last sampled, and those added since. `None` if there is no group.
    needed: Option<u64>,
    sampled_at: Option<Instant>,
    paused_at: Option<Instant>,
    has_warned: bool,
}

impl Pressure {
    pub fn new(redis: &Redis, config: &ConsumerConfig, counts: Arc<Counts>) -> Pressure {
        Pressure {
            link: redis.link(Duration::ZERO),
            stream: config.stream.clone(),
            group: config.group.clone(),
            max_stream_len: config.max_stream_len,
            relay_window: config.relay_window,
            counts,
            needed: None,
            sampled_at: None,
            paused_at: None,
            has_warned: false,
        }
    }

    /// Takes account of entries that were added.
    pub fn added(&mut self, n_entries: u64) {
        if let Some(needed) = &mut self.needed {
            *needed += n_entries;
        }
    }

    /// Samples the backlog if that is due, and pauses or resumes.
    pub fn update(&mut self) {
        let interval = match (self.is_paused(), self.is_high()) {
            (true, _) => PAUSED_INTERVAL,
            (false, true) => SHORTEST_INTERVAL,
            (false, false) => INTERVAL,
        };
        if self.sampled_at.is_none_or(|at| at.elapsed() >= interval) {
            self.sample();
        }
        if self.is_high() && !self.is_paused() {
            self.pause();
        } else if self.needed() <= share(self.max_stream_len, RESUME_AT) && self.is_paused() {
            self.resume();
        }
        self.warn_of_a_long_pause();
    }

    pub fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    fn needed(&self) -> u64 {
        self.needed.unwrap_or_default()
    }

    fn is_high(&self) -> bool {
        let limit = share(self.max_stream_len, PAUSE_AT).min(self.max_stream_len.saturating_sub(MARGIN));
        self.needed() > limit
    }

    fn sample(&mut self) {
        let answer = stream_info::read(&mut self.link, &self.stream, &self.group);
        let cost = "the consumer does not pause before unread entries are trimmed";
        match self.link.optional(answer, cost, "+xinfo +multi +exec") {
            Ok(info) => {
                self.needed = info.flatten().map(|info| {
                    let position = match info.position() {
                        Some(GroupPosition::Exact(position)) => Some(position),
                        _ => None,
                    };
                    info.unread(position) + info.group.pending
                });
                self.sampled_at = Some(Instant::now());
            }
            // The link reports an outage. Until then the last number counts.
            Err(error) => log::debug!("failed to sample the backlog: {}", link::describe(&error)),
        }
    }

    fn pause(&mut self) {
        self.paused_at = Some(Instant::now());
        self.has_warned = false;
        self.counts.is_paused.store(true, Relaxed);
        self.counts.pauses.add(1);
        log::warn!(
            "paused: the group {} has {} entries to read, and {} keeps {}; the relay keeps later events meanwhile; check \
             the worker",
            self.group,
            self.needed(),
            self.stream,
            self.max_stream_len
        );
    }

    fn resume(&mut self) {
        let Some(paused_at) = self.paused_at.take() else { return };
        let time = paused_at.elapsed();
        self.counts.paused_ms.add(time.as_millis() as u64);
        self.counts.is_paused.store(false, Relaxed);
        log::info!(
            "resuming after a pause of {:.1} s: the group {} has {} entries to read",
            time.as_secs_f64(),
            self.group,
            self.needed()
        );
    }

    fn warn_of_a_long_pause(&mut self) {
        let Some(time) = self.paused_at.map(|at| at.elapsed()) else {
            return;
        };
        if time >= self.relay_window / 2 && !self.has_warned {
            self.has_warned = true;
            log::error!(
                "paused for {} h, and the relay keeps events for {} h: later they are lost; start the worker",
                time.as_secs() / 3600,
                self.relay_window.as_secs() / 3600
            );
        }
    }
}

fn share(length: u64, percent: u64) -> u64 {
    (u128::from(length) * u128::from(percent) / 100) as u64
}
