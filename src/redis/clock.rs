//! The current time, by this machine's clock or by Redis's.
//!
//! Owns the comparison with Redis's clock, which assigns the entry IDs. An entry ID a day ahead of this machine's clock
//! is implausible as a time, unless this clock is wrong: a small machine without a battery-backed clock is behind until
//! NTP sets it. If the two clocks differ by more than a minute, the later one is used, and the difference is logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use redis::RedisResult;

use crate::redis::link::Link;

/// Differences up to this many milliseconds have no effect. It is more than a slow reply can cause.
const MARGIN_MS: i64 = 60_000;

/// The time by this machine's clock, or by Redis's if that is far ahead. Clones share the measured difference.
#[derive(Clone, Default)]
pub struct Clock {
    /// Milliseconds to add to this machine's clock.
    ahead: Arc<AtomicI64>,
}

impl Clock {
    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        own_ms().saturating_add(self.ahead.load(Ordering::Relaxed))
    }
}

fn own_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis().try_into().unwrap_or(i64::MAX)
}

/// Compares the clocks, and logs when they begin to differ and when they agree again.
pub struct Comparison {
    clock: Clock,
    differ: bool,
}

impl Comparison {
    pub fn new(clock: Clock) -> Comparison {
        Comparison { clock, differ: false }
    }

    /// Reads Redis's time and compares it with this machine's.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached or returns an error. If the user may not send TIME, nothing is compared and the
    /// call succeeds.
    pub fn sample(&mut self, link: &mut Link) -> RedisResult<()> {
        let before = own_ms();
        let answer = link.query::<(i64, i64)>(&redis::cmd("TIME"));
        let cost = "a wrong clock of this machine goes unnoticed";
        let Some((seconds, micros)) = link.optional(answer, cost, "+time")? else {
            return Ok(());
        };
        // Redis read its clock at some time in between.
        let own = before + (own_ms() - before) / 2;
        let theirs = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        self.compare(theirs.saturating_sub(own));
        Ok(())
    }

    fn compare(&mut self, ahead: i64) {
        let differ = ahead.saturating_abs() > MARGIN_MS;
        self.clock
            .ahead
            .store(if differ { ahead.max(0) } else { 0 }, Ordering::Relaxed);
        if differ != std::mem::replace(&mut self.differ, differ) {
            log_change(differ, ahead);
        }
    }
}

fn log_change(differ: bool, ahead: i64) {
    let seconds = ahead.saturating_abs() / 1000;
    match (differ, ahead > 0) {
        (true, true) => log::warn!(
            "this machine's clock is {seconds} s behind redis's: rows are dated by redis's until they agree; let both \
             machines keep time by NTP (timedatectl set-ntp true)"
        ),
        (true, false) => log::warn!(
            "redis's clock is {seconds} s behind this machine's: entries look older than they are; let both machines keep \
             time by NTP (timedatectl set-ntp true)"
        ),
        (false, _) => log::info!("this machine's clock and redis's agree again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_clock_counts_while_the_two_are_more_than_a_minute_apart() {
        const DAY: i64 = 24 * 60 * 60 * 1000;
        let clock = Clock::default();
        let mut comparison = Comparison::new(clock.clone());
        for (ahead, added) in [(59_000, 0), (2 * DAY, 2 * DAY), (-2 * DAY, 0), (61_000, 61_000), (0, 0)] {
            comparison.compare(ahead);
            let difference = clock.now_ms() - own_ms();
            assert!(
                (added..added + 1000).contains(&(difference + 1)),
                "{ahead}: {difference}"
            );
        }
    }
}
