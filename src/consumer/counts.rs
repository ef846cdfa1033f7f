//! What the consumer counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use crate::firehose::reason::Reason;

/// A number that only grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counts of the process. Shared by all threads.
#[derive(Default)]
pub struct Counts {
    /// Messages of the relay, of any kind.
    pub frames: Counter,
    /// Bytes of these messages.
    pub bytes: Counter,
    /// Messages that mean nothing here: legacy and unknown types, text.
    pub ignored: Counter,
    /// Events that the stream has already.
    pub replayed: Counter,
    /// Times that the relay reported events older than its window, which are lost.
    pub outdated: Counter,
    /// Jumps of more than 10,000 seqs between two live events.
    pub jumps: Counter,
    pub reconnects: [Counter; Cause::ALL.len()],
    pub pauses: Counter,
    pub paused_ms: Counter,
    pub transactions: Counter,
    pub timings: Timings,
    pub committed: Committed,
    /// Whether the socket is open.
    pub is_connected: AtomicBool,
    pub is_paused: AtomicBool,
    /// The time of the newest event in the stream, in milliseconds since 1970; 0 before the first.
    pub event_ms: AtomicU64,
    pub seq: AtomicU64,
}

/// Measurements per transaction, as Prometheus histograms.
pub struct Timings {
    pub transaction_seconds: Histogram,
    pub batch_entries: Histogram,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            transaction_seconds: Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0, 5.0]),
            batch_entries: Histogram::new([1.0, 2.0, 5.0, 20.0, 50.0, 100.0, 200.0, 256.0]),
        }
    }
}

/// What is in the stream, or set aside.
#[derive(Default)]
pub struct Committed {
    pub commits: Counter,
    pub identities: Counter,
    pub accounts: Counter,
    pub creates: Counter,
    pub updates: Counter,
    pub deletes: Counter,
    /// Ops that the settings exclude.
    pub filtered: Counter,
    /// Floats in records, which atproto forbids.
    pub floats: Counter,
    /// Commits whose repo or rev is not that of the commit object.
    pub mismatched: Counter,
    pub set_aside: [Counter; Reason::ALL.len()],
}

/// The same for one batch, until it is in the stream.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub commits: u64,
    pub identities: u64,
    pub accounts: u64,
    pub creates: u64,
    pub updates: u64,
    pub deletes: u64,
    pub filtered: u64,
    pub floats: u64,
    pub mismatched: u64,
    pub set_aside: [u64; Reason::ALL.len()],
}

impl Committed {
    pub fn add(&self, tally: &Tally) {
        self.commits.add(tally.commits);
        self.identities.add(tally.identities);
        self.accounts.add(tally.accounts);
        self.creates.add(tally.creates);
        self.updates.add(tally.updates);
        self.deletes.add(tally.deletes);
        self.filtered.add(tally.filtered);
        self.floats.add(tally.floats);
        self.mismatched.add(tally.mismatched);
        for (counter, n) in self.set_aside.iter().zip(tally.set_aside) {
            counter.add(n);
        }
    }

    pub fn entries(&self) -> u64 {
        self.commits.get() + self.identities.get() + self.accounts.get()
    }

    pub fn set_aside(&self) -> u64 {
        self.set_aside.iter().map(Counter::get).sum()
    }

    /// The reasons for which anything was set aside.
    pub fn set_aside_by_reason(&self) -> BTreeMap<&'static str, u64> {
        let counts = Reason::ALL
            .iter()
            .map(|reason| (reason.as_str(), self.set_aside[*reason as usize].get()));
        counts.filter(|(_, n)| *n > 0).collect()
    }
}

/// Why a connection to the relay ended, or was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It could not be opened.
    Dial,
    /// The relay closed it.
    Closed,
    /// It broke.
    Broken,
    /// The relay ended it with an error frame.
    Error,
    /// Nothing arrived, not even the answer to a ping.
    Silent,
    /// A busy relay sent no event.
    Stalled,
    /// Too many frames in a row could not be read.
    Unreadable,
    /// The consumer closed it: Redis does not keep up.
    Own,
}

impl Cause {
    pub const ALL: [Cause; 8] = [
        Cause::Dial,
        Cause::Closed,
        Cause::Broken,
        Cause::Error,
        Cause::Silent,
        Cause::Stalled,
        Cause::Unreadable,
        Cause::Own,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Dial => "dial",
            Cause::Closed => "closed",
            Cause::Broken => "broken",
            Cause::Error => "error",
            Cause::Silent => "silent",
            Cause::Stalled => "stalled",
            Cause::Unreadable => "unreadable",
            Cause::Own => "own",
        }
    }
}

impl Counts {
    pub fn reconnected(&self, cause: Cause) {
        self.reconnects[cause as usize].add(1);
    }

    /// How old the newest event in the stream was at `now_ms`; `None` before the first.
    pub fn lag(&self, now_ms: u64) -> Option<Duration> {
        match self.event_ms.load(Relaxed) {
            0 => None,
            event_ms => Some(Duration::from_millis(now_ms.saturating_sub(event_ms))),
        }
    }
}
