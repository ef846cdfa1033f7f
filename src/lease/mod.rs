//! How long a name belongs to this process. Threads consult the lease before they read, write or acknowledge.

pub mod holder;
pub mod mark;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::runtime::heartbeat;
use crate::runtime::shutdown::{Stop, Stopped};

/// How often a waiting thread checks the lease and beats.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The period in which no other process can hold the name. What this process wrote or acknowledged outside of it, for
/// example after a freeze, could overtake the work of another process under the same name.
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
    /// Held, but Redis is at its memory limit and has stored no mark. As soon as Redis accepts keys again, another
    /// process can take the name.
    HeldUnmarkedUntil(Instant),
    /// The Redis user lacks the rights to store a mark. Holders cannot be told apart, and the lease never ends.
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

    /// Whether a mark has kept other processes from taking the name.
    pub fn is_exclusive(&self) -> bool {
        matches!(*self.lock(), LeaseState::HeldUntil(time) if Instant::now() < time)
    }

    pub fn is_marked(&self) -> bool {
        matches!(*self.lock(), LeaseState::HeldUntil(_))
    }

    pub fn is_endless(&self) -> bool {
        matches!(*self.lock(), LeaseState::Unbounded)
    }

    /// Waits until the name is held. Fails if a stop is requested first.
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
