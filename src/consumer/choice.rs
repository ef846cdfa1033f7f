//! Which of the relays is read.
//!
//! Owns when a failing relay is replaced by the next one of the list, and when the first one is tried again. Pure: the
//! caller passes the time.

use std::time::{Duration, Instant};

/// A relay that fails for this long is replaced by the next one.
pub const FAILING: Duration = Duration::from_secs(300);

/// How long another relay is read before the first one is tried again.
const AWAY: Duration = Duration::from_secs(600);

pub struct Choice {
    n_relays: usize,
    /// The index of the relay that is read.
    relay: usize,
    chosen_at: Instant,
    failing_since: Option<Instant>,
}

impl Choice {
    pub fn new(n_relays: usize, now: Instant) -> Choice {
        Choice {
            n_relays,
            relay: 0,
            chosen_at: now,
            failing_since: None,
        }
    }

    pub fn relay(&self) -> usize {
        self.relay
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
        let is_over = self.failing_since.is_some_and(|since| now - since >= FAILING) && self.n_relays > 1;
        if is_over {
            self.choose((self.relay + 1) % self.n_relays, now);
        }
        is_over
    }

    /// When the first relay is to be tried again; `None` while it is read.
    pub fn return_at(&self) -> Option<Instant> {
        (self.relay > 0).then_some(self.chosen_at + AWAY)
    }

    /// Acts on the trial of the first relay.
    pub fn tried_first(&mut self, is_well: bool, now: Instant) {
        match is_well {
            true => self.choose(0, now),
            false => self.chosen_at = now,
        }
    }

    fn choose(&mut self, relay: usize, now: Instant) {
        self.relay = relay;
        self.chosen_at = now;
        self.failing_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_relay_that_fails_for_5_minutes_is_replaced_and_one_that_works_in_between_is_not() {
        let start = Instant::now();
        let mut choice = Choice::new(3, start);
        choice.failed(start);
        choice.failed(after(start, 200));
        assert!(!choice.go_on(after(start, 299)));
        choice.worked();
        assert!(!choice.go_on(after(start, 300)));
        choice.failed(after(start, 400));
        assert!(choice.go_on(after(start, 700)));
        assert_eq!(choice.relay(), 1);
        assert!(!choice.go_on(after(start, 1100)), "the second one has not failed");
        choice.failed(after(start, 1100));
        assert!(choice.go_on(after(start, 1400)));
        choice.failed(after(start, 1400));
        assert!(choice.go_on(after(start, 1700)));
        assert_eq!(choice.relay(), 0, "the list begins anew");
        let mut only = Choice::new(1, start);
        only.failed(start);
        assert!(!only.go_on(after(start, 3600)));
    }

    #[test]
    fn the_first_relay_is_tried_every_10_minutes_and_read_again_once_it_is_well() {
        let start = Instant::now();
        let mut choice = Choice::new(2, start);
        assert_eq!(choice.return_at(), None);
        choice.failed(start);
        assert!(choice.go_on(after(start, 300)));
        assert_eq!(choice.return_at(), Some(after(start, 900)));
        choice.tried_first(false, after(start, 900));
        assert_eq!((choice.relay(), choice.return_at()), (1, Some(after(start, 1500))));
        choice.tried_first(true, after(start, 1500));
        assert_eq!((choice.relay(), choice.return_at()), (0, None));
    }
}
