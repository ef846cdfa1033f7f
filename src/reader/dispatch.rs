//! Delivered entries → the workers of their DIDs.
//!
//! Owns the order in which entries go to their workers, and the log of entries that were trimmed while pending. Keeps
//! an average of the size of recent entries, from which the reader derives how many to request.
//!
//! Invariant: an entry is in flight before the reader waits for a worker, so that the renewer knows all entries that
//! Redis has delivered here, however long the workers take.

use std::sync::Arc;

use crossbeam_channel::{SendError, Sender};

use crate::entry::{Entry, EntryId};
use crate::in_flight::InFlight;
use crate::outcome::{Done, Outcome};
use crate::partition::worker_of;
use crate::reader::delivered::Delivered;
use crate::runtime::heartbeat;
use crate::runtime::shutdown::Stopped;

pub struct Dispatcher {
    workers: Vec<Sender<Entry>>,
    done: Sender<Done>,
    in_flight: Arc<InFlight>,
    /// The expected size of an entry in bytes, derived from recent entries.
    entry_weight: usize,
    trimmed: Trimmed,
}

/// Pending entries found trimmed since the last log line about them.
#[derive(Default)]
struct Trimmed {
    number: usize,
    first: EntryId,
    last: EntryId,
}

impl Dispatcher {
    pub fn new(workers: Vec<Sender<Entry>>, done: Sender<Done>, in_flight: Arc<InFlight>) -> Dispatcher {
        Dispatcher {
            workers,
            done,
            in_flight,
            entry_weight: 1024,
            trimmed: Trimmed::default(),
        }
    }

    /// How many entries of recent size fit into `room`; at least one.
    pub fn fitting(&self, room: usize) -> usize {
        (room / self.entry_weight).max(1)
    }

    /// Sends each entry that is not in flight yet to its worker, in order, and returns the number of entries sent.
    /// Fails if a worker has ended early, which happens only after a stop; the remaining entries stay pending.
    pub fn dispatch(&mut self, mut delivered: Vec<Delivered>) -> Result<usize, Stopped> {
        // An entry in flight was read earlier; if it was trimmed, then after that.
        delivered.retain(|delivered| self.in_flight.add(delivered.id(), delivered.weight()));
        let mut given = 0;
        let mut trimmed = Vec::new();
        let mut rest = delivered.into_iter();
        while let Some(next) = rest.next() {
            match next {
                Delivered::Entry(entry) => {
                    if let Err(SendError(back)) = self.send(entry) {
                        let trimmed = trimmed.iter().map(|done: &Done| done.id);
                        let rest = rest.map(|delivered| delivered.id()).chain(trimmed);
                        self.in_flight.remove(rest.chain([back.id]));
                        return Err(Stopped);
                    }
                    given += 1;
                }
                Delivered::Trimmed(id) => trimmed.push(Done::trimmed(id, Outcome::Lost)),
                Delivered::Dropped(id) => trimmed.push(Done::trimmed(id, Outcome::Dropped)),
            }
        }
        self.acknowledge_trimmed(trimmed)?;
        Ok(given)
    }

    /// Has entries counted that were trimmed and that XAUTOCLAIM has removed from the pending entries list, as
    /// `dispatch` does.
    pub fn dispatch_dropped(&mut self, ids: Vec<EntryId>) -> Result<usize, Stopped> {
        self.dispatch(ids.into_iter().map(Delivered::Dropped).collect())
    }

    /// Logs how many pending entries were lost to the producer's limit, once for many answers.
    pub fn say_trimmed(&mut self) {
        let Trimmed { number, first, last } = std::mem::take(&mut self.trimmed);
        if number > 0 {
            log::error!(
                "{number} pending entries were trimmed from the stream before they were applied, and are lost: {first} to {last}"
            );
        }
    }

    /// Waits for room in the worker's channel, even after a stop, because what was read is finished. A worker that ends
    /// early closes its channel.
    fn send(&mut self, entry: Entry) -> Result<(), SendError<Entry>> {
        let weight = entry.weight();
        // The estimate rises at once and falls slowly: requesting too few entries costs a round trip, too many cost
        // memory.
        self.entry_weight = weight.max((self.entry_weight * 255 + weight) / 256 + 1);
        let worker = &self.workers[worker_of(&entry, self.workers.len())];
        heartbeat::send(worker, entry)
    }

    fn acknowledge_trimmed(&mut self, dones: Vec<Done>) -> Result<(), Stopped> {
        for done in dones {
            let id = done.id;
            let first = if self.trimmed.number == 0 {
                id
            } else {
                self.trimmed.first
            };
            self.trimmed = Trimmed {
                number: self.trimmed.number + 1,
                first: first.min(id),
                last: self.trimmed.last.max(id),
            };
            heartbeat::send(&self.done, done).map_err(|_| Stopped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::bounded;

    use super::*;

    fn entry(ms: u64) -> Delivered {
        Delivered::Entry(Entry {
            id: EntryId { ms, n: 0 },
            kind: None,
            data: None,
            seq: None,
            deliveries: 1,
        })
    }

    #[test]
    fn all_of_an_answer_is_in_flight_while_the_first_waits_and_none_once_its_worker_has_gone() {
        let in_flight = Arc::new(InFlight::new(1 << 20));
        let (worker, inbox) = bounded(0);
        let (done, _acker) = bounded(10);
        let mut dispatcher = Dispatcher::new(vec![worker], done, Arc::clone(&in_flight));
        let answer = vec![entry(1), Delivered::Trimmed(EntryId { ms: 2, n: 0 }), entry(3)];
        let giving = std::thread::Builder::new().spawn(move || dispatcher.dispatch(answer));
        while in_flight.held().0 < 3 {
            std::thread::yield_now();
        }
        drop(inbox);
        assert!(giving.unwrap().join().unwrap().is_err());
        assert!(in_flight.wait_until_empty(Duration::ZERO));
    }
}
