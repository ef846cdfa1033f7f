//! Sessions with Redis: an entry is acknowledged in the session in which it was read, or not at all.
//!
//! A session is a connection for reading and one for acknowledging, which the reader opens together while nothing is in
//! flight. It ends as soon as either connection breaks or Redis delivers entries out of order. From then on Redis may
//! be in an earlier state than the one in which the entries were read: a restored snapshot, an append-only file without
//! its last second, or a failover to a replica that lagged. In that state, acknowledged entries are pending or unread
//! again. If a later entry of their repo were acknowledged now, they would be delivered without it and take effect
//! after it. Therefore entries that are in flight when a session ends are applied and released without an
//! acknowledgement, and the next session begins with all pending entries, oldest first.
//!
//! A bar keeps the next session from beginning while this process must not apply anything.
//!
//! Invariant: no acknowledgement is sent in a session other than the one in which its entry was read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::redis::link::Link;

/// The current session, or the end of the last one. Clones share it.
#[derive(Clone)]
pub struct Session(Arc<Shared>);

struct Shared {
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The connection for acknowledging, until the acker takes it.
    link: Option<Link>,
    /// The reader may still hand over entries.
    is_read: bool,
    is_barred: bool,
}

impl Default for Session {
    /// An ended session: the reader has yet to begin the first one.
    fn default() -> Session {
        Session(Arc::new(Shared {
            is_over: AtomicBool::new(true),
            state: Mutex::default(),
        }))
    }
}

impl Session {
    /// Whether entries read so far must no longer be acknowledged.
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Acquire)
    }

    pub fn end(&self) {
        self.0.is_over.store(true, Ordering::Release);
    }

    /// Ends the session for the reader, which dispatches nothing until it begins another.
    pub fn leave(&self) {
        self.end();
        self.state().is_read = false;
    }

    /// Begins a session that acknowledges over `link`. The caller must ensure that nothing is in flight. Returns
    /// `false` if sessions are barred.
    pub fn begin(&self, link: Link) -> bool {
        let mut state = self.state();
        if !state.is_barred {
            state.link = Some(link);
            state.is_read = true;
            self.0.is_over.store(false, Ordering::Release);
        }
        !state.is_barred
    }

    /// Ends the session and keeps the next one from beginning until `unbar`.
    pub fn bar(&self) {
        self.state().is_barred = true;
        self.end();
    }

    pub fn unbar(&self) {
        self.state().is_barred = false;
    }

    /// Whether the reader has left the session and has not begun another.
    pub fn is_left(&self) -> bool {
        !self.state().is_read
    }

    /// The connection of a session that has begun since the last call.
    pub fn take_link(&self) -> Option<Link> {
        self.state().link.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
