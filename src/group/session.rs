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
//! A bar keeps the next session from beginning, for as long as this process may not apply anything.
//!
//! Invariant: no acknowledgement is sent in another session than the one in which its entry was read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::redis::link::Link;

/// The session that there is, or the end of the last one. Clones share it.
#[derive(Clone)]
pub struct Session(Arc<Shared>);

struct Shared {
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The connection to acknowledge on, until the acker takes it.
    link: Option<Link>,
    /// The reader may still hand over entries.
    is_read: bool,
    is_barred: bool,
}

impl Default for Session {
    /// Over: the reader is yet to begin the first one.
    fn default() -> Session {
        Session(Arc::new(Shared {
            is_over: AtomicBool::new(true),
            state: Mutex::default(),
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

    /// Ends the session for the reader, which hands over nothing until it begins another.
    pub fn leave(&self) {
        self.end();
        self.state().is_read = false;
    }

    /// Begins a session in which `link` acknowledges; to be called while nothing is in flight. `false` where it is barred.
    pub fn begin(&self, link: Link) -> bool {
        let mut state = self.state();
        if !state.is_barred {
            state.link = Some(link);
            state.is_read = true;
            self.0.is_over.store(false, Ordering::Release);
        }
        !state.is_barred
    }

    /// Ends the session, and keeps the next from beginning until `unbar`.
    pub fn bar(&self) {
        self.state().is_barred = true;
        self.end();
    }

    pub fn unbar(&self) {
        self.state().is_barred = false;
    }

    /// Whether the reader has left the session, and none has begun since.
    pub fn is_left(&self) -> bool {
        !self.state().is_read
    }

    /// The connection of a session that has begun since this was asked last.
    pub fn take_link(&self) -> Option<Link> {
        self.state().link.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
