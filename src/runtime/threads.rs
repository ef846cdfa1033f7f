//! The threads of the program.
//!
//! Owns their start and end. A thread that ends early, by an error or a panic, requests the stop, and its failure
//! becomes the result of the program.

use std::collections::HashMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::runtime::heartbeat::{self, Heartbeats};
use crate::runtime::shutdown::Stop;

/// The running threads.
pub struct Threads {
    running: HashMap<String, Running>,
    /// Each thread sends its name when it ends, in whatever way.
    ended: (Sender<String>, Receiver<String>),
    /// Requested when a thread fails.
    stop: Stop,
    pub heartbeats: Heartbeats,
    failure: Option<anyhow::Error>,
}

struct Running {
    handle: JoinHandle<anyhow::Result<()>>,
    /// Whether the thread is on the data path. The other threads serve those on it.
    is_path: bool,
}

/// How often `join_path` checks whether a requested stop has timed out.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// More than the number of threads, so that the channel of ended threads is never full.
const MAX_THREADS: usize = 128;

impl Threads {
    pub fn new(stop: Stop, heartbeats: Heartbeats) -> Threads {
        Threads {
            running: HashMap::new(),
            ended: bounded(MAX_THREADS),
            stop,
            heartbeats,
            failure: None,
        }
    }

    /// Starts a thread on the data path. Its error or panic requests the stop.
    pub fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        self.start(name, true, run)
    }

    /// Starts a thread beside the data path, which runs until `stop`. Its error or panic requests the stop of all
    /// threads.
    pub fn spawn_beside(
        &mut self,
        name: &str,
        stop: &Stop,
        run: impl FnOnce(&Stop) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let stop = stop.clone();
        self.start(name, false, move || run(&stop))
    }

    fn start(
        &mut self,
        name: &str,
        is_path: bool,
        run: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let end = End {
            name: name.to_owned(),
            ended: self.ended.0.clone(),
        };
        let heartbeats = self.heartbeats.clone();
        let run = move || {
            let _entered = heartbeats.enter(&end.name);
            let _end = end;
            run()
        };
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .with_context(|| format!("failed to start the thread {name}"))?;
        self.running.insert(name.to_owned(), Running { handle, is_path });
        Ok(())
    }

    /// Waits for the threads on the data path; once a stop is requested, for at most `stop_timeout`. Handles the end of
    /// all other threads meanwhile. Returns whether all threads on the path ended.
    pub fn join_path(&mut self, stop_timeout: Duration) -> bool {
        while self.running.values().any(|running| running.is_path) {
            self.join_one(POLL_INTERVAL);
            let is_late = self.stop.requested_at().is_some_and(|at| at.elapsed() > stop_timeout);
            if is_late {
                log::warn!(
                    "the stop took longer than {:.1} s: leaving the rest pending",
                    stop_timeout.as_secs_f64()
                );
                return false;
            }
        }
        true
    }

    /// Waits for all threads, for at most `time`.
    pub fn join_within(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while !self.running.is_empty() && Instant::now() < deadline {
            self.join_one(deadline.saturating_duration_since(Instant::now()));
        }
    }

    /// Waits for at most `time` until a thread ends, and records its failure if it failed.
    fn join_one(&mut self, time: Duration) {
        let ended = self.ended.1.recv_timeout(time);
        heartbeat::beat();
        let Ok(name) = ended else {
            return;
        };
        let Some(running) = self.running.remove(&name) else {
            return;
        };
        let error = match running.handle.join() {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.context(format!("the thread {name} failed")),
            Err(_) => anyhow::anyhow!("the thread {name} panicked"),
        };
        log::error!("{error:#}; stopping");
        self.failure.get_or_insert(error);
        self.stop.request();
    }

    /// # Errors
    ///
    /// The first failure of a thread.
    pub fn result(self) -> anyhow::Result<()> {
        self.failure.map_or(Ok(()), Err)
    }
}

/// Reports the end of its thread when it is dropped, also by a panic.
struct End {
    name: String,
    ended: Sender<String>,
}

impl Drop for End {
    fn drop(&mut self) {
        // Cannot fail for lack of room: the channel has room for every thread. It is closed only after the last join.
        let _ = self.ended.try_send(std::mem::take(&mut self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILING: Duration = Duration::from_secs(60);

    #[test]
    fn a_thread_that_panics_or_fails_stops_the_others_and_is_the_result() {
        for (name, fail) in [
            (
                "panics",
                (|| panic!("as this test wants")) as fn() -> anyhow::Result<()>,
            ),
            ("fails", || anyhow::bail!("as this test wants")),
        ] {
            let stop = Stop::default();
            let mut threads = Threads::new(stop.clone(), Heartbeats::default());
            threads
                .spawn("waits", move || {
                    assert!(stop.wait(CEILING), "the stop was not requested");
                    Ok(())
                })
                .unwrap();
            threads.spawn(name, fail).unwrap();
            assert!(threads.join_path(CEILING));
            let error = threads.result().unwrap_err();
            assert!(format!("{error:#}").contains(name), "{error:#}");
        }
    }

    #[test]
    fn a_thread_beside_the_path_that_fails_stops_the_path() {
        let stop = Stop::default();
        let mut threads = Threads::new(stop.clone(), Heartbeats::default());
        threads
            .spawn("waits", {
                let stop = stop.clone();
                move || {
                    assert!(stop.wait(CEILING), "the stop was not requested");
                    Ok(())
                }
            })
            .unwrap();
        threads
            .spawn_beside("fails", &stop, |_| anyhow::bail!("as this test wants"))
            .unwrap();
        assert!(threads.join_path(CEILING));
        assert!(threads.result().is_err());
    }

    #[test]
    fn threads_that_end_by_themselves_leave_no_failure() {
        let mut threads = Threads::new(Stop::default(), Heartbeats::default());
        threads.spawn("ends", || Ok(())).unwrap();
        assert!(threads.join_path(CEILING));
        threads.result().unwrap();
    }
}
