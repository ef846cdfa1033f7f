//! The events that a relay holds: a window of what was appended.

use std::collections::VecDeque;
use std::sync::Arc;

use super::message::Message;

/// An event of the stream.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) seq: u64,
    /// Its time, in milliseconds since 1970.
    pub(crate) millis: u64,
    pub(crate) message: Arc<Message>,
}

pub(crate) struct Log {
    events: VecDeque<Held>,
    /// How many events were dropped from the front: the first one's index.
    n_dropped: u64,
    next_seq: u64,
}

/// Where a subscriber begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the event of this index.
    At(u64),
    /// With the oldest event, because those after the cursor are dropped.
    Oldest(u64),
    /// The cursor is of no event yet.
    Future,
}

impl Log {
    /// An empty log whose first event gets this seq.
    pub(crate) fn new(first_seq: u64) -> Self {
        Self {
            events: VecDeque::new(),
            n_dropped: 0,
            next_seq: first_seq,
        }
    }

    pub(crate) fn append(&mut self, message: Arc<Message>, millis: u64) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.events.push_back(Held { seq, millis, message });
        seq
    }

    /// Leaves so many seqs out.
    pub(crate) fn skip(&mut self, n_seqs: u64) {
        self.next_seq += n_seqs;
    }

    /// The index of the next event.
    pub(crate) fn end(&self) -> u64 {
        self.n_dropped + self.events.len() as u64
    }

    pub(crate) fn start(&self, cursor: u64, includes_cursor: bool) -> Start {
        if cursor >= self.next_seq {
            return Start::Future;
        }
        let n_before = self.events.partition_point(|held| match includes_cursor {
            true => held.seq < cursor,
            false => held.seq <= cursor,
        });
        let index = self.n_dropped + n_before as u64;
        let oldest = self.events.front().map_or(self.next_seq, |held| held.seq);
        if self.n_dropped > 0 && cursor + 1 < oldest {
            return Start::Oldest(index);
        }
        Start::At(index)
    }

    /// The events from this index on, up to about so many bytes. What was dropped meanwhile is left out.
    pub(crate) fn read(&self, index: u64, max_events: usize, max_bytes: usize) -> (u64, Vec<Held>) {
        let index = index.max(self.n_dropped);
        let from = (index - self.n_dropped) as usize;
        let mut n_bytes = 0;
        let events = self.events.iter().skip(from).take(max_events).take_while(|held| {
            let fits = n_bytes < max_bytes;
            n_bytes += held.message.len();
            fits
        });
        (index, events.cloned().collect())
    }

    /// Drops all but the newest.
    pub(crate) fn keep(&mut self, n_events: usize) {
        let n_old = self.events.len().saturating_sub(n_events);
        self.events.drain(..n_old);
        self.n_dropped += n_old as u64;
    }

    /// Forgets the newest, whose seqs are given out again.
    pub(crate) fn lose_newest(&mut self, n_events: usize) {
        let n_left = self.events.len().saturating_sub(n_events);
        if let Some(first_lost) = self.events.get(n_left) {
            self.next_seq = first_lost.seq;
        }
        self.events.truncate(n_left);
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Held> {
        self.events.iter()
    }
}
