//! Entries read and not yet acknowledged.
//!
//! Owns the limit of their bytes, and knows which they are, so that none is read twice at a time.
//!
//! Invariant: an entry is in here from when the reader hands it over until its acknowledgement is confirmed, or the
//! process gives it up at a stop.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::entry::EntryId;
use crate::turns;

pub struct InFlight {
    limit: usize,
    entries: Mutex<Entries>,
    released: Condvar,
}

#[derive(Default)]
struct Entries {
    weights: HashMap<EntryId, usize>,
    bytes: usize,
}

impl InFlight {
    /// `limit`: bytes.
    pub fn new(limit: usize) -> Self {
        InFlight {
            limit,
            entries: Mutex::default(),
            released: Condvar::new(),
        }
    }

    /// Takes entries in; returns those that are not in already, with what is now in flight beyond the limit or not.
    pub fn add(&self, id: EntryId, weight: usize) -> bool {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.weights.contains_key(&id) {
            return false;
        }
        entries.weights.insert(id, weight);
        entries.bytes += weight;
        true
    }

    pub fn remove(&self, ids: impl Iterator<Item = EntryId>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            if let Some(weight) = entries.weights.remove(&id) {
                entries.bytes -= weight;
            }
        }
        self.released.notify_all();
    }

    /// Waits for `time` at most until there is room; returns how many bytes.
    pub fn room(&self, time: Duration) -> usize {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |entries: &mut Entries| entries.bytes >= self.limit;
        let (entries, _) = self
            .released
            .wait_timeout_while(entries, time, is_full)
            .unwrap_or_else(PoisonError::into_inner);
        turns::take();
        self.limit.saturating_sub(entries.bytes)
    }

    /// Waits for `time` at most until nothing is in flight; whether nothing is.
    pub fn is_empty(&self, time: Duration) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_busy = |entries: &mut Entries| !entries.weights.is_empty();
        let (entries, _) = self
            .released
            .wait_timeout_while(entries, time, is_busy)
            .unwrap_or_else(PoisonError::into_inner);
        turns::take();
        entries.weights.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, n: 0 }
    }

    #[test]
    fn room_shrinks_and_comes_back_and_no_entry_counts_twice() {
        let in_flight = InFlight::new(100);
        assert!(in_flight.add(id(1), 60));
        assert!(!in_flight.add(id(1), 60));
        assert!(in_flight.add(id(2), 60));
        assert_eq!(in_flight.room(Duration::ZERO), 0);
        assert!(!in_flight.is_empty(Duration::ZERO));
        in_flight.remove([id(1), id(9)].into_iter());
        assert_eq!(in_flight.room(Duration::ZERO), 40);
        in_flight.remove([id(2)].into_iter());
        assert!(in_flight.is_empty(Duration::ZERO));
    }
}
