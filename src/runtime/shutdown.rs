//! The stop request, and the waits that it ends.
//!
//! Owns the thread that receives signals. The first stop signal, whether from a service manager, a person or a closing
//! terminal, makes every thread finish; a second ends the process at once. All threads sleep through `Stop::wait`, so
//! that a stop ends every sleep.
//!
//! Invariant: no signal ends the process before its counts are flushed, except SIGKILL, a second stop signal, and
//! signals for faults of the process itself.

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

/// A stop request, shared by all threads. It cannot be withdrawn.
#[derive(Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Default)]
struct Shared {
    requested_at: Mutex<Option<Instant>>,
    changed: Condvar,
}

/// The error of a wait that a stop request has ended, so that `?` ends the callers as well.
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

    /// # Errors
    ///
    /// Fails once a stop is requested.
    pub fn check(&self) -> Result<(), Stopped> {
        match self.is_requested() {
            true => Err(Stopped),
            false => Ok(()),
        }
    }

    /// When the stop was requested, if it was.
    pub fn requested_at(&self) -> Option<Instant> {
        *self.0.requested_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `time`, or until a stop is requested; returns whether one is.
    pub fn wait(&self, time: Duration) -> bool {
        let requested_at = self.0.requested_at.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.changed.wait_timeout_while(requested_at, time, |at| at.is_none());
        let is_requested = waited.unwrap_or_else(PoisonError::into_inner).0.is_some();
        heartbeat::beat();
        is_requested
    }
}

/// The exit code after a second stop signal: 128 + 15, as shells report a process ended by SIGTERM.
const EXIT_AT_ONCE: i32 = 143;

/// Signals that request a stop.
const STOPS: [i32; 4] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT];

/// Signals without a meaning here, which would end the process if they were not handled. Log rotation and profiling
/// tools send them.
const IGNORED: [i32; 6] = [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO];

/// Makes the first stop signal request a stop, and a second one end the process.
///
/// # Errors
///
/// Fails if the system refuses the signal handlers or the thread.
///
/// SIGHUP requests a stop as well, unless there is something to `reload`.
pub fn handle_signals(stop: &Stop, reload: Option<Box<dyn Fn() + Send>>) -> anyhow::Result<()> {
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
            if let Some(reload) = reload.as_ref().filter(|_| signal == SIGHUP) {
                reload();
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

/// Whether the process was started with the signal ignored, as nohup and shells (for background jobs) do, and so must
/// survive it. SIGTERM and SIGINT always stop the process: there must be a way to.
fn stays_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ![SIGTERM, SIGINT].contains(&signal) && is_ignored(&status, signal)
}

/// Whether the process with this `/proc/<pid>/status` ignores the signal.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        // Of `nohup sh -c 'cat /proc/self/status'`.
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000000002\n";
        assert!(is_ignored(status, SIGHUP));
        assert!(!is_ignored(status, SIGINT) && !is_ignored(status, SIGQUIT));
        assert!(!is_ignored("", SIGHUP));
    }
}
