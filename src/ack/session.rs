//! Sessions with Redis: what is read in one is acknowledged in the same one, or not at all.
//!
//! A session is a connection to read from and one to acknowledge on, which the reader opens together while nothing is in
//! flight. It is over as soon as either connection breaks, or Redis delivers entries out of order: from then on Redis may
//! be in an earlier state than the one in which the entries were read, as after a restored snapshot, an append-only file
//! without its last second, or a failover to a replica that lagged. Entries that were acknowledged are pending or unread
//! again then. If a later entry of their repo were acknowledged now, they would be delivered without it, and take effect
//! after it. So what is still in flight when a session ends is applied and let go without an acknowledgement; the next
//! session begins with all pending entries, oldest first.
//!
//! Invariant: no acknowledgement is sent in another session than the one in which its entry was read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::servers::link::Link;

/// The session that there is, or the end of the last one. Clones share it.
#[derive(Clone)]
pub struct Session(Arc<Shared>);

struct Shared {
    is_over: AtomicBool,
    /// The connection to acknowledge on, until the acker takes it.
    link: Mutex<Option<Link>>,
}

impl Default for Session {
    /// Over: the reader is yet to begin the first one.
    fn default() -> Session {
        Session(Arc::new(Shared {
            is_over: AtomicBool::new(true),
            link: Mutex::default(),
        }))
    }
}

impl Session {
    /// Whether nothing may be acknowledged that was read so far.
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Acquire)
    }

    pub fn end(&self) {
        self.0.is_over.store(true, Ordering::Release);
    }

    /// Begins a session in which `link` acknowledges; to be called while nothing is in flight.
    pub fn begin(&self, link: Link) {
        *self.link() = Some(link);
        self.0.is_over.store(false, Ordering::Release);
    }

    /// The connection of a session that has begun since this was asked last.
    pub fn take_link(&self) -> Option<Link> {
        self.link().take()
    }

    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.0.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
