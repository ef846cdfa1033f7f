//! Entries read and not yet acknowledged.
//!
//! Owns the limit of their bytes, and knows which entries they are, so that no entry is accepted twice: neither while
//! it is in flight, nor from an answer that was on its way when the entry was acknowledged.
//!
//! Invariant: an entry is in flight from its dispatch until its acknowledgement is confirmed, or until the process
//! releases it at a stop or at the end of its session (`group::session`). Nothing is read in a session while entries of
//! the last one are in flight.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::HashSet;

use crate::entry::EntryId;
use crate::runtime::heartbeat;

pub struct InFlight {
    limit: usize,
    entries: Mutex<Entries>,
    released: Condvar,
}

#[derive(Default)]
struct Entries {
    /// Sorted, because the renewer and `floor` begin with the oldest.
    held: BTreeMap<EntryId, Held>,
    bytes: usize,
    /// When the read was sent whose answer comes next.
    asked_at: Option<Instant>,
    /// Entries released since the reader began to read pending entries again; `None` while it does not.
    released: Option<HashSet<EntryId>>,
}

struct Held {
    weight: usize,
    /// The entry was delivered to this consumer, or renewed, after this time.
    since: Instant,
    /// Another process has taken the entry over.
    is_taken: bool,
}

impl InFlight {
    /// `limit` is in bytes.
    pub fn new(limit: usize) -> Self {
        InFlight {
            limit,
            entries: Mutex::default(),
            released: Condvar::new(),
        }
    }

    /// Must be called before a read is sent to Redis: its entries may be accepted much later, for example after a
    /// freeze.
    pub fn begin_reading(&self) {
        self.lock().asked_at = Some(Instant::now());
    }

    /// Must be called before pending entries are read again. The answer may contain entries that are released before it
    /// is processed; `add` refuses those until the guard is dropped. At most one guard may exist.
    pub fn read_again(self: &Arc<Self>) -> ReadingAgain {
        self.lock().released = Some(HashSet::default());
        ReadingAgain(Arc::clone(self))
    }

    /// Accepts an entry, even without room. Returns `false` if it is in flight, or has been since the read of pending
    /// entries began.
    pub fn add(&self, id: EntryId, weight: usize) -> bool {
        let mut entries = self.lock();
        let was_released = entries.released.as_ref().is_some_and(|ids| ids.contains(&id));
        if was_released || entries.held.contains_key(&id) {
            return false;
        }
        let held = Held {
            weight,
            since: entries.asked_at.unwrap_or_else(Instant::now),
            is_taken: false,
        };
        entries.held.insert(id, held);
        entries.bytes += weight;
        true
    }

    pub fn holds(&self, id: EntryId) -> bool {
        self.lock().held.contains_key(&id)
    }

    /// Whether all of these entries were delivered to this consumer, or renewed, after `time`.
    pub fn are_since<'i>(&self, mut ids: impl Iterator<Item = &'i EntryId>, time: Instant) -> bool {
        let entries = self.lock();
        ids.all(|id| entries.held.get(id).is_some_and(|held| held.since > time))
    }

    /// Releases entries.
    pub fn remove(&self, ids: impl Iterator<Item = EntryId>) {
        let mut entries = self.lock();
        for id in ids {
            let Some(held) = entries.held.remove(&id) else {
                continue;
            };
            entries.bytes -= held.weight;
            if let Some(released) = &mut entries.released {
                released.insert(id);
            }
        }
        self.released.notify_all();
    }

    /// The entries held for longer than `time` that no other process has taken over, in stream order.
    pub fn held_for(&self, time: Duration) -> Vec<EntryId> {
        let entries = self.lock();
        let is_old = |held: &Held| !held.is_taken && held.since.elapsed() >= time;
        let old = entries.held.iter().filter(|(_, held)| is_old(held));
        old.map(|(id, _)| *id).collect()
    }

    /// Records that the entries were renewed at `at`, which counts like a delivery.
    pub fn renewed(&self, ids: &[EntryId], at: Instant) {
        let mut entries = self.lock();
        for id in ids {
            if let Some(held) = entries.held.get_mut(id) {
                held.since = at;
            }
        }
    }

    /// Records whether another process has taken the entries over.
    pub fn set_taken(&self, ids: &[EntryId], is_taken: bool) {
        let mut entries = self.lock();
        for id in ids {
            if let Some(held) = entries.held.get_mut(id) {
                held.is_taken = is_taken;
            }
        }
    }

    /// The entry before which this process holds no entry and accepts none, where `unsettled` was the oldest
    /// unacknowledged entry a moment ago. `None` while pending entries are read again: an answer may contain an entry
    /// that has been acknowledged since.
    pub fn floor(&self, unsettled: EntryId) -> Option<EntryId> {
        let entries = self.lock();
        match (&entries.released, entries.held.keys().next()) {
            (Some(_), _) => None,
            (None, Some(oldest)) => Some(unsettled.min(*oldest)),
            (None, None) => Some(unsettled),
        }
    }

    /// Waits up to `time` until an eighth of the limit is free, and returns what is free in bytes. Without a backlog that
    /// is always so. With one, entries are released a few at a time, and reading as few each time would take several
    /// times as many round trips.
    pub fn room(&self, time: Duration) -> usize {
        let is_full = |entries: &mut Entries| entries.bytes > self.limit - self.limit / 8;
        let entries = self.wait_while(time, is_full);
        self.limit.saturating_sub(entries.bytes)
    }

    /// The number of entries in flight, and their bytes.
    pub fn held(&self) -> (usize, usize) {
        let entries = self.lock();
        (entries.held.len(), entries.bytes)
    }

    /// Waits up to `time` until nothing is in flight. Returns whether that is the case.
    pub fn wait_until_empty(&self, time: Duration) -> bool {
        let entries = self.wait_while(time, |entries| !entries.held.is_empty());
        entries.held.is_empty()
    }

    fn wait_while(&self, time: Duration, condition: impl FnMut(&mut Entries) -> bool) -> MutexGuard<'_, Entries> {
        let waited = self.released.wait_timeout_while(self.lock(), time, condition);
        heartbeat::beat();
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Guard: pending entries are being read again. Dropped when all answers have been dispatched.
pub struct ReadingAgain(Arc<InFlight>);

impl Drop for ReadingAgain {
    fn drop(&mut self) {
        self.0.lock().released = None;
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
        assert!(!in_flight.wait_until_empty(Duration::ZERO));
        in_flight.remove([id(1), id(9)].into_iter());
        assert_eq!(in_flight.room(Duration::ZERO), 40);
        in_flight.add(id(3), 30);
        assert_eq!(
            in_flight.room(Duration::ZERO),
            10,
            "what is free is used after the wait"
        );
        in_flight.remove([id(2), id(3)].into_iter());
        assert!(in_flight.wait_until_empty(Duration::ZERO));
    }

    #[test]
    fn an_entry_released_while_it_is_read_again_does_not_come_in_again() {
        let in_flight = Arc::new(InFlight::new(100));
        in_flight.add(id(1), 10);
        let reading = in_flight.read_again();
        in_flight.remove([id(1)].into_iter());
        assert!(!in_flight.add(id(1), 10));
        drop(reading);
        assert!(in_flight.wait_until_empty(Duration::ZERO));
        assert!(in_flight.add(id(1), 10));
    }

    #[test]
    fn what_is_held_long_is_known_until_it_is_renewed_or_taken() {
        let in_flight = InFlight::new(100);
        for ms in [3, 1, 2] {
            in_flight.add(id(ms), 1);
        }
        assert_eq!(in_flight.held_for(Duration::ZERO), [id(1), id(2), id(3)]);
        assert_eq!(in_flight.held_for(Duration::from_secs(3600)), []);
        in_flight.set_taken(&[id(2)], true);
        in_flight.renewed(&[id(3)], Instant::now() + Duration::from_secs(3600));
        assert_eq!(in_flight.held_for(Duration::from_nanos(1)), [id(1)]);
    }

    #[test]
    fn the_floor_is_below_all_that_is_held_and_unknown_while_pending_entries_are_read_again() {
        let in_flight = Arc::new(InFlight::new(100));
        assert_eq!(in_flight.floor(id(5)), Some(id(5)));
        in_flight.add(id(4), 1);
        in_flight.add(id(7), 1);
        assert_eq!(in_flight.floor(id(5)), Some(id(4)));
        assert_eq!(in_flight.floor(id(3)), Some(id(3)));
        let reading = in_flight.read_again();
        assert_eq!(in_flight.floor(id(5)), None);
        drop(reading);
        assert_eq!(in_flight.floor(id(9)), Some(id(4)));
    }

    #[test]
    fn entries_are_since_a_time_only_if_all_are_held_and_were_delivered_later() {
        let in_flight = InFlight::new(100);
        let start = Instant::now();
        in_flight.begin_reading();
        in_flight.add(id(1), 1);
        in_flight.add(id(2), 1);
        assert!(in_flight.are_since([id(1), id(2)].iter(), start));
        assert!(!in_flight.are_since([id(1), id(3)].iter(), start));
        assert!(!in_flight.are_since([id(1)].iter(), Instant::now()));
        in_flight.renewed(&[id(1)], Instant::now() + Duration::from_secs(3600));
        assert!(in_flight.are_since([id(1)].iter(), Instant::now()));
    }
}
