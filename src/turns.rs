//! Which threads still take turns.
//!
//! Owns the list that the watchdog and /healthz go by, each from its own last look. A thread takes a turn whenever it comes back from a wait or from a server,
//! whatever came of it: an idle stream and an outage are full of turns, and only a thread that never comes back has none.
//!
//! Invariant: `take` stands behind every wait and every command, and each of those has an end, PostgreSQL's
//! answer after 35 s being the last. A thread without a turn for longer hangs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{SendError, SendTimeoutError, Sender};

/// The threads that must take turns, and how many they have taken.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

thread_local! {
    static MINE: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
}

/// Marks a turn of the calling thread.
pub fn take() {
    MINE.with_borrow(|mine| {
        if let Some(taken) = mine {
            taken.fetch_add(1, Relaxed);
        }
    });
}

/// How long a thread waits for room in a channel before it takes a turn and waits on.
const WAIT: Duration = Duration::from_secs(1);

/// Waits for room in a channel for as long as it takes.
///
/// # Errors
///
/// Nobody receives any more.
pub fn send<T>(channel: &Sender<T>, mut value: T) -> Result<(), SendError<T>> {
    loop {
        match channel.send_timeout(value, WAIT) {
            Ok(()) => return Ok(()),
            Err(SendTimeoutError::Disconnected(back)) => return Err(SendError(back)),
            Err(SendTimeoutError::Timeout(back)) => value = back,
        }
        take();
    }
}

impl Turns {
    /// Makes the calling thread one of those that must take turns, until the result is dropped.
    pub fn enter(&self, name: &str) -> Entered {
        let taken = Arc::default();
        MINE.set(Some(Arc::clone(&taken)));
        self.lock().insert(name.to_owned(), taken);
        Entered {
            turns: self.clone(),
            name: name.to_owned(),
        }
    }

    /// Somebody who looks whether all of them still take turns.
    pub fn watch(&self) -> Watch {
        Watch {
            turns: self.clone(),
            seen: BTreeMap::new(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<AtomicU64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who looks at the threads; what others have seen makes no difference.
pub struct Watch {
    turns: Turns,
    /// The turns of each thread when none was last missing.
    seen: BTreeMap<String, u64>,
}

impl Watch {
    /// The threads that have taken no turn since this last named none.
    pub fn missing(&mut self) -> Vec<String> {
        let threads = self.turns.lock();
        let now: BTreeMap<_, _> = threads
            .iter()
            .map(|(name, taken)| (name.clone(), taken.load(Relaxed)))
            .collect();
        drop(threads);
        let missing = now.iter().filter(|(name, taken)| self.seen.get(*name) == Some(taken));
        let missing: Vec<String> = missing.map(|(name, _)| name.clone()).collect();
        if missing.is_empty() {
            self.seen = now;
        }
        missing
    }
}

/// A thread's place in the list; a thread that has ended owes no turns.
pub struct Entered {
    turns: Turns,
    name: String,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn a_thread_is_missing_until_it_takes_a_turn_or_ends() {
        let turns = Turns::default();
        let (go, wait) = bounded::<()>(0);
        let (said, hear) = bounded::<()>(0);
        let thread = std::thread::Builder::new().spawn({
            let turns = turns.clone();
            move || {
                let _entered = turns.enter("other");
                said.send(()).unwrap();
                wait.recv().unwrap();
                take();
                said.send(()).unwrap();
                wait.recv().unwrap();
            }
        });
        let entered = turns.enter("mine");
        hear.recv().unwrap();
        let mut watch = turns.watch();
        assert!(watch.missing().is_empty(), "entering is a turn");
        assert_eq!(watch.missing(), ["mine", "other"]);
        take();
        assert_eq!(watch.missing(), ["other"]);
        assert_eq!(watch.missing(), ["other"], "looking is no turn");
        go.send(()).unwrap();
        hear.recv().unwrap();
        assert!(watch.missing().is_empty());
        drop(entered);
        assert_eq!(watch.missing(), ["other"]);
        go.send(()).unwrap();
        thread.unwrap().join().unwrap();
        assert!(watch.missing().is_empty());
    }

    #[test]
    fn each_watch_sees_every_turn_however_often_others_look() {
        let turns = Turns::default();
        let _entered = turns.enter("mine");
        let (mut watchdog, mut health) = (turns.watch(), turns.watch());
        for watch in [&mut watchdog, &mut health] {
            assert!(watch.missing().is_empty());
        }
        take();
        for watch in [&mut watchdog, &mut health] {
            assert!(watch.missing().is_empty(), "the other has taken the turn away");
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
