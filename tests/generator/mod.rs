//! Made-up but lifelike events: the stream that the demo shows and the tests check.
//!
//! Seeded, so the same seed, length and time give the same stream. The mix is the public network's: half likes, then
//! posts, follows, reposts, deletes of what exists, blocks, profiles, and a little of everything else. Shared by the
//! program `generate` and the integration tests. In reading order: world (who does what, when), commits (which ops
//! an event has), records and embeds (what is in them), text, memory, names, cid; file reads recorded events instead.

pub(crate) mod cid;
mod commits;
mod embeds;
pub(crate) mod file;
mod memory;
mod names;
mod records;
mod text;
mod world;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use world::World;

/// Time between two events. At 60,000 events the stream reaches back a minute and a half.
const STEP_MICROS: u64 = 1500;

/// One entry of the stream: its three fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) data: String,
    pub(crate) seq: String,
}

/// A stream of `n_events` events, whose last happens at the base time.
pub(crate) struct Events {
    world: World,
    base_micros: u64,
    step_micros: u64,
    n_events: u64,
    n_done: u64,
}

impl Events {
    /// A stream that ends now.
    pub(crate) fn new(seed: u64, n_events: u64) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock set after 1970");
        let base_micros = u64::try_from(now.as_micros()).expect("a clock set before the year 586524");
        Self {
            world: World::new(seed, n_events),
            base_micros,
            step_micros: STEP_MICROS,
            n_events,
            n_done: 0,
        }
    }

    /// The same stream at another time, in milliseconds since 1970. Two streams are the same only if their times are.
    pub(crate) fn at(mut self, base_millis: u64) -> Self {
        self.base_micros = base_millis * 1000;
        self
    }

    /// The same stream with another time between two events.
    pub(crate) fn every(mut self, step: Duration) -> Self {
        self.step_micros = u64::try_from(step.as_micros()).expect("a step of less than 584,542 years");
        self
    }

    /// The DIDs of `n` people of this stream, in equal steps from the most followed to the least.
    pub(crate) fn dids(&self, n: usize) -> Vec<String> {
        self.world.dids(n)
    }

    /// The time of the event that comes next, in milliseconds since 1970.
    pub(crate) fn next_millis(&self) -> u64 {
        self.next_micros() / 1000
    }

    fn next_micros(&self) -> u64 {
        let before_base = (self.n_events - self.n_done).saturating_sub(1) * self.step_micros;
        self.base_micros.saturating_sub(before_base)
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.n_done == self.n_events {
            return None;
        }
        self.world.advance_to(self.next_micros());
        self.n_done += 1;
        let (kind, data) = self.world.event();
        Some(Event {
            kind: kind.to_owned(),
            data,
            seq: self.n_done.to_string(),
        })
    }
}
