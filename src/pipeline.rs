//! The whole program on one page: threads, channels, and the order in which they end.
//!
//! reader → worker-N → acker, with the threads of metrics, holder and notifier beside them. Channels are bounded. A stop closes
//! them in the data's order: the reader ends, so the workers run dry and end, so the acker does; then the last counts are
//! flushed. A thread that ends early, by an error or a panic, requests the stop, and the process fails after the others
//! have finished what they hold.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::ack::{Acker, Done};
use crate::apply::Memory;
use crate::cli::VERSION;
use crate::config::Config;
use crate::db::Db;
use crate::entry::Entry;
use crate::holder::Holder;
use crate::in_flight::InFlight;
use crate::link::Redis;
use crate::metrics::{Flusher, Metrics};
use crate::notify::{self, Notifier, Start};
use crate::reader::Reader;
use crate::retry::Backoff;
use crate::shutdown::{Stop, handle_signals};
use crate::turns::{self, Turns};
use crate::worker::Worker;

/// Batches that wait for a worker at most: one while it applies another keeps it busy.
const BATCHES_PER_CHANNEL: usize = 2;

/// Entries on their way to the acker; their data is gone, so they are small.
const DONE_CAPACITY: usize = 8192;

/// Runs the worker until a stop is requested or, with `is_drain`, until all there is has been acknowledged.
///
/// # Errors
///
/// A thread failed, or the consumer name is held by another process and `is_drain` is set.
pub fn run(config: Config, is_drain: bool) -> anyhow::Result<()> {
    log::info!(
        "firehose-worker {} starts: consumer {} of group {} on {}, {} workers",
        VERSION,
        config.consumer,
        config.group,
        config.stream,
        config.workers
    );
    config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let stop = Stop::default();
    handle_signals(&stop)?;
    let redis = Redis::new(config.redis.clone());
    let db = Db::new(config.postgres.clone(), config.workers);
    let turns = Turns::default();
    let _entered = turns.enter("main");
    let mut threads = Threads::new(stop.clone(), turns);
    let pipeline = Pipeline {
        config,
        redis,
        db,
        metrics: Arc::default(),
        start: Start::default(),
        stop: stop.clone(),
        is_drain,
    };
    pipeline.spawn_notifier(&mut threads)?;
    let holder_stop = Stop::default();
    let result = pipeline.run_as_holder(&mut threads, &holder_stop);
    // Whatever ended the data path, the threads beside it end too.
    stop.request();
    holder_stop.request();
    threads.join_within(Duration::from_secs(2));
    result.and(threads.result())
}

struct Pipeline {
    config: Config,
    redis: Redis,
    db: Db,
    metrics: Arc<Metrics>,
    start: Start,
    stop: Stop,
    is_drain: bool,
}

impl Pipeline {
    fn spawn_notifier(&self, threads: &mut Threads) -> anyhow::Result<()> {
        if !notify::is_heard() {
            return Ok(());
        }
        let notifier = Notifier {
            start: self.start.clone(),
            redis: self.redis.clone(),
            db: self.db.clone(),
            metrics: Arc::clone(&self.metrics),
            turns: threads.turns.clone(),
            stop_timeout: self.config.stop_timeout,
        };
        let stop = self.stop.clone();
        threads.spawn("notify", move || notifier.run(&stop))
    }

    /// Runs the data path once the consumer name is held and both servers are there.
    fn run_as_holder(self, threads: &mut Threads, holder_stop: &Stop) -> anyhow::Result<()> {
        let mut holder = Holder::new(&self.redis, &self.config);
        if !holder.take(!self.is_drain, &self.stop)? {
            return Ok(());
        }
        self.start.holds_name();
        threads.spawn("holder", {
            let stop = holder_stop.clone();
            move || holder.keep(&stop)
        })?;
        match self.db.wait_until_ready(&self.stop) {
            true => self.run(threads),
            false => Ok(()),
        }
    }

    fn run(self, threads: &mut Threads) -> anyhow::Result<()> {
        let metrics = Arc::clone(&self.metrics);
        let in_flight = Arc::new(InFlight::new(self.config.max_in_flight));
        let (done_tx, done_rx) = bounded(DONE_CAPACITY);
        // The flush outlives the data path: it has a stop of its own.
        let flush_stop = Stop::default();
        let flusher = Flusher::new(&self.redis, &self.config, Arc::clone(&metrics));
        threads.spawn("metrics", {
            let stop = flush_stop.clone();
            move || flusher.run(&stop)
        })?;
        let mut path = Threads::new(self.stop.clone(), threads.turns.clone());
        self.spawn_acker(&mut path, done_rx, &in_flight, &metrics)?;
        let inboxes = self.spawn_workers(&mut path, &done_tx, &in_flight, &metrics)?;
        let reader = Reader::new(
            &self.redis,
            &self.config,
            inboxes,
            done_tx,
            in_flight,
            self.stop.clone(),
            self.is_drain,
        );
        path.spawn("reader", move || reader.run())?;
        self.start.runs();
        path.join(self.config.stop_timeout);
        flush_stop.request();
        threads.failure = threads.failure.take().or(path.failure);
        Ok(())
    }

    fn spawn_acker(
        &self,
        path: &mut Threads,
        inbox: Receiver<Done>,
        in_flight: &Arc<InFlight>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<()> {
        let acker = Acker::new(
            &self.redis,
            &self.config,
            inbox,
            Arc::clone(in_flight),
            Arc::clone(metrics),
            self.stop.clone(),
        );
        path.spawn("acker", move || acker.run())
    }

    fn spawn_workers(
        &self,
        path: &mut Threads,
        done: &Sender<Done>,
        in_flight: &Arc<InFlight>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Vec<Sender<Entry>>> {
        let mut inboxes = Vec::with_capacity(self.config.workers);
        for number in 0..self.config.workers {
            let (tx, inbox) = bounded(BATCHES_PER_CHANNEL * self.config.max_batch_entries);
            let worker = Worker {
                inbox,
                done: done.clone(),
                db: self.db.clone(),
                memory: Memory::default(),
                switches: self.config.switches,
                max_batch_entries: self.config.max_batch_entries,
                in_flight: Arc::clone(in_flight),
                metrics: Arc::clone(metrics),
                stop: self.stop.clone(),
                patience: Backoff::default(),
                streak: 0,
            };
            path.spawn(&format!("worker-{number}"), move || worker.run())?;
            inboxes.push(tx);
        }
        Ok(inboxes)
    }
}

/// Threads of one part of the program.
struct Threads {
    handles: HashMap<String, JoinHandle<anyhow::Result<()>>>,
    /// Each thread sends its name when it ends, in whatever way.
    ended: (Sender<String>, Receiver<String>),
    /// Requested when a thread fails.
    stop: Stop,
    turns: Turns,
    failure: Option<anyhow::Error>,
}

/// How often it is looked whether a stop was requested and is late.
const LOOK: Duration = Duration::from_millis(200);

/// More threads than there are in any part.
const MAX_THREADS: usize = 128;

impl Threads {
    fn new(stop: Stop, turns: Turns) -> Threads {
        Threads {
            handles: HashMap::new(),
            ended: bounded(MAX_THREADS),
            stop,
            turns,
            failure: None,
        }
    }

    /// Starts a thread whose error or panic requests the stop.
    fn spawn(&mut self, name: &str, run: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<()> {
        let end = End {
            name: name.to_owned(),
            ended: self.ended.0.clone(),
        };
        let turns = self.turns.clone();
        let run = move || {
            let _entered = turns.enter(&end.name);
            let _end = end;
            run()
        };
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .with_context(|| format!("failed to start the thread {name}"))?;
        self.handles.insert(name.to_owned(), handle);
        Ok(())
    }

    /// Waits for all threads, but after a stop is requested no longer than `stop_timeout`.
    fn join(&mut self, stop_timeout: Duration) {
        while !self.handles.is_empty() {
            self.join_one(LOOK);
            let is_late = self.stop.requested_at().is_some_and(|at| at.elapsed() > stop_timeout);
            if is_late {
                log::warn!(
                    "the stop took longer than {:.1} s: leaving the rest pending",
                    stop_timeout.as_secs_f64()
                );
                return;
            }
        }
    }

    /// Waits for all threads for `time` at most.
    fn join_within(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while !self.handles.is_empty() && Instant::now() < deadline {
            self.join_one(deadline.saturating_duration_since(Instant::now()));
        }
    }

    /// Waits for `time` at most for a thread to end, and sees how it did.
    fn join_one(&mut self, time: Duration) {
        let ended = self.ended.1.recv_timeout(time);
        turns::take();
        let Ok(name) = ended else {
            return;
        };
        let Some(handle) = self.handles.remove(&name) else {
            return;
        };
        let error = match handle.join() {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.context(format!("the thread {name} failed")),
            Err(_) => anyhow::anyhow!("the thread {name} panicked"),
        };
        log::error!("{error:#}; stopping");
        self.failure.get_or_insert(error);
        self.stop.request();
    }

    fn result(self) -> anyhow::Result<()> {
        self.failure.map_or(Ok(()), Err)
    }
}

/// Says that its thread has ended when it is dropped, as it is on a panic too.
struct End {
    name: String,
    ended: Sender<String>,
}

impl Drop for End {
    fn drop(&mut self) {
        // Never full: there is room for every thread. Closed only once nobody waits any more.
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
            let mut threads = Threads::new(stop.clone(), Turns::default());
            threads
                .spawn("waits", move || {
                    assert!(stop.wait(CEILING), "nobody requested the stop");
                    Ok(())
                })
                .unwrap();
            threads.spawn(name, fail).unwrap();
            threads.join(CEILING);
            let error = threads.result().unwrap_err();
            assert!(format!("{error:#}").contains(name), "{error:#}");
        }
    }

    #[test]
    fn threads_that_end_by_themselves_leave_no_failure() {
        let mut threads = Threads::new(Stop::default(), Turns::default());
        threads.spawn("ends", || Ok(())).unwrap();
        threads.join(CEILING);
        threads.result().unwrap();
    }
}
