//! What the made-up world remembers: enough of its recent records to answer, like and delete them.
//!
//! Bounded, so that a stream of any length needs the same few hundred kilobytes; what is forgotten just stays.

use std::collections::VecDeque;

use fastrand::Rng;

use super::names::Key;

/// The last so many records of one kind, newest at the back.
pub(crate) struct Recent<T> {
    items: VecDeque<T>,
    capacity: usize,
}

impl<T: Copy> Recent<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            items: VecDeque::with_capacity(capacity),
            capacity,
        }
    }

    pub(crate) fn push(&mut self, item: T) {
        if self.items.len() == self.capacity {
            self.items.pop_front();
        }
        self.items.push_back(item);
    }

    /// One of them, a newer one more likely.
    pub(crate) fn pick(&self, rng: &mut Rng) -> Option<T> {
        let age = skewed(rng, self.items.len(), self.items.len() / 20)?;
        Some(self.items[self.items.len() - 1 - age])
    }

    /// The same, and forgets it.
    pub(crate) fn take(&mut self, rng: &mut Rng) -> Option<T> {
        let age = skewed(rng, self.items.len(), self.items.len() / 20)?;
        self.items.swap_remove_back(self.items.len() - 1 - age)
    }
}

/// A post, with the post at the root of its thread if it is a reply.
#[derive(Clone, Copy)]
pub(crate) struct Post {
    pub(crate) key: Key,
    pub(crate) root: Option<Key>,
}

/// Posts: recent ones, and the few that are popular.
pub(crate) struct Posts {
    recent: Recent<Post>,
    hot: Vec<Post>,
}

const N_HOT: usize = 100;

impl Posts {
    pub(crate) fn new() -> Self {
        Self {
            recent: Recent::new(8192),
            hot: Vec::with_capacity(N_HOT),
        }
    }

    pub(crate) fn push(&mut self, rng: &mut Rng, post: Post) {
        self.recent.push(post);
        if self.hot.len() < N_HOT {
            self.hot.push(post);
        } else if rng.u32(..100) == 0 {
            self.hot[rng.usize(..N_HOT)] = post;
        }
    }

    /// A post to like, repost, quote or answer.
    pub(crate) fn pick(&self, rng: &mut Rng) -> Option<Post> {
        if rng.u32(..4) == 0 {
            let n = skewed(rng, self.hot.len(), 5)?;
            return Some(self.hot[n]);
        }
        self.recent.pick(rng)
    }

    pub(crate) fn pick_recent(&self, rng: &mut Rng) -> Option<Post> {
        self.recent.pick(rng)
    }

    /// A post to delete. Being hot, it is liked for a while yet, as on the network.
    pub(crate) fn take(&mut self, rng: &mut Rng) -> Option<Post> {
        self.recent.take(rng)
    }
}

/// A number below `n`, number `i` with a likelihood near 1 ÷ (i + flat): Zipf's law, with a flat top.
pub(crate) fn skewed(rng: &mut Rng, n: usize, flat: usize) -> Option<usize> {
    if n == 0 {
        return None;
    }
    let flat = flat.max(1) as f64;
    let ratio = (n as f64 + flat) / flat;
    let number = flat * ratio.powf(rng.f64()) - flat;
    Some((number as usize).min(n - 1))
}
