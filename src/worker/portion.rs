//! How many ops share a transaction once PostgreSQL has found one too large.
//!
//! Owns the limit: it comes down to what got past, so that the next batch does not run into the same refusal, and doubles
//! again after a while, each time later if that turns out to be too much once more. Pure: the time is given.

use std::time::{Duration, Instant};

/// How long a limit is kept before more is tried.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// More ops than a batch can hold: there is no limit then.
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
    /// Ops of a transaction at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// So many ops were refused together, and then got past in two halves. Returns whether there was no limit before.
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

    /// A transaction got past.
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
