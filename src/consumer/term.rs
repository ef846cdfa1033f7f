//! The terms in which this process may write.
//!
//! Owns what the thread that talks to Redis and the thread that talks to the relay agree on. A term begins when the
//! position has been read from Redis, and ends when the cursor is no longer this process's own, or for a pause. The relay is
//! then read anew from the next term's position, and batches that are under way are dropped.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::position::Remembered;
use crate::runtime::heartbeat;
use crate::runtime::shutdown::{Stop, Stopped};

/// How often a waiting thread checks for a stop and beats.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The terms of this process, counted from 1. Clones share them.
#[derive(Clone, Default)]
pub struct Terms(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The current term; 0 between terms.
    current: AtomicU64,
    term: Mutex<Option<Term>>,
    has_begun: Condvar,
    n_begun: AtomicU64,
}

/// A term and what Redis remembered when it began.
#[derive(Clone)]
pub struct Term {
    pub number: u64,
    pub remembered: Arc<Remembered>,
}

impl Terms {
    /// Begins a term and returns its number.
    pub fn begin(&self, remembered: Remembered) -> u64 {
        let number = self.0.n_begun.fetch_add(1, Relaxed) + 1;
        let mut term = self.0.term.lock().unwrap_or_else(PoisonError::into_inner);
        *term = Some(Term {
            number,
            remembered: Arc::new(remembered),
        });
        self.0.current.store(number, Relaxed);
        self.0.has_begun.notify_all();
        number
    }

    pub fn end(&self) {
        *self.0.term.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.current.store(0, Relaxed);
    }

    pub fn is_current(&self, number: u64) -> bool {
        self.0.current.load(Relaxed) == number
    }

    /// Whether this process may write at the moment.
    pub fn is_any(&self) -> bool {
        self.0.current.load(Relaxed) != 0
    }

    /// Waits for a term.
    ///
    /// # Errors
    ///
    /// A stop was requested.
    pub fn wait(&self, stop: &Stop) -> Result<Term, Stopped> {
        let mut term = self.0.term.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            stop.check()?;
            if let Some(term) = &*term {
                return Ok(term.clone());
            }
            let waited = self.0.has_begun.wait_timeout(term, POLL_INTERVAL);
            heartbeat::beat();
            term = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
