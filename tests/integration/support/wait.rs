//! Waiting for a condition, never for a time.
//!
//! A test that sleeps is either slow or wrong. These functions poll every few milliseconds, up to a ceiling that only a
//! real fault reaches, and then report the condition and its last state.

use std::thread;
use std::time::{Duration, Instant};

use super::process::POLL;

/// Far longer than any wait here takes, even on a slow and busy machine.
const CEILING: Duration = Duration::from_secs(60);

/// The result of a condition: yes or no, or its state while it does not hold.
pub(crate) trait Condition {
    fn holds(self) -> Result<(), String>;
}

impl Condition for bool {
    fn holds(self) -> Result<(), String> {
        if self {
            Ok(())
        } else {
            Err("it does not hold".to_owned())
        }
    }
}

impl Condition for Result<(), String> {
    fn holds(self) -> Result<(), String> {
        self
    }
}

/// Waits until the condition holds; panics after a minute.
#[track_caller]
pub(crate) fn wait_until<C: Condition>(what: &str, condition: impl FnMut() -> C) {
    wait_until_within(what, CEILING, condition);
}

/// The same with the caller's ceiling, for conditions that must hold in time. Returns how long it took.
#[track_caller]
pub(crate) fn wait_until_within<C: Condition>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> C,
) -> Duration {
    let start = Instant::now();
    loop {
        let status = match condition().holds() {
            Ok(()) => return start.elapsed(),
            Err(status) => status,
        };
        assert!(start.elapsed() < limit, "waited {limit:?} until {what}: {status}");
        thread::sleep(POLL);
    }
}

/// A condition that reports both values while they differ.
pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Result<(), String> {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{got:?} instead of {wanted:?}"))
    }
}
