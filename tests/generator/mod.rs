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

use std::time::{SystemTime, UNIX_EPOCH};

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
            n_events,
            n_done: 0,
        }
    }

    /// The same stream at another time, in milliseconds since 1970. Two streams are the same only if their times are.
    pub(crate) fn at(mut self, base_millis: u64) -> Self {
        self.base_micros = base_millis * 1000;
        self
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.n_done == self.n_events {
            return None;
        }
        self.n_done += 1;
        let before_base = (self.n_events - self.n_done) * STEP_MICROS;
        self.world.advance_to(self.base_micros.saturating_sub(before_base));
        let (kind, data) = self.world.event();
        Some(Event {
            kind: kind.to_owned(),
            data,
            seq: self.n_done.to_string(),
        })
    }
}
