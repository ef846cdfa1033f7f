//! Channel → batch.
//!
//! Owns how many entries share a transaction: what waits in the worker's channel, up to a bound. One entry when it is
//! quiet, so that it is applied at once; many under load, when a statement for many rows costs little more than for one.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::entry::Entry;

/// Bytes of a batch at most, unless one entry alone is larger. Decoded, parameters and all, a batch takes about four times
/// as much.
const MAX_BYTES: usize = 2 << 20;

/// Takes the next batch of at most `max_entries`, waiting for its first entry.
///
/// Returns:
/// - `Some` with entries in the order they were sent
/// - `Some` with none if nothing came within `time`
/// - `None` once the channel is closed and empty
pub fn next(inbox: &Receiver<Entry>, max_entries: usize, time: Duration) -> Option<Vec<Entry>> {
    let first = match inbox.recv_timeout(time) {
        Ok(entry) => entry,
        Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
        Err(RecvTimeoutError::Disconnected) => return None,
    };
    let mut bytes = first.weight();
    let mut entries = Vec::with_capacity(max_entries.min(inbox.len() + 1));
    entries.push(first);
    while entries.len() < max_entries && bytes < MAX_BYTES {
        let Ok(entry) = inbox.try_recv() else { break };
        bytes += entry.weight();
        entries.push(entry);
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryId;

    fn entry(ms: u64, bytes: usize) -> Entry {
        Entry {
            id: EntryId { ms, n: 0 },
            kind: None,
            data: Some(vec![b' '; bytes]),
            seq: None,
        }
    }

    #[test]
    fn a_batch_is_what_waits_up_to_its_bounds() {
        let (tx, rx) = crossbeam_channel::bounded(10);
        let lengths = |max| {
            let batch = next(&rx, max, Duration::ZERO)?;
            Some(batch.len())
        };
        assert_eq!(lengths(3), Some(0));
        for ms in 0..4 {
            tx.send(entry(ms, 10)).unwrap();
        }
        assert_eq!(lengths(3), Some(3));
        assert_eq!(lengths(3), Some(1));
        for ms in 0..3 {
            tx.send(entry(ms, MAX_BYTES)).unwrap();
        }
        assert_eq!(lengths(3), Some(1));
        drop(tx);
        assert_eq!(lengths(3), Some(1));
        assert_eq!(lengths(3), Some(1));
        assert_eq!(lengths(3), None);
    }
}
