//! The made-up world: its people, its clock, and what it remembers.
//!
//! People differ as they do on the network: a few write much, a few (others) are followed and blocked by many.

use fastrand::Rng;

use super::memory::{Posts, Recent, skewed};
use super::names::{Key, Names};
use super::text::Text;

/// Events per person: with the skew, about a third of them appear in a stream.
const EVENTS_PER_USER: u64 = 6;

/// Records of one kind that may still be deleted, or added to.
const N_REMEMBERED: usize = 4096;

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) names: Names,
    pub(super) posts: Posts,
    pub(super) likes: Recent<Key>,
    pub(super) reposts: Recent<Key>,
    pub(super) follows: Recent<Key>,
    pub(super) blocks: Recent<Key>,
    pub(super) lists: Recent<Key>,
    pub(super) feeds: Recent<Key>,
    pub(super) labelers: Recent<Key>,
    pub(super) text: Text,
    n_users: usize,
    has_profile: Vec<bool>,
    /// The time, in microseconds since 1970. Every record takes one, so no two have the same key.
    clock: u64,
}

impl World {
    pub(super) fn new(seed: u64, n_events: u64) -> Self {
        let n_users = usize::try_from(n_events / EVENTS_PER_USER)
            .expect("events fit the memory")
            .max(30);
        Self {
            rng: Rng::with_seed(seed),
            names: Names { seed },
            posts: Posts::new(),
            likes: Recent::new(N_REMEMBERED),
            reposts: Recent::new(N_REMEMBERED),
            follows: Recent::new(N_REMEMBERED),
            blocks: Recent::new(N_REMEMBERED),
            lists: Recent::new(256),
            feeds: Recent::new(256),
            labelers: Recent::new(32),
            text: Text::default(),
            n_users,
            has_profile: vec![false; n_users],
            clock: 0,
        }
    }

    /// The DIDs of `n` people, in equal steps from the most followed to the least.
    pub(super) fn dids(&self, n: usize) -> Vec<String> {
        let step = self.n_users / n.clamp(1, self.n_users);
        let users = (0..self.n_users).skip(step / 2).step_by(step).take(n);
        let did = |user| {
            let mut did = String::new();
            self.names.push_did(&mut did, user as u32);
            did
        };
        users.map(did).collect()
    }

    pub(super) fn advance_to(&mut self, micros: u64) {
        self.clock = self.clock.max(micros);
    }

    pub(super) fn now(&self) -> u64 {
        self.clock
    }

    /// The key of a new record of `owner`.
    pub(super) fn new_key(&mut self, owner: u32) -> Key {
        self.clock += 1;
        Key {
            owner,
            micros: self.clock,
        }
    }

    /// A random person as the author of an event; some are far more active than others.
    pub(super) fn actor(&mut self) -> u32 {
        let n = self.person(self.n_users / 20);
        // The most active people are not the most followed ones.
        ((n * 7919 + 13) % self.n_users) as u32
    }

    /// Somebody to whom something is done: some are followed by many.
    pub(super) fn famous(&mut self) -> u32 {
        self.person(self.n_users / 200) as u32
    }

    /// Whether this is the person's first profile.
    pub(super) fn first_profile(&mut self, user: u32) -> bool {
        !std::mem::replace(&mut self.has_profile[user as usize], true)
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    pub(super) fn percent(&mut self, percent: u32) -> bool {
        self.rng.u32(..100) < percent
    }

    fn person(&mut self, flat: usize) -> usize {
        skewed(&mut self.rng, self.n_users, flat.max(4)).expect("there are people")
    }
}
