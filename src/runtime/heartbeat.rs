//! Which threads are alive.
//!
//! Owns the heartbeats by which the watchdog and /healthz find a stuck thread. A thread beats whenever it comes back
//! from a wait or from a server, whatever the result: an idle stream and an outage are full of heartbeats.
//!
//! Invariant: every blocking call is bounded (PostgreSQL's limit of 35 s is the longest) and followed by `beat`. A
//! thread that misses that long is stuck.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{SendError, SendTimeoutError, Sender};

/// The threads that must beat, and how often each has.
#[derive(Clone, Default)]
pub struct Heartbeats(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

thread_local! {
    static MINE: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
}

/// Shows that the calling thread is alive.
pub fn beat() {
    MINE.with_borrow(|mine| {
        if let Some(beats) = mine {
            beats.fetch_add(1, Relaxed);
        }
    });
}

/// How long a thread waits for room in a channel before it beats and waits on.
const WAIT: Duration = Duration::from_secs(1);

/// Waits for room in a channel for as long as it takes.
///
/// # Errors
///
/// Fails if the receiver is dropped.
pub fn send<T>(channel: &Sender<T>, mut value: T) -> Result<(), SendError<T>> {
    loop {
        match channel.send_timeout(value, WAIT) {
            Ok(()) => return Ok(()),
            Err(SendTimeoutError::Disconnected(back)) => return Err(SendError(back)),
            Err(SendTimeoutError::Timeout(back)) => value = back,
        }
        beat();
    }
}

impl Heartbeats {
    /// Registers the calling thread as one that must beat, until the result is dropped.
    pub fn enter(&self, name: &str) -> Entered {
        let beats = Arc::default();
        MINE.set(Some(Arc::clone(&beats)));
        self.lock().insert(name.to_owned(), beats);
        Entered {
            heartbeats: self.clone(),
            name: name.to_owned(),
        }
    }

    /// An observer of all threads. Observers do not influence each other.
    pub fn watch(&self) -> Watch {
        Watch {
            heartbeats: self.clone(),
            seen: BTreeMap::new(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<AtomicU64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An observer of the threads.
pub struct Watch {
    heartbeats: Heartbeats,
    /// How often each thread had beaten when `missing` last returned no thread.
    seen: BTreeMap<String, u64>,
}

impl Watch {
    /// The threads that have not beaten since this last returned an empty list.
    pub fn missing(&mut self) -> Vec<String> {
        let threads = self.heartbeats.lock();
        let now: BTreeMap<_, _> = threads
            .iter()
            .map(|(name, beats)| (name.clone(), beats.load(Relaxed)))
            .collect();
        drop(threads);
        let missing = now.iter().filter(|(name, beats)| self.seen.get(*name) == Some(beats));
        let missing: Vec<String> = missing.map(|(name, _)| name.clone()).collect();
        if missing.is_empty() {
            self.seen = now;
        }
        missing
    }
}

/// A registered thread. Dropping it ends the registration.
pub struct Entered {
    heartbeats: Heartbeats,
    name: String,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.heartbeats.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn a_thread_is_missing_until_it_beats_or_ends() {
        let heartbeats = Heartbeats::default();
        let (go, wait) = bounded::<()>(0);
        let (done, wait_done) = bounded::<()>(0);
        let thread = std::thread::Builder::new().spawn({
            let heartbeats = heartbeats.clone();
            move || {
                let _entered = heartbeats.enter("other");
                done.send(()).unwrap();
                wait.recv().unwrap();
                beat();
                done.send(()).unwrap();
                wait.recv().unwrap();
            }
        });
        let entered = heartbeats.enter("mine");
        wait_done.recv().unwrap();
        let mut watch = heartbeats.watch();
        assert!(watch.missing().is_empty(), "entering is a heartbeat");
        assert_eq!(watch.missing(), ["mine", "other"]);
        beat();
        assert_eq!(watch.missing(), ["other"]);
        assert_eq!(watch.missing(), ["other"], "observing does not count as a heartbeat");
        go.send(()).unwrap();
        wait_done.recv().unwrap();
        assert!(watch.missing().is_empty());
        drop(entered);
        assert_eq!(watch.missing(), ["other"]);
        go.send(()).unwrap();
        thread.unwrap().join().unwrap();
        assert!(watch.missing().is_empty());
    }

    #[test]
    fn each_watch_sees_every_heartbeat_whatever_other_watches_do() {
        let heartbeats = Heartbeats::default();
        let _entered = heartbeats.enter("mine");
        let (mut watchdog, mut health) = (heartbeats.watch(), heartbeats.watch());
        for watch in [&mut watchdog, &mut health] {
            assert!(watch.missing().is_empty());
        }
        beat();
        for watch in [&mut watchdog, &mut health] {
            assert!(watch.missing().is_empty(), "the other watch has consumed the heartbeat");
        }
        assert_eq!(watchdog.missing(), ["mine"]);
        assert_eq!(health.missing(), ["mine"]);
    }

    #[test]
    fn sending_waits_for_room_and_ends_with_the_receiver() {
        let (tx, rx) = bounded(1);
        send(&tx, 1).unwrap();
        let waiting = std::thread::Builder::new().spawn({
            let tx = tx.clone();
            move || send(&tx, 2)
        });
        assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(2)));
        waiting.unwrap().join().unwrap().unwrap();
        drop(rx);
        assert_eq!(send(&tx, 3), Err(SendError(3)));
    }
}
