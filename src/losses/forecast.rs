//! Predicts when the producer will trim unread entries.
//!
//! The producer keeps a number of entries, and trims older ones whether or not they were read. The time left is what
//! remains of that number, divided by the growth of the backlog. Pure.
//!
//! Invariant: an episode is two log lines, one when it begins and one when it ends, however long it takes.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::runtime::rates::per_second;

/// Rates are averaged over at most this time, so that a burst is not mistaken for a trend.
const WINDOW: Duration = Duration::from_secs(30);

/// Rates are averaged over at least this time.
const SHORTEST: Duration = Duration::from_secs(3);

/// The time left at which the worker warns: enough to act.
pub const WARN_WITHIN: Duration = Duration::from_secs(5 * 60);

pub struct Forecast {
    /// The number of entries that the producer keeps.
    limit: u64,
    samples: VecDeque<Sample>,
    /// The number of unread entries at the warning.
    warned_at: Option<u64>,
}

struct Sample {
    at: Instant,
    added: u64,
    unread: u64,
}

/// A change that is worth a log line.
#[derive(Debug, PartialEq)]
pub enum News {
    Near(Near),
    /// The backlog no longer approaches the limit.
    Passed,
}

/// The predicted time of a loss.
#[derive(Debug, PartialEq)]
pub struct Near {
    left: Duration,
    added_per_second: f64,
    read_per_second: f64,
}

/// Seconds until the producer trims unread entries if the backlog grows by `growth` entries per second, or `None` if it
/// does not grow. With the rate of added entries as `growth`, this is how long all workers may stand still.
pub fn seconds_left(limit: u64, unread: u64, growth: f64) -> Option<f64> {
    (growth > 0.0).then(|| limit.saturating_sub(unread) as f64 / growth)
}

impl Forecast {
    pub fn new(limit: u64) -> Forecast {
        Forecast {
            limit,
            samples: VecDeque::new(),
            warned_at: None,
        }
    }

    /// Records a sample: how many entries were ever added, and how many are unread.
    pub fn sample(&mut self, at: Instant, added: u64, unread: u64) -> Option<News> {
        if self.samples.back().is_some_and(|last| last.added > added) {
            self.samples.clear();
        }
        self.samples.push_back(Sample { at, added, unread });
        while self.samples.front().is_some_and(|first| at - first.at > WINDOW) {
            self.samples.pop_front();
        }
        match (self.warned_at, self.near()) {
            (None, Some(near)) => {
                self.warned_at = Some(unread);
                Some(News::Near(near))
            }
            // Half of the backlog is processed. A rate that oscillates around zero, or a constant backlog, does not end
            // an episode.
            (Some(warned_at), None) if unread <= warned_at / 2 => {
                self.warned_at = None;
                Some(News::Passed)
            }
            _ => None,
        }
    }

    fn near(&self) -> Option<Near> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let time = last.at - first.at;
        // A small backlog grows fast in every burst.
        if time < SHORTEST || last.unread < self.limit / 10 {
            return None;
        }
        let added_per_second = per_second((last.added - first.added) as f64, time);
        let growth = per_second(last.unread as f64 - first.unread as f64, time);
        // At the limit the backlog no longer grows: it is trimmed as fast as it grows.
        let is_at_limit = last.unread >= self.limit / 20 * 19 && added_per_second > 0.0;
        let left = match is_at_limit {
            true => 0.0,
            false => seconds_left(self.limit, last.unread, growth)?,
        };
        (left < WARN_WITHIN.as_secs_f64()).then(|| Near {
            left: Duration::from_secs_f64(left),
            added_per_second,
            read_per_second: (added_per_second - growth).max(0.0),
        })
    }
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} entries a second are added, {:.0} are read: at this rate the producer trims unread entries ",
            self.added_per_second, self.read_per_second
        )?;
        match self.left.as_secs() {
            0 => write!(f, "now"),
            seconds if seconds < 120 => write!(f, "in {seconds} s"),
            seconds => write!(f, "in {} min", seconds / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The news of each second, given the entries added and read in it.
    fn news(limit: u64, seconds: &[(u64, u64)]) -> Vec<(usize, News)> {
        let mut forecast = Forecast::new(limit);
        let start = Instant::now();
        let (mut added, mut unread) = (0, 0);
        let mut all = Vec::new();
        for (second, (more, read)) in seconds.iter().enumerate() {
            added += more;
            unread = (unread + more).saturating_sub(*read).min(limit);
            let at = start + Duration::from_secs(second as u64);
            all.extend(forecast.sample(at, added, unread).map(|news| (second, news)));
        }
        all
    }

    #[test]
    fn an_episode_is_one_warning_and_one_all_clear() {
        // Grows by 1,000 per second: when 200,000 are unread, 300,000 are left, which is 300 s.
        let episode = [vec![(2000, 1000); 210], vec![(2000, 2000); 100], vec![(0, 2000); 200]].concat();
        let news = news(500_000, &episode);
        let [(195..=205, News::Near(near)), (300.., News::Passed)] = news.as_slice() else {
            panic!("{news:?}");
        };
        assert_eq!(
            near.to_string(),
            "2000 entries a second are added, 1000 are read: at this rate the producer trims unread entries in 4 min"
        );
    }

    #[test]
    fn a_backlog_at_the_limit_is_overtaken_now() {
        let news = news(10_000, &[vec![(9_900, 0)], vec![(100, 100); 5]].concat());
        let [(3, News::Near(near))] = news.as_slice() else {
            panic!("{news:?}");
        };
        assert!(near.to_string().ends_with("now"), "{near}");
    }

    #[test]
    fn a_small_backlog_and_one_that_shrinks_are_no_news() {
        assert_eq!(news(500_000, &[(4000, 0); 12]), []);
        assert_eq!(news(500_000, &[vec![(400_000, 0)], vec![(0, 3000); 60]].concat()), []);
    }
}
