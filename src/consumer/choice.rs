//! Which of the relays is read.
//!
//! Owns when a failing relay is replaced by the next one of the list, and what the other threads learn of the choice.
//! `probe` finds out when the first relay can be read again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::settings::relay_url::RelayUrl;

/// A relay that fails for this long is replaced by the next one.
pub const FAILING: Duration = Duration::from_secs(300);

/// The relays, and which of them is read. Clones share it.
#[derive(Clone)]
pub struct Relays(Arc<Shared>);

struct Shared {
    urls: Vec<RelayUrl>,
    /// The index of the relay that is read.
    current: AtomicUsize,
    is_first_well: AtomicBool,
}

impl Relays {
    /// `urls` has at least one element. The first is read.
    pub fn new(urls: Vec<RelayUrl>) -> Relays {
        Relays(Arc::new(Shared {
            urls,
            current: AtomicUsize::new(0),
            is_first_well: AtomicBool::new(false),
        }))
    }

    pub fn current(&self) -> &RelayUrl {
        &self.0.urls[self.0.current.load(Relaxed)]
    }

    pub fn first(&self) -> &RelayUrl {
        &self.0.urls[0]
    }

    /// Whether another relay than the first is read.
    pub fn is_away(&self) -> bool {
        self.0.current.load(Relaxed) > 0
    }

    /// Whether the first relay, which is not read, can be read again.
    pub fn is_first_well(&self) -> bool {
        self.0.is_first_well.load(Relaxed)
    }

    pub fn first_is_well(&self) {
        self.0.is_first_well.store(true, Relaxed);
    }

    fn choose(&self, index: usize) {
        self.0.current.store(index, Relaxed);
        self.0.is_first_well.store(false, Relaxed);
    }
}

/// The reading thread's choice.
pub struct Choice {
    relays: Relays,
    failing_since: Option<Instant>,
}

impl Choice {
    pub fn new(relays: Relays) -> Choice {
        Choice {
            relays,
            failing_since: None,
        }
    }

    pub fn relays(&self) -> &Relays {
        &self.relays
    }

    /// The relay has sent an event.
    pub fn worked(&mut self) {
        self.failing_since = None;
    }

    /// The relay could not be reached, or sent nothing.
    pub fn failed(&mut self, now: Instant) {
        self.failing_since.get_or_insert(now);
    }

    /// Goes on to the next relay if this one has failed for long. Returns whether it did.
    pub fn go_on(&mut self, now: Instant) -> bool {
        let n_relays = self.relays.0.urls.len();
        let is_over = self.failing_since.is_some_and(|since| now - since >= FAILING) && n_relays > 1;
        if is_over {
            let current = self.relays.0.current.load(Relaxed);
            self.choose((current + 1) % n_relays);
        }
        is_over
    }

    pub fn return_to_first(&mut self) {
        self.choose(0);
    }

    fn choose(&mut self, index: usize) {
        self.relays.choose(index);
        self.failing_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(names: &[&str]) -> Choice {
        let urls = names.iter().map(|name| RelayUrl::parse(name).unwrap());
        Choice::new(Relays::new(urls.collect()))
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_relay_that_fails_for_5_minutes_is_replaced_and_one_that_works_in_between_is_not() {
        let start = Instant::now();
        let mut choice = choice(&["wss://a", "wss://b", "wss://c"]);
        let relays = choice.relays().clone();
        choice.failed(start);
        choice.failed(after(start, 200));
        assert!(!choice.go_on(after(start, 299)));
        choice.worked();
        assert!(!choice.go_on(after(start, 300)));
        choice.failed(after(start, 400));
        assert!(choice.go_on(after(start, 700)));
        assert_eq!(relays.current().authority(), "b");
        assert!(!choice.go_on(after(start, 1100)), "the second one has not failed");
        choice.failed(after(start, 1100));
        assert!(choice.go_on(after(start, 1400)));
        choice.failed(after(start, 1400));
        assert!(choice.go_on(after(start, 1700)));
        assert_eq!(relays.current().authority(), "a", "the list begins anew");
    }

    #[test]
    fn an_only_relay_is_never_replaced() {
        let start = Instant::now();
        let mut choice = choice(&["wss://a"]);
        choice.failed(start);
        assert!(!choice.go_on(after(start, 3600)));
    }

    #[test]
    fn the_first_relay_is_well_only_until_another_choice() {
        let start = Instant::now();
        let mut choice = choice(&["wss://a", "wss://b"]);
        let relays = choice.relays().clone();
        choice.failed(start);
        assert!(choice.go_on(after(start, 300)) && relays.is_away() && !relays.is_first_well());
        relays.first_is_well();
        assert!(relays.is_first_well());
        choice.return_to_first();
        assert!(!relays.is_away() && !relays.is_first_well());
    }
}
