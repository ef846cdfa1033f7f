//! The stop request, and who hears it.
//!
//! Owns the thread that receives signals. The first that asks for the end, whether it comes from a service manager, a
//! person or a terminal that closes, has every thread finish; a second ends the process at once. Whoever waits, waits here,
//! so that a stop ends every wait.
//!
//! Invariant: no signal ends the process without a flush of its counts, but for SIGKILL, a second stop, and faults of the
//! process itself.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use signal_hook::consts::signal::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;
use thiserror::Error;

use crate::logging::stderr;
use crate::runtime::heartbeat;

/// Asked for once, heard by all threads.
#[derive(Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Default)]
struct Shared {
    requested_at: Mutex<Option<Instant>>,
    changed: Condvar,
}

/// A stop was requested. What waits fails with it, so that `?` ends all that waits for that.
#[derive(Debug, Error)]
#[error("a stop was requested")]
pub struct Stopped;

impl Stop {
    pub fn request(&self) {
        let mut requested_at = self.0.requested_at.lock().unwrap_or_else(PoisonError::into_inner);
        requested_at.get_or_insert_with(Instant::now);
        self.0.changed.notify_all();
    }

    pub fn is_requested(&self) -> bool {
        self.requested_at().is_some()
    }

    /// Fails once a stop is requested.
    pub fn check(&self) -> Result<(), Stopped> {
        match self.is_requested() {
            true => Err(Stopped),
            false => Ok(()),
        }
    }

    /// When the stop was asked for.
    pub fn requested_at(&self) -> Option<Instant> {
        *self.0.requested_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `time` or until a stop is requested; whether it is.
    pub fn wait(&self, time: Duration) -> bool {
        let requested_at = self.0.requested_at.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.changed.wait_timeout_while(requested_at, time, |at| at.is_none());
        let is_requested = waited.unwrap_or_else(PoisonError::into_inner).0.is_some();
        heartbeat::beat();
        is_requested
    }
}

/// What a process ended by a second signal exits with, as shells count it for SIGTERM.
const EXIT_AT_ONCE: i32 = 143;

/// Request a stop.
const STOPS: [i32; 4] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT];

/// Mean nothing to the program, but would end it if they were not handled: tools for logs and for timing send them.
const IGNORED: [i32; 6] = [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO];

/// Has signals request a stop; a second one ends the process.
///
/// # Errors
///
/// The system refuses the handlers or the thread.
pub fn handle_signals(stop: &Stop) -> anyhow::Result<()> {
    let handled = STOPS
        .into_iter()
        .chain(IGNORED)
        .filter(|signal| !stays_ignored(*signal));
    let mut signals = Signals::new(handled).context("failed to handle signals")?;
    let stop = stop.clone();
    let listen = move || {
        for signal in &mut signals {
            let name = signal_name(signal).unwrap_or("a signal");
            if IGNORED.contains(&signal) {
                log::info!("{name}: ignored");
                continue;
            }
            if stop.is_requested() {
                log::warn!("{name} again: exiting at once; unfinished entries stay pending");
                stderr::flush();
                std::process::exit(EXIT_AT_ONCE);
            }
            log::info!("{name}: stopping");
            stop.request();
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(listen)
        .context("failed to start the thread signals")?;
    Ok(())
}

/// Whether whoever started the process wants it to survive the signal, as nohup does, and shells with what they run in the
/// background. SIGTERM and SIGINT stop it all the same: there must be a way to.
fn stays_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ![SIGTERM, SIGINT].contains(&signal) && is_ignored(&status, signal)
}

/// Whether a process of this /proc/…/status ignores the signal.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_those_of_the_mask() {
        // Of `nohup sh -c 'cat /proc/self/status'`.
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000000002\n";
        assert!(is_ignored(status, SIGHUP));
        assert!(!is_ignored(status, SIGINT) && !is_ignored(status, SIGQUIT));
        assert!(!is_ignored("", SIGHUP));
    }
}
