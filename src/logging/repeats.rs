//! Log lines that could recur for every entry.
//!
//! Owns which of them are written: for each reason the first at once, and then the number of further ones once a
//! minute. Many bad entries therefore cost the log a few lines a minute, and a rate limit of the journal does not drop
//! other lines.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::logging::shown::cut;

const INTERVAL: Duration = Duration::from_secs(60);

/// How many reasons are distinguished for one kind of line: some quote text that differs from entry to entry.
const MAX_REASONS: usize = 20;

/// Reasons that agree in so many characters count as the same.
const REASON_LENGTH: usize = 100;

/// The common reason of those that are not distinguished.
const OTHER_REASONS: &str = "for other reasons";

/// The recent lines and how often each recurred. Shared by all threads.
#[derive(Default)]
pub struct Repeats(Mutex<BTreeMap<Key, Repeat>>);

/// The subject of the lines, and their reason without its digits.
type Key = (&'static str, String);

struct Repeat {
    since: Instant,
    /// How many recurred since the last line about them.
    n_more: u64,
    reason: String,
    example: String,
}

impl Repeats {
    /// Whether to write a line about `example`, one of `what`, now. If not, it is counted for the next summary.
    pub fn is_first(&self, what: &'static str, reason: &str, example: impl Display) -> bool {
        self.is_first_at(Instant::now(), what, reason, example)
    }

    fn is_first_at(&self, now: Instant, what: &'static str, reason: &str, example: impl Display) -> bool {
        let mut repeats = self.lock();
        let mut key = (what, without_numbers(reason));
        let mut reason = reason;
        if !repeats.contains_key(&key) && repeats.keys().filter(|(other, _)| *other == what).count() >= MAX_REASONS {
            key.1.clear();
            reason = OTHER_REASONS;
        }
        let is_first = !repeats.contains_key(&key);
        let repeat = repeats.entry(key).or_insert_with(|| Repeat {
            since: now,
            n_more: 0,
            reason: reason.to_owned(),
            example: String::new(),
        });
        if !is_first {
            repeat.n_more += 1;
            repeat.example = example.to_string();
        }
        is_first
    }

    /// Counts one for the next summary, even if no line with its reason was written.
    pub fn count(&self, what: &'static str, reason: &str, example: impl Display) {
        if self.is_first(what, reason, &example) {
            self.is_first(what, reason, &example);
        }
    }

    /// Logs the summaries that are due.
    pub fn report_due(&self) {
        self.take_lines(Instant::now(), INTERVAL)
            .iter()
            .for_each(|line| log::warn!("{line}"));
    }

    /// Logs all summaries, at the end of the process.
    pub fn report_all(&self) {
        self.take_lines(Instant::now(), Duration::ZERO)
            .iter()
            .for_each(|line| log::warn!("{line}"));
    }

    /// The summaries of those that began at least `age` ago. One that has not recurred is forgotten, so that the next
    /// is logged at once; a new minute begins for the others.
    pub fn take_lines(&self, now: Instant, age: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        self.lock().retain(|(what, _), repeat| {
            if now.saturating_duration_since(repeat.since) < age {
                return true;
            }
            let n_more = std::mem::take(&mut repeat.n_more);
            if n_more > 0 {
                let (reason, example) = (&repeat.reason, &repeat.example);
                lines.push(format!(
                    "{n_more} more {what} in the last minute: {reason}; the last was {example}"
                ));
                repeat.since = now;
            }
            n_more > 0
        });
        lines
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Repeat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the digits: reasons that differ only in numbers, such as the column of a syntax error, count as the same.
fn without_numbers(reason: &str) -> String {
    let letters = reason.chars().filter(|character| !character.is_ascii_digit());
    cut(&letters.take(REASON_LENGTH).collect::<String>(), REASON_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_one_line_at_once_and_one_a_minute_while_it_goes_on() {
        let repeats = Repeats::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(repeats.is_first_at(at(0), "dead letters", "no JSON at column 1", "entry 1-0"));
        assert!(repeats.is_first_at(at(0), "dead letters", "no repo", "entry 2-0"));
        for n in 3..=1000 {
            assert!(!repeats.is_first_at(
                at(1),
                "dead letters",
                &format!("no JSON at column {n}"),
                format!("entry {n}-0")
            ));
        }
        assert_eq!(repeats.take_lines(at(59), INTERVAL), Vec::<String>::new());
        assert_eq!(
            repeats.take_lines(at(60), INTERVAL),
            ["998 more dead letters in the last minute: no JSON at column 1; the last was entry 1000-0"]
        );
        assert!(
            repeats.is_first_at(at(61), "dead letters", "no repo", "entry 5-0"),
            "its minute was over"
        );
        assert!(!repeats.is_first_at(at(61), "dead letters", "no JSON at column 7", "entry 6-0"));
        assert_eq!(repeats.take_lines(at(62), Duration::ZERO).len(), 1);
    }

    #[test]
    fn reasons_that_all_differ_share_their_lines() {
        let repeats = Repeats::default();
        let now = Instant::now();
        let word = |n: usize| "x".repeat(n);
        let firsts = (1..90).filter(|n| repeats.is_first_at(now, "dead letters", &word(*n), "entry 1-0"));
        assert_eq!(firsts.count(), MAX_REASONS + 1);
        let lines = repeats.take_lines(now, Duration::ZERO);
        assert_eq!(
            lines,
            ["68 more dead letters in the last minute: for other reasons; the last was entry 1-0"]
        );
    }
}
