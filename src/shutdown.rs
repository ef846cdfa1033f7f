//! The stop request, and who hears it.
//!
//! Owns the thread that receives SIGTERM and SIGINT. The first asks every thread to finish; a second ends the process at
//! once. Whoever waits, waits here, so that a stop ends every wait.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::turns;

/// Asked for once, heard by all threads.
#[derive(Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Default)]
struct Shared {
    requested_at: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Stop {
    pub fn request(&self) {
        let mut requested_at = self.0.requested_at.lock().unwrap_or_else(PoisonError::into_inner);
        requested_at.get_or_insert_with(Instant::now);
        self.0.changed.notify_all();
    }

    pub fn is_requested(&self) -> bool {
        self.requested_at().is_some()
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
        turns::take();
        is_requested
    }
}

/// What a process ended by a second signal exits with, as shells count it for SIGTERM.
const EXIT_AT_ONCE: i32 = 143;

/// Has SIGTERM and SIGINT request a stop.
///
/// # Errors
///
/// The system refuses the handlers or the thread.
pub fn handle_signals(stop: &Stop) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("failed to handle SIGTERM and SIGINT")?;
    let stop = stop.clone();
    let listen = move || {
        for signal in &mut signals {
            let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
            if stop.is_requested() {
                log::warn!("{name} again: exiting at once; what is unfinished stays pending");
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
