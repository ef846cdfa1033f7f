//! Entries read and not yet acknowledged.
//!
//! Owns the limit of their bytes, and knows which they are, so that none is taken in twice: not while it is in flight,
//! and not by an answer of Redis that was on its way when the entry was acknowledged.
//!
//! Invariant: an entry is in here from when the reader hands it over until its acknowledgement is confirmed, or the
//! process gives it up at a stop, or lets it go once its session is over (`ack::session`). Nothing is read in a session before
//! this is empty of the last one.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashSet};

use crate::entry::EntryId;
use crate::runtime::heartbeat;

pub struct InFlight {
    limit: usize,
    entries: Mutex<Entries>,
    released: Condvar,
}

#[derive(Default)]
struct Entries {
    held: HashMap<EntryId, Held>,
    bytes: usize,
    /// When Redis was asked for what comes in now.
    asked_at: Option<Instant>,
    /// What was released since the reader began to read pending entries again; nothing is noted while it does not.
    released: Option<HashSet<EntryId>>,
}

struct Held {
    weight: usize,
    /// It was delivered to this consumer after this, or that was renewed then.
    since: Instant,
    /// Another process has it by now.
    is_taken: bool,
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

    /// To be called before Redis is asked for entries: what it delivers may be taken in much later, as after a freeze.
    pub fn begin_reading(&self) {
        self.lock().asked_at = Some(Instant::now());
    }

    /// To be called before Redis is asked for pending entries: the answer may hold some that are released before it is
    /// looked at, and those must not come in again until the result is dropped. One at a time.
    pub fn read_again(self: &Arc<Self>) -> ReadingAgain {
        self.lock().released = Some(HashSet::default());
        ReadingAgain(Arc::clone(self))
    }

    /// Takes an entry in, be there room or not; `false` if it is in, or has been since the reading of it began.
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

    /// Whether all of these were delivered to this consumer after `time`, or renewed.
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

    /// The entries held for longer than `time` that no other process has taken, in the order of the stream.
    pub fn held_for(&self, time: Duration) -> Vec<EntryId> {
        let entries = self.lock();
        let is_old = |held: &Held| !held.is_taken && held.since.elapsed() >= time;
        let old = entries.held.iter().filter(|(_, held)| is_old(held));
        let mut ids: Vec<EntryId> = old.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// The entries count as delivered at that time.
    pub fn renewed(&self, ids: &[EntryId], at: Instant) {
        let mut entries = self.lock();
        for id in ids {
            if let Some(held) = entries.held.get_mut(id) {
                held.since = at;
            }
        }
    }

    /// Another process has taken the entries, or they were taken back from it when it had gone.
    pub fn set_taken(&self, ids: &[EntryId], is_taken: bool) {
        let mut entries = self.lock();
        for id in ids {
            if let Some(held) = entries.held.get_mut(id) {
                held.is_taken = is_taken;
            }
        }
    }

    /// The place before which this process holds no entry and takes none in, where `unsettled` was the oldest that was not
    /// acknowledged a moment ago. `None` while pending entries are read again: an answer on its way may hold one that was
    /// acknowledged since.
    pub fn floor(&self, unsettled: EntryId) -> Option<EntryId> {
        let entries = self.lock();
        match (&entries.released, entries.held.keys().min()) {
            (Some(_), _) => None,
            (None, Some(oldest)) => Some(unsettled.min(*oldest)),
            (None, None) => Some(unsettled),
        }
    }

    /// Waits for `time` at most until there is room; returns how many bytes.
    pub fn room(&self, time: Duration) -> usize {
        let is_full = |entries: &mut Entries| entries.bytes >= self.limit;
        let entries = self.wait_while(time, is_full);
        self.limit.saturating_sub(entries.bytes)
    }

    /// How many entries are in flight, and their bytes.
    pub fn held(&self) -> (usize, usize) {
        let entries = self.lock();
        (entries.held.len(), entries.bytes)
    }

    /// Waits for `time` at most until nothing is in flight; whether nothing is.
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

/// Pending entries are being read; to be dropped when all answers have been handed over.
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
        in_flight.remove([id(2)].into_iter());
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
