//! Until when a consumer name is this process's: what threads ask before they read, write or acknowledge under it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::runtime::heartbeat;
use crate::runtime::shutdown::Stop;

/// How often a waiting thread takes a turn.
const LOOK: Duration = Duration::from_millis(500);

/// Until when nobody else can hold the name: what is written or acknowledged outside of that time might overtake what
/// another process does under it, as after a freeze.
#[derive(Clone, Default)]
pub struct Lease(Arc<Shared>);

#[derive(Default)]
struct Shared {
    until: Mutex<Until>,
    renewed: Condvar,
}

#[derive(Clone, Copy, Default)]
pub enum Until {
    /// The name is not held, or was not renewed in time.
    #[default]
    Past,
    Time(Instant),
    /// The same, but Redis is full and has taken no mark: who comes when it takes one again gets the name.
    Unmarked(Instant),
    /// Nothing may mark the holder: nobody else can be told apart.
    End,
}

impl Until {
    fn holds(self) -> bool {
        match self {
            Until::Past => false,
            Until::Time(time) | Until::Unmarked(time) => Instant::now() < time,
            Until::End => true,
        }
    }
}

impl Lease {
    pub fn holds(&self) -> bool {
        self.lock().holds()
    }

    /// Whether another process would have been kept from the name.
    pub fn is_exclusive(&self) -> bool {
        matches!(*self.lock(), Until::Time(time) if Instant::now() < time)
    }

    pub fn is_marked(&self) -> bool {
        matches!(*self.lock(), Until::Time(_))
    }

    pub fn is_endless(&self) -> bool {
        matches!(*self.lock(), Until::End)
    }

    /// Waits until the name is held; `false` if a stop is requested first.
    pub fn wait(&self, stop: &Stop) -> bool {
        let mut until = self.lock();
        while !until.holds() {
            if stop.is_requested() {
                return false;
            }
            let waited = self.0.renewed.wait_timeout(until, LOOK);
            heartbeat::beat();
            until = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub fn set(&self, until: Until) {
        *self.lock() = until;
        self.0.renewed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Until> {
        self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
