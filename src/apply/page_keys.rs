//! Assigns rows their `indexed_at`.
//!
//! Readers page through the likes of a post, the followers of an account or the notifications of a user with
//! `indexed_at < cursor`, in whole milliseconds. If rows with the same page key share a millisecond and a page ends
//! between them, the rest are never shown. This module therefore gives each row of a page key a millisecond of its
//! own. All workers of the process share the module, because the likes of one post come from many repos and therefore
//! from several workers.
//!
//! A row gets the time of its entry, or the first free millisecond of its page key after that. An existing row keeps
//! its time when it is updated; of several puts to one row in a batch, the first sets the time. Notifications get the
//! wall-clock time, and each is strictly later than any earlier notification of its recipient: a new notification must
//! not appear below those already read.
//!
//! Invariants: an op that is retried, or redelivered soon after, gets the same time. Memory is bounded, and finding a
//! free millisecond takes constant time on average, however many rows share one.

use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashMapExt};

use crate::decode::time;
use crate::micros::Micros;
use crate::redis::clock::Clock;
use crate::rows::keyed::IndexedAt;
use crate::rows::{Change, Op, PairRow, PairTable, Row, Table};

/// The minimum number of remembered milliseconds, and of remembered ops; each table holds at most twice as many, at
/// about 35 bytes each. Unless entries are redelivered, rows that share a millisecond are no further apart than the
/// workers' batches.
const CAPACITY: usize = 7168;

/// The maximum number of rounds to find a millisecond that is free for two page keys. Only rows crafted for this
/// purpose need more.
const MAX_TURNS: usize = 16;

/// The `indexed_at` times of rows, shared by all workers of a process.
#[derive(Clone, Default)]
pub struct PageKeys(Arc<Shared>);

#[derive(Default)]
struct Shared {
    clock: Clock,
    hasher: RandomState,
    state: Mutex<State>,
}

/// Times are in milliseconds since 1970. Keys are hashes with a random seed, so an outsider cannot construct
/// collisions.
#[derive(Default)]
struct State {
    /// Page key and millisecond → a later millisecond; every millisecond in between is taken.
    taken: Recent,
    /// Op → the millisecond assigned to its row.
    given: Recent,
    /// Recipient → the time of their last notification.
    notified: HashMap<u64, i64>,
}

/// Where the time of an op's row comes from.
enum TimeSource {
    /// The time of the entry, or the first millisecond after it that is free for the page keys.
    Entry { op: u64, pages: Pages },
    /// The time of an earlier op on the same row, by its index.
    Earlier(usize),
    /// The wall clock.
    Now,
}

/// The page keys of a row: none, one or two.
type Pages = [Option<u64>; 2];

impl PageKeys {
    pub fn new(clock: Clock) -> PageKeys {
        PageKeys(Arc::new(Shared {
            clock,
            ..Shared::default()
        }))
    }

    /// Milliseconds since 1970 by the wall clock.
    pub fn now_ms(&self) -> i64 {
        self.0.clock.now_ms()
    }

    /// Assigns times to the rows of a batch. The ops of each repo must be in stream order.
    pub fn assign(&self, ops: &mut [Op], now_ms: i64) {
        let sources = self.sources(ops);
        let mut times: Vec<i64> = Vec::with_capacity(ops.len());
        {
            let mut state = self.lock();
            for (op, source) in ops.iter().zip(&sources) {
                times.push(match source {
                    TimeSource::Entry { op: hash, pages } => state.give(*hash, pages, op.time.millis()),
                    TimeSource::Earlier(index) => times[*index],
                    TimeSource::Now => now_ms,
                });
            }
        }
        for (op, time) in ops.iter_mut().zip(times) {
            if let Change::Put(row) = &mut op.change
                && let Some(indexed_at) = row.indexed_at()
            {
                *indexed_at = Micros::of_millis(time);
            }
        }
    }

    /// Assigns times to remembered records, which may get a row although no op of the batch puts them. Each gets the
    /// time of its own op.
    pub fn assign_remembered<'r>(&self, table: PairTable, rows: impl Iterator<Item = &'r mut PairRow<'static>>) {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        for row in rows {
            let (op, pages) = (self.hash(row.position), self.pages(table, row));
            let time = time::of_entry(row.position.entry, now_ms).millis();
            row.indexed_at = Micros::of_millis(state.give(op, &pages, time));
        }
    }

    /// Returns the times of notifications that are about to be committed. The recipients are in stream order.
    pub fn notify<'r>(&self, recipients: impl Iterator<Item = &'r str>) -> Vec<Micros> {
        let now = self.now_ms();
        let mut state = self.lock();
        state.forget_notified(now);
        recipients
            .map(|recipient| {
                let last = state.notified.entry(self.hash(recipient)).or_insert(i64::MIN);
                *last = now.max(last.saturating_add(1));
                Micros::of_millis(*last)
            })
            .collect()
    }

    fn sources(&self, ops: &[Op]) -> Vec<TimeSource> {
        let mut last: HashMap<(Table, &str), usize> = HashMap::with_capacity(ops.len());
        let mut sources = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            let earlier = match op.change {
                Change::Put(_) => last.insert((op.table, &op.key), index),
                Change::PutAsAbsent | Change::Delete => {
                    last.remove(&(op.table, op.key.as_str()));
                    None
                }
            };
            sources.push(match earlier {
                Some(earlier) if restarts(&ops[earlier], op) => TimeSource::Now,
                Some(earlier) => TimeSource::Earlier(earlier),
                None => self.own(op),
            });
        }
        sources
    }

    fn own(&self, op: &Op) -> TimeSource {
        let pages = match (&op.change, op.table) {
            (Change::Put(Row::Pair(row)), Table::Pair(table)) => self.pages(table, row),
            _ => Pages::default(),
        };
        // Rows without a page key need not be remembered: their times depend only on their own entries.
        let is_alone = pages[0].is_none();
        TimeSource::Entry {
            op: if is_alone { 0 } else { self.hash(op.position) },
            pages,
        }
    }

    fn pages(&self, table: PairTable, row: &PairRow) -> Pages {
        let a = || Some(self.hash((table, 'a', &row.key_a)));
        let b = || Some(self.hash((table, 'b', &row.key_b)));
        match table {
            PairTable::Likes | PairTable::Reposts => [b(), None],
            // The row appears in two lists: the followers of the subject and the follows of the author.
            PairTable::Follows => [b(), a()],
            PairTable::Blocks | PairTable::ListItems => [a(), None],
            PairTable::Bookmarks | PairTable::ListBlocks | PairTable::Verifications => Pages::default(),
        }
    }

    fn hash(&self, value: impl Hash) -> u64 {
        self.0.hasher.hash_one(value)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a put changes a row whose table treats every change as a new row (`IndexedAt::OfChange`). A record without
/// a date has its entry's date, so that a later put of the same record is a change.
fn restarts(before: &Op, after: &Op) -> bool {
    let (Change::Put(before), Change::Put(after)) = (&before.change, &after.change) else {
        return false;
    };
    match (before, after) {
        (Row::Keyed(before), Row::Keyed(after)) => {
            after.table.indexed_at == IndexedAt::OfChange && before.values != after.values
        }
        _ => false,
    }
}

impl State {
    /// The time of an op's row: the time assigned before, or the first from `time` on that is free for all its page
    /// keys.
    fn give(&mut self, op: u64, pages: &Pages, time: i64) -> i64 {
        let pages = || pages.iter().flatten();
        if pages().next().is_none() {
            return time;
        }
        if let Some(given) = self.given.get(op) {
            return given;
        }
        let mut at = time;
        for _ in 0..MAX_TURNS {
            let free = pages().fold(at, |at, page| self.free(*page, at));
            if free == at {
                break;
            }
            at = free;
        }
        for page in pages() {
            self.taken.put(slot(*page, at), at + 1);
        }
        self.given.put(op, at);
        at
    }

    /// The first free millisecond of a page key from `time` on.
    fn free(&mut self, page: u64, time: i64) -> i64 {
        let mut at = time;
        while let Some(later) = self.taken.get(slot(page, at)) {
            at = later;
        }
        // Path compression: every millisecond visited now points past the whole run, so a run is walked only once.
        let mut walked = time;
        while walked < at {
            let later = self.taken.get(slot(page, walked)).unwrap_or(at);
            self.taken.put(slot(page, walked), at);
            walked = later;
        }
        at
    }

    /// Bounds the memory for recipients. First forgets those whose last time is already past, which makes no
    /// difference to later notifications. If too many remain, forgets all: no stream causes that many notifications
    /// within a millisecond.
    fn forget_notified(&mut self, now: i64) {
        if self.notified.len() >= CAPACITY {
            self.notified.retain(|_, last| *last >= now);
        }
        if self.notified.len() >= CAPACITY {
            self.notified.clear();
        }
    }
}

/// The key under which `taken` stores a millisecond of a page key. A page key has a slot for each millisecond.
fn slot(page: u64, time: i64) -> u64 {
    page.wrapping_add((time as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A bounded map of the most recently inserted or read keys: at least `CAPACITY` of them, at most twice as many.
#[derive(Default)]
struct Recent {
    young: HashMap<u64, i64>,
    old: HashMap<u64, i64>,
    #[cfg(test)]
    looks: usize,
}

impl Recent {
    fn get(&mut self, key: u64) -> Option<i64> {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        if let Some(value) = self.young.get(&key) {
            return Some(*value);
        }
        let value = self.old.remove(&key)?;
        self.put(key, value);
        Some(value)
    }

    fn put(&mut self, key: u64, value: i64) {
        if self.young.len() >= CAPACITY {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_750_000_000_000;

    fn page(key: u64) -> Pages {
        [Some(key), None]
    }

    #[test]
    fn rows_of_a_page_key_have_a_millisecond_each_and_lone_ones_their_own() {
        let mut state = State::default();
        let mut op = 0;
        let mut give = |key, time| {
            op += 1;
            state.give(op, &page(key), time)
        };
        assert_eq!([give(1, NOW), give(1, NOW), give(1, NOW)], [NOW, NOW + 1, NOW + 2]);
        assert_eq!(give(2, NOW), NOW, "another page key");
        assert_eq!(give(1, NOW + 1), NOW + 3, "what was moved is in the way");
        assert_eq!(give(1, NOW - 5000), NOW - 5000, "a late one keeps its own");
        assert_eq!(give(1, NOW + 4), NOW + 4);
    }

    #[test]
    fn an_op_that_is_asked_for_again_has_the_same_time() {
        let mut state = State::default();
        let mut give = |op| state.give(op, &page(1), NOW);
        let first: Vec<i64> = (0..50).map(&mut give).collect();
        assert_eq!((0..50).map(give).collect::<Vec<_>>(), first);
    }

    #[test]
    fn a_row_of_two_page_keys_is_alone_in_both() {
        let mut state = State::default();
        for (op, time) in [(1, NOW), (2, NOW + 2)] {
            state.give(op, &page(1), time);
        }
        for (op, time) in [(3, NOW + 1), (4, NOW + 3)] {
            state.give(op, &page(2), time);
        }
        assert_eq!(state.give(5, &[Some(1), Some(2)], NOW), NOW + 4);
    }

    #[test]
    fn ten_thousand_rows_of_a_page_key_in_a_millisecond_cost_a_few_looks_each() {
        const N: usize = 10_000;
        // All rows in one millisecond; each row one millisecond before the previous; all rows within 100 milliseconds.
        let orders: [fn(i64) -> i64; 3] = [|_| NOW, |n| NOW - n, |n| NOW + n % 100];
        for (number, order) in orders.into_iter().enumerate() {
            let mut state = State::default();
            let times: std::collections::HashSet<i64> = (0..N as i64)
                .map(|n| state.give(n as u64, &page(1), order(n)))
                .collect();
            assert_eq!(times.len(), N, "order {number}");
            assert!(
                state.taken.looks < 20 * N,
                "order {number}: {} looks",
                state.taken.looks
            );
            let remembered = state.taken.young.len() + state.taken.old.len();
            assert!(remembered <= 2 * CAPACITY, "{remembered} are remembered");
        }
    }

    #[test]
    fn notifications_of_a_recipient_never_come_before_those_they_have() {
        let page_keys = PageKeys::default();
        let mut last = Micros(0);
        for _ in 0..3 {
            for time in page_keys.notify(["a", "a", "a"].into_iter()) {
                assert!(time > last, "{time:?} after {last:?}");
                last = time;
            }
        }
        let crowd: Vec<String> = (0..3 * CAPACITY).map(|n| n.to_string()).collect();
        page_keys.notify(crowd.iter().map(String::as_str));
        page_keys.notify(std::iter::once("b"));
        assert!(page_keys.lock().notified.len() < CAPACITY, "recipients are forgotten");
    }
}
