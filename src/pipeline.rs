//! Starts and stops the program: threads, channels, and the order in which they end.
//!
//! Entries flow reader → worker-N → acker. Beside them run the threads of metrics, losses, status, renewal, the
//! consumer name, members and notifier. Channels are bounded. A stop closes them in the order of the data path: the
//! reader ends, then the workers empty their channels and end, then the acker does the same; at last the remaining
//! counts are flushed. A thread that ends early, by an error or a panic, requests the stop, and the process fails after
//! the other threads have finished what they hold.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::ack::{self, Acker};
use crate::apply::{KnownUsers, Memory, PageKeys};
use crate::batch::Batches;
use crate::entry::Entry;
use crate::figures::target::Target;
use crate::fill;
use crate::group::consumer::{self, Consumer};
use crate::group::members::member::Member;
use crate::group::members::{self, Members};
use crate::group::renew::Renewer;
use crate::group::session::Session;
use crate::in_flight::InFlight;
use crate::lease::Lease;
use crate::lease::holder::Holder;
use crate::local::Local;
use crate::local::keep::Keeper;
use crate::losses::Losses;
use crate::metrics::Metrics;
use crate::metrics::flush::Flusher;
use crate::outcome::Done;
use crate::page::Page;
use crate::postgres::db::Db;
use crate::reader::{self, Reader};
use crate::redis::clock::Clock;
use crate::redis::link::Redis;
use crate::report::exposition::Exposition;
use crate::report::progress::{Start, WorkerProgress};
use crate::report::status::Publisher;
use crate::runtime::heartbeat::Heartbeats;
use crate::runtime::retry::Backoff;
use crate::runtime::shutdown::{Stop, Stopped, handle_signals};
use crate::runtime::threads::Threads;
use crate::service::http::Http;
use crate::service::notify;
use crate::settings::cli::VERSION;
use crate::settings::config::Config;
use crate::settings::consumer_args::DEFAULT_CURSOR;
use crate::worker::Worker;
use crate::worker::poison::{self, RunningAttempts, SuspectAttempts};
use crate::worker::portion::Portion;

/// Batches that may wait in a worker's channel. While one is full, the reader serves no other worker: with room for a
/// single batch, transactions were a quarter smaller. MAX_IN_FLIGHT_MIB bounds the memory.
const BATCHES_PER_CHANNEL: usize = 2;

/// Finished entries on their way to the acker. They are small, since their data has been dropped.
const DONE_CAPACITY: usize = 2048;

/// Runs the worker until a stop is requested or, with `is_drain`, until every entry of the stream has been
/// acknowledged.
///
/// # Errors
///
/// A thread failed, or `is_drain` is set and another process holds the consumer name.
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
    handle_signals(&stop, None)?;
    let redis = Redis::new(config.redis.clone());
    let db = Db::new(config.postgres.clone(), config.connections, &stop);
    let heartbeats = Heartbeats::default();
    let _entered = heartbeats.enter("main");
    let mut threads = Threads::new(stop.clone(), heartbeats);
    let metrics: Arc<Metrics> = Arc::default();
    let pipeline = Pipeline {
        in_flight: Arc::new(InFlight::new(config.max_in_flight)),
        session: Session::default(),
        config,
        redis,
        db,
        metrics: Arc::clone(&metrics),
        local: Local::default(),
        clock: Clock::default(),
        attempts: RunningAttempts::default(),
        start: Start::default(),
        stop: stop.clone(),
        is_drain,
    };
    pipeline.spawn_notifier(&mut threads)?;
    pipeline.spawn_http(&mut threads)?;
    let holder_stop = Stop::default();
    let result = match pipeline.run_as_holder(&mut threads, &holder_stop) {
        Err(error) if error.is::<Stopped>() => Ok(()),
        result => result,
    };
    // Whatever ended the data path, the threads beside it must end too.
    stop.request();
    pipeline.attempts.take_back(&pipeline.redis);
    holder_stop.request();
    threads.join_within(Duration::from_secs(2));
    for repeats in [
        &metrics.repeats,
        &pipeline.redis.outage.repeats,
        &pipeline.db.outage.repeats,
    ] {
        repeats.report_all();
    }
    result.and(threads.result())
}

struct Pipeline {
    config: Config,
    redis: Redis,
    db: Db,
    in_flight: Arc<InFlight>,
    session: Session,
    metrics: Arc<Metrics>,
    local: Local,
    clock: Clock,
    attempts: RunningAttempts,
    start: Start,
    stop: Stop,
    is_drain: bool,
}

impl Pipeline {
    fn spawn_notifier(&self, threads: &mut Threads) -> anyhow::Result<()> {
        let progress = WorkerProgress::new(&self.start, &self.redis, &self.db, Arc::clone(&self.metrics));
        notify::spawn(
            threads,
            &self.start.ready,
            progress,
            self.config.stop_timeout,
            &self.stop,
        )
    }

    fn spawn_http(&self, threads: &mut Threads) -> anyhow::Result<()> {
        let Some(address) = &self.config.metrics_addr else {
            return Ok(());
        };
        let target = Target::of_worker(&self.config, DEFAULT_CURSOR);
        let page = Page::spawn(threads, "worker", &self.redis, target, &self.stop)?;
        let exposition = Exposition::new(Arc::clone(&self.metrics), Arc::clone(&self.in_flight));
        Http::spawn(threads, address, exposition, page, &self.stop)
    }

    /// Runs the data path once the consumer name is held and both servers are reachable.
    fn run_as_holder(&self, threads: &mut Threads, holder_stop: &Stop) -> anyhow::Result<()> {
        let mut holder = Holder::new(&self.redis, consumer::held_name(&self.config));
        holder.take(!self.is_drain, &self.stop)?;
        self.start.name_is_held();
        let lease = holder.lease();
        let shared = members::Shared {
            in_flight: Arc::clone(&self.in_flight),
            session: self.session.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        let mut members = Members::new(&self.redis, &self.db, &self.config, &holder, shared);
        threads.spawn_beside("holder", holder_stop, move |stop| holder.keep(stop))?;
        let metrics = Arc::clone(&self.metrics);
        let publisher = Publisher::new(&self.redis, &self.db, &self.config, metrics, self.start.clone());
        threads.spawn_beside("status", holder_stop, move |stop| publisher.run(stop))?;
        self.db.wait_until_ready(&self.stop)?;
        members.join(&self.stop)?;
        let member = members.member();
        threads.spawn_beside("members", holder_stop, move |stop| members.keep(stop))?;
        let switches = self.config.switches;
        let filler = fill::keep::Keeper::new(&self.db, switches, holder_stop);
        filler.mark_unwritten()?;
        if switches.use_local() {
            let mut keeper = Keeper::new(&self.db, &self.config.local_dids);
            keeper.look_first(&self.stop)?;
            threads.spawn_beside("local", holder_stop, move |stop| keeper.run(stop))?;
            threads.spawn_beside("fill", holder_stop, move |stop| filler.run(stop))?;
        }
        if self.run_path(threads, &lease, &member)? {
            Consumer::new(&self.config).remove(&self.redis, &lease);
        }
        Ok(())
    }

    /// Runs the data path to its end. Returns whether all of it ended in time.
    fn run_path(&self, threads: &mut Threads, lease: &Lease, member: &Member) -> anyhow::Result<bool> {
        let (done_tx, done_rx) = bounded(DONE_CAPACITY);
        // Flush, renewal and the sampling of losses outlive the data path and have a stop of their own.
        let last_stop = Stop::default();
        let flusher = Flusher::new(&self.redis, &self.db, &self.config, Arc::clone(&self.metrics));
        threads.spawn_beside("metrics", &last_stop, move |stop| flusher.run(stop))?;
        let renewer = Renewer::new(&self.redis, &self.config, Arc::clone(&self.in_flight));
        threads.spawn_beside("renewer", &last_stop, move |stop| renewer.run(stop))?;
        let (attempts, redis) = (self.attempts.clone(), self.redis.clone());
        threads.spawn_beside("tries", &last_stop, move |stop| attempts.watch(&redis, stop))?;
        let mut losses = Losses::new(&self.redis, &self.config, Arc::clone(&self.metrics), self.clock.clone());
        losses.sample_before_reading();
        threads.spawn_beside("losses", &last_stop, move |stop| losses.run(stop))?;
        self.spawn_acker(threads, done_rx, lease)?;
        let shared = reader::Shared {
            workers: self.spawn_workers(threads, &done_tx, lease, member)?,
            done: done_tx,
            in_flight: Arc::clone(&self.in_flight),
            session: self.session.clone(),
            metrics: Arc::clone(&self.metrics),
            stop: self.stop.clone(),
            lease: lease.clone(),
        };
        let reader = Reader::new(&self.redis, &self.config, shared, self.is_drain);
        threads.spawn("reader", move || reader.run())?;
        self.start.runs();
        let has_ended = threads.join_path(self.config.stop_timeout);
        last_stop.request();
        Ok(has_ended)
    }

    fn spawn_acker(&self, threads: &mut Threads, inbox: Receiver<Done>, lease: &Lease) -> anyhow::Result<()> {
        let shared = ack::Shared {
            in_flight: Arc::clone(&self.in_flight),
            session: self.session.clone(),
            metrics: Arc::clone(&self.metrics),
            stop: self.stop.clone(),
            lease: lease.clone(),
        };
        let acker = Acker::new(&self.redis, &self.config, inbox, shared);
        threads.spawn("acker", move || acker.run())
    }

    fn spawn_workers(
        &self,
        threads: &mut Threads,
        done: &Sender<Done>,
        lease: &Lease,
        member: &Member,
    ) -> anyhow::Result<Vec<Sender<Entry>>> {
        let mut inboxes = Vec::with_capacity(self.config.workers);
        let heavy = Arc::default();
        let page_keys = PageKeys::new(self.clock.clone());
        let known = KnownUsers::default();
        for number in 0..self.config.workers {
            let (tx, inbox) = bounded(BATCHES_PER_CHANNEL * self.config.max_batch_entries);
            let suspect_above = poison::suspect_above(self.config.max_deliveries);
            let worker = Worker {
                batches: Batches::new(inbox, self.config.max_batch_entries, suspect_above),
                done: done.clone(),
                db: self.db.clone(),
                memory: Memory::of(member.clone(), known.clone(), page_keys.clone(), self.local.clone()),
                switches: self.config.switches,
                attempts: SuspectAttempts::new(&self.redis, &self.config, &self.stop, &self.attempts),
                lease: lease.clone(),
                in_flight: Arc::clone(&self.in_flight),
                metrics: Arc::clone(&self.metrics),
                stop: self.stop.clone(),
                patience: Backoff::default(),
                portion: Portion::default(),
                heavy: Arc::clone(&heavy),
                streak: 0,
                condemned: HashMap::new(),
                odd: None,
                has_other_types: false,
            };
            threads.spawn(&format!("worker-{number}"), move || worker.run())?;
            inboxes.push(tx);
        }
        Ok(inboxes)
    }
}
