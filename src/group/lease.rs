//! Until when a consumer name is this process's: what threads ask before they read, write or acknowledge under it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::runtime::heartbeat;
use crate::runtime::shutdown::{Stop, Stopped};

/// How often a waiting thread takes a turn.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Until when nobody else can hold the name: what is written or acknowledged outside of that time might overtake what
/// another process does under it, as after a freeze.
#[derive(Clone, Default)]
pub struct Lease(Arc<Shared>);

#[derive(Default)]
struct Shared {
    until: Mutex<LeaseState>,
    renewed: Condvar,
}

#[derive(Clone, Copy, Default)]
pub enum LeaseState {
    /// The name is not held, or was not renewed in time.
    #[default]
    Lost,
    HeldUntil(Instant),
    /// The same, but Redis is full and has taken no mark: who comes when it takes one again gets the name.
    HeldUnmarkedUntil(Instant),
    /// Nothing may mark the holder: nobody else can be told apart.
    Unbounded,
}

impl LeaseState {
    fn holds(self) -> bool {
        match self {
            LeaseState::Lost => false,
            LeaseState::HeldUntil(time) | LeaseState::HeldUnmarkedUntil(time) => Instant::now() < time,
            LeaseState::Unbounded => true,
        }
    }
}

impl Lease {
    pub fn holds(&self) -> bool {
        self.lock().holds()
    }

    /// Whether another process would have been kept from the name.
    pub fn is_exclusive(&self) -> bool {
        matches!(*self.lock(), LeaseState::HeldUntil(time) if Instant::now() < time)
    }

    pub fn is_marked(&self) -> bool {
        matches!(*self.lock(), LeaseState::HeldUntil(_))
    }

    pub fn is_endless(&self) -> bool {
        matches!(*self.lock(), LeaseState::Unbounded)
    }

    /// Waits until the name is held; fails if a stop is requested first.
    pub fn wait(&self, stop: &Stop) -> Result<(), Stopped> {
        let mut until = self.lock();
        while !until.holds() {
            stop.check()?;
            let waited = self.0.renewed.wait_timeout(until, POLL_INTERVAL);
            heartbeat::beat();
            until = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    pub fn set(&self, until: LeaseState) {
        *self.lock() = until;
        self.0.renewed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, LeaseState> {
        self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
