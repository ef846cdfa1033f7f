//! Collects entries of a channel into batches.
//!
//! Owns how many entries share a transaction: all that wait in the worker's channel, up to a limit. When the stream is
//! quiet, a batch is a single entry, which is applied at once. Under load a batch holds many entries, because a
//! statement for many rows costs little more than for one. Entries that were delivered often are put into separate
//! batches, because one of them may have crashed the process.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::entry::Entry;

/// The maximum size in bytes of a decoded batch, including parameters. A batch of one entry may exceed it.
const MAX_BYTES: usize = 16 << 20;

/// An entry of fewer bytes never exceeds `MAX_BYTES` when decoded.
const MIN_HEAVY: usize = 128 << 10;

/// Whether the batch holds an entry that alone exceeds the limit of a batch.
pub fn is_heavy(entries: &[Entry]) -> bool {
    let is_heavy = |entry: &Entry| entry.weight() > MIN_HEAVY && entry.decoded_weight() > MAX_BYTES;
    entries.iter().any(is_heavy)
}

/// Turns the entries of one worker's channel into batches.
pub struct Batches {
    inbox: Receiver<Entry>,
    max_entries: usize,
    /// Entries delivered more often than this are suspected of having crashed the process.
    suspect_above: u64,
    /// An entry taken from the channel that belongs to the next batch.
    held: Option<Entry>,
}

impl Batches {
    pub fn new(inbox: Receiver<Entry>, max_entries: usize, suspect_above: u64) -> Batches {
        Batches {
            inbox,
            max_entries,
            suspect_above,
            held: None,
        }
    }

    /// Takes the next batch, waiting for its first entry.
    ///
    /// Returns:
    /// - `Some` with entries, in the order in which they were sent
    /// - `Some` with no entries if none arrived within `time`
    /// - `None` once the channel is closed and empty
    pub fn next(&mut self, time: Duration) -> Option<Vec<Entry>> {
        let first = match self.held.take().map_or_else(|| self.inbox.recv_timeout(time), Ok) {
            Ok(entry) => entry,
            Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => return None,
        };
        let is_suspect = self.is_suspect(&first);
        let mut bytes = first.decoded_weight();
        let mut entries = Vec::with_capacity(self.max_entries.min(self.inbox.len() + 1));
        entries.push(first);
        while entries.len() < self.max_entries && bytes < MAX_BYTES {
            let Ok(entry) = self.inbox.try_recv() else { break };
            if self.is_suspect(&entry) != is_suspect {
                self.held = Some(entry);
                break;
            }
            bytes += entry.decoded_weight();
            entries.push(entry);
        }
        Some(entries)
    }

    /// Adds entries that have arrived since to a batch, up to the same limits.
    pub fn add_to(&mut self, entries: &mut Vec<Entry>) {
        let mut bytes: usize = entries.iter().map(Entry::decoded_weight).sum();
        while entries.len() < self.max_entries && bytes < MAX_BYTES {
            let Some(entry) = self.held.take().or_else(|| self.inbox.try_recv().ok()) else {
                break;
            };
            bytes += entry.decoded_weight();
            entries.push(entry);
        }
    }

    /// Whether the entry may have crashed the process before.
    pub fn is_suspect(&self, entry: &Entry) -> bool {
        entry.deliveries > self.suspect_above
    }

    /// The entries left in the channel, for a worker that stops reading it.
    pub fn rest(self) -> Vec<Entry> {
        self.held.into_iter().chain(self.inbox.try_iter()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryId;

    fn entry(ms: u64, bytes: usize) -> Entry {
        Entry {
            id: EntryId { ms, n: 0 },
            kind: None,
            data: Some(vec![b' '; bytes].into()),
            seq: None,
            deliveries: 1,
        }
    }

    fn lengths(batches: &mut Batches) -> Option<usize> {
        Some(batches.next(Duration::ZERO)?.len())
    }

    #[test]
    fn a_batch_is_what_waits_up_to_its_bounds() {
        let (tx, rx) = crossbeam_channel::bounded(10);
        let mut batches = Batches::new(rx, 3, 3);
        assert_eq!(lengths(&mut batches), Some(0));
        for ms in 0..4 {
            tx.send(entry(ms, 10)).unwrap();
        }
        assert_eq!(lengths(&mut batches), Some(3));
        assert_eq!(lengths(&mut batches), Some(1));
        for ms in 0..3 {
            tx.send(entry(ms, MAX_BYTES)).unwrap();
        }
        assert_eq!(lengths(&mut batches), Some(1));
        drop(tx);
        assert_eq!(lengths(&mut batches), Some(1));
        assert_eq!(lengths(&mut batches), Some(1));
        assert_eq!(lengths(&mut batches), None);
    }

    #[test]
    fn entries_delivered_often_are_batches_of_their_own_in_their_place() {
        let (tx, rx) = crossbeam_channel::bounded(10);
        let mut batches = Batches::new(rx, 9, 3);
        for (ms, deliveries) in [(1, 1), (2, 3), (3, 4), (4, 5), (5, 1)] {
            let entry = Entry {
                deliveries,
                ..entry(ms, 10)
            };
            tx.send(entry).unwrap();
        }
        for times in [vec![1, 2], vec![3, 4]] {
            let batch = batches.next(Duration::ZERO).unwrap();
            assert_eq!(batch.iter().map(|entry| entry.id.ms).collect::<Vec<_>>(), times);
        }
        drop(tx);
        assert_eq!(batches.rest().len(), 1);
    }

    #[test]
    fn a_batch_that_is_added_to_keeps_its_bounds() {
        let (tx, rx) = crossbeam_channel::bounded(10);
        let mut batches = Batches::new(rx, 5, 3);
        for (ms, deliveries) in [(1, 1), (2, 4), (3, 1), (4, 4), (5, 1), (6, 1)] {
            let entry = Entry {
                deliveries,
                ..entry(ms, 10)
            };
            tx.send(entry).unwrap();
        }
        let mut batch = batches.next(Duration::ZERO).unwrap();
        for length in [1, 5, 5] {
            assert_eq!(batch.len(), length);
            batches.add_to(&mut batch);
        }
        let times: Vec<u64> = batch.iter().map(|entry| entry.id.ms).collect();
        assert_eq!(times, [1, 2, 3, 4, 5]);
        assert_eq!(batches.rest().len(), 1);
    }
}
