//! Computes how fast a number grows per second from samples of its total. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The longest time over which a rate is computed.
pub const LONGEST: Duration = Duration::from_secs(60);

/// The samples of a number that only grows. Rates end with the last sample.
#[derive(Default)]
pub struct Rates(VecDeque<(Instant, u64)>);

impl Rates {
    /// Adds a sample.
    pub fn add(&mut self, at: Instant, total: u64) {
        // A falling total means that the hash or the process was replaced.
        if self.0.back().is_some_and(|(_, last)| *last > total) {
            self.0.clear();
        }
        self.0.push_back((at, total));
        while self.0.get(1).is_some_and(|(second, _)| at - *second >= LONGEST) {
            self.0.pop_front();
        }
    }

    /// The rate over the last `time`, or over all samples if they span less.
    pub fn over(&self, time: Duration) -> f64 {
        let Some((now, total)) = self.0.back() else { return 0.0 };
        let first = self
            .0
            .iter()
            .rev()
            .find(|(at, _)| *now - *at >= time)
            .or(self.0.front());
        let Some((at, before)) = first else { return 0.0 };
        per_second((total - before) as f64, *now - *at)
    }
}

/// The difference per second, or 0 if the time is zero.
pub fn per_second(difference: f64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    difference / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_taken_over_the_time_there_is() {
        let start = Instant::now();
        let mut rates = Rates::default();
        assert_eq!(rates.over(Duration::from_secs(3)), 0.0);
        for second in 0..=100 {
            let total = if second <= 97 {
                second * 10
            } else {
                970 + (second - 97) * 100
            };
            rates.add(start + Duration::from_secs(second), total);
        }
        assert_eq!(rates.over(Duration::from_secs(3)), 100.0);
        assert_eq!(rates.over(LONGEST), (3.0 * 100.0 + 57.0 * 10.0) / 60.0);
        assert!(rates.0.len() <= 62);
        rates.add(start + Duration::from_secs(101), 5);
        assert_eq!(rates.over(Duration::from_secs(3)), 0.0);
    }
}
