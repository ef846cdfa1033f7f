//! How many ops share a transaction once PostgreSQL has refused one as too large.
//!
//! Owns the limit. It falls to what was accepted, so that the next batch does not run into the same refusal. After a
//! while it doubles; each time that turns out to be too much, the wait gets longer. Pure: the caller passes the time.

use std::time::{Duration, Instant};

/// How long a limit is kept before more is tried.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// More ops than a batch can hold: from here on there is no limit.
const MANY: usize = 1 << 20;

pub struct Portion {
    limit: usize,
    wait: Duration,
    grows_at: Option<Instant>,
    has_grown: bool,
}

impl Default for Portion {
    fn default() -> Self {
        Portion {
            limit: usize::MAX,
            wait: FIRST_WAIT,
            grows_at: None,
            has_grown: false,
        }
    }
}

impl Portion {
    /// Maximum number of ops per transaction.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Records that this many ops were refused together and accepted in two halves. Returns whether there was no limit
    /// before.
    pub fn was_too_large(&mut self, ops: usize, now: Instant) -> bool {
        let is_first = self.limit == usize::MAX;
        if self.has_grown {
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
            self.has_grown = false;
        }
        self.limit = self.limit.min((ops / 2).max(1));
        self.grows_at = Some(now + self.wait);
        is_first
    }

    /// Records that a transaction was accepted.
    pub fn passed(&mut self, now: Instant) {
        if self.grows_at.is_none_or(|at| now < at) {
            return;
        }
        self.limit = self.limit.saturating_mul(2);
        self.grows_at = Some(now + self.wait);
        self.has_grown = true;
        if self.limit >= MANY {
            *self = Portion::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_comes_down_to_what_gets_past_and_grows_back_later_each_time_it_is_too_much_again() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut portion = Portion::default();
        assert!(portion.was_too_large(250, start));
        assert!(!portion.was_too_large(1000, start), "a part of it was too large before");
        assert_eq!(portion.limit(), 125);
        portion.passed(start);
        assert_eq!(portion.limit(), 125);
        portion.passed(after(1));
        assert_eq!(portion.limit(), 250);
        portion.was_too_large(250, after(1));
        portion.passed(after(2));
        assert_eq!(portion.limit(), 125, "the second try comes later");
        for seconds in 3..60 {
            portion.passed(after(seconds));
        }
        assert_eq!(portion.limit(), usize::MAX);
    }
}
