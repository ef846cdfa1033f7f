//! The firehose consumer: from a relay to the Redis stream.
//!
//! ```text
//! relay ─▶ socket: session ─▶ intake ─▶ batch ─▶ redis: publish ─▶ stream, cursor, state
//!                                firehose::{frame, commit, record, entry}
//! ```
//!
//! Starts and stops the threads. `socket` reads and decodes, `redis` appends, with one batch under way and the next one
//! being filled. Beside them, `holder` keeps the lease on the cursor, `status` writes for the dashboard, and with several
//! relays `probe` dials the first while another one is read.
//!
//! Invariant: the cursor in Redis is the truth. It moves only together with the entries up to it, so that after any
//! crash of any server the relay is read from exactly where the stream ends.

mod batch;
pub mod begin;
mod choice;
mod counts;
mod dashboard;
mod exposition;
pub mod intake;
pub mod peers;
pub mod position;
mod pressure;
mod probe;
mod progress;
mod publish;
pub mod relay;
mod rewind;
mod session;
mod socket;
mod term;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::figures::target::Target;
use crate::lease::holder::{Holder, Name};
use crate::page::Page;
use crate::redis::link::Redis;
use crate::runtime::heartbeat::Heartbeats;
use crate::runtime::rates::Rates;
use crate::runtime::retry::Outage;
use crate::runtime::shutdown::{Stop, Stopped, handle_signals};
use crate::runtime::threads::Threads;
use crate::service::http::Http;
use crate::service::notify::{self, Ready};
use crate::settings::cli::VERSION;
use crate::settings::consumer::ConsumerConfig;
use batch::Form;
use choice::Relays;
use counts::Counts;
use dashboard::Dashboard;
use exposition::Exposition;
use intake::{CurrentFilter, Intake};
use peers::Noticed;
use position::Keys;
use progress::ConsumerProgress;
use publish::Publisher;
use socket::Reader;
use term::Terms;

/// Batches that may wait for Redis: one is enough to keep it busy.
const BATCHES: usize = 1;

/// Events that may wait to be shown on the dashboard.
const SAMPLES: usize = 16;

/// Runs the consumer until a stop is requested.
///
/// # Errors
///
/// A thread failed, or Redis holds a key that is unusable (`position::Unusable`).
pub fn run(config: ConsumerConfig) -> anyhow::Result<()> {
    let relays: Vec<String> = config.relays.iter().map(ToString::to_string).collect();
    log::info!(
        "firehose-worker {VERSION} starts as consumer of {} for {}",
        relays.join(", "),
        config.stream
    );
    config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let stop = Stop::default();
    let filter = CurrentFilter::new(config.filters.read().map_err(anyhow::Error::msg)?);
    handle_signals(&stop, Some(reload(&config, &filter)))?;
    let consumer = Consumer {
        redis: Redis::new(config.redis.clone()),
        keys: Keys::new(&config),
        relay: Outage::new("the relay"),
        relays: Relays::new(config.relays.clone()),
        counts: Arc::default(),
        terms: Terms::default(),
        noticed: Noticed::default(),
        ready: Ready::default(),
        stop,
        filter,
        config,
    };
    let heartbeats = Heartbeats::default();
    let _entered = heartbeats.enter("main");
    let mut threads = Threads::new(consumer.stop.clone(), heartbeats);
    let last_stop = Stop::default();
    let result = match consumer.run_threads(&mut threads, &last_stop) {
        Err(error) if error.is::<Stopped>() => Ok(()),
        result => result,
    };
    consumer.stop.request();
    last_stop.request();
    threads.join_within(Duration::from_secs(2));
    consumer.redis.outage.repeats.report_all();
    consumer.relay.repeats.report_all();
    result.and(threads.result())
}

/// Reads the files of the filter again.
fn reload(config: &ConsumerConfig, filter: &CurrentFilter) -> Box<dyn Fn() + Send> {
    let (filters, filter) = (config.filters.clone(), filter.clone());
    Box::new(move || match filters.read() {
        Ok(new) => {
            filter.replace(new);
            log::info!("SIGHUP: read FIREHOSE_COLLECTIONS and FIREHOSE_DIDS again");
        }
        Err(reason) => log::error!("SIGHUP: {reason}; the filter stays as it was"),
    })
}

struct Consumer {
    config: ConsumerConfig,
    redis: Redis,
    keys: Keys,
    relay: Arc<Outage>,
    relays: Relays,
    counts: Arc<Counts>,
    terms: Terms,
    noticed: Noticed,
    ready: Ready,
    stop: Stop,
    filter: CurrentFilter,
}

impl Consumer {
    fn run_threads(&self, threads: &mut Threads, last_stop: &Stop) -> anyhow::Result<()> {
        self.spawn_notifier(threads)?;
        self.spawn_http(threads)?;
        // Before anything is written: an unusable key ends the process with nothing touched.
        publish::inspect(&self.redis, &self.keys, &self.stop)?;
        let holder = Holder::new(&self.redis, self.name());
        let lease = holder.lease();
        threads.spawn_beside("holder", last_stop, move |stop| hold(holder, stop))?;
        let (outbox, inbox) = bounded(BATCHES);
        let (spent, empty) = bounded(BATCHES + 2);
        let (samples, shown) = bounded(SAMPLES);
        let dashboard = Dashboard::new(
            self.redis.link(Duration::ZERO),
            shown,
            self.relays.clone(),
            self.terms.clone(),
            self.noticed.clone(),
            Arc::clone(&self.counts),
            self.config.is_beside_others,
        );
        threads.spawn_beside("status", last_stop, move |stop| dashboard.run(stop))?;
        let channels = publish::Channels { inbox, spent, samples };
        let publisher = Publisher::new(
            &self.redis,
            &self.config,
            channels,
            publish::Shared {
                lease,
                terms: self.terms.clone(),
                noticed: self.noticed.clone(),
                counts: Arc::clone(&self.counts),
                stop: self.stop.clone(),
            },
        );
        threads.spawn("redis", move || publisher.run())?;
        let form = Form::new(&self.keys, self.config.max_stream_len);
        let reader = Reader::new(
            self.config.clone(),
            outbox,
            empty,
            Intake::new(form, self.filter.clone(), Arc::clone(&self.counts)),
            socket::Shared {
                terms: self.terms.clone(),
                counts: Arc::clone(&self.counts),
                outage: Arc::clone(&self.relay),
                relays: self.relays.clone(),
                stop: self.stop.clone(),
            },
        );
        threads.spawn("socket", move || reader.run())?;
        if self.config.relays.len() > 1 {
            let relays = self.relays.clone();
            threads.spawn_beside("probe", &self.stop, move |stop| probe::run(&relays, stop))?;
        }
        self.ready.report();
        threads.join_path(self.config.stop_timeout);
        Ok(())
    }

    fn spawn_notifier(&self, threads: &mut Threads) -> anyhow::Result<()> {
        let progress = ConsumerProgress {
            redis: self.redis.clone(),
            relay: Arc::clone(&self.relay),
            terms: self.terms.clone(),
            noticed: self.noticed.clone(),
            counts: Arc::clone(&self.counts),
            rates: Rates::default(),
        };
        notify::spawn(threads, &self.ready, progress, self.config.stop_timeout, &self.stop)
    }

    fn spawn_http(&self, threads: &mut Threads) -> anyhow::Result<()> {
        let Some(address) = &self.config.metrics_addr else {
            return Ok(());
        };
        let target = Target::of_consumer(&self.config);
        let page = Page::spawn(threads, "consumer", &self.redis, target, &self.stop)?;
        let exposition = Exposition::new(Arc::clone(&self.counts), self.terms.clone());
        Http::spawn(threads, address, exposition, page, &self.stop)
    }

    /// The cursor, which only one process may move.
    fn name(&self) -> Name {
        Name {
            text: format!("the cursor {}", self.keys.cursor),
            key: self.keys.holder.clone(),
            without_key: "the cursor has no lease: of two consumers, the one that writes second stops",
            rule: "~firehose:consumer:* +get +set +del +pexpire +watch +unwatch +multi +exec",
            waits: "the consumer appends nothing",
        }
    }
}

/// Thread `holder`: takes the lease, and takes it again whenever it was lost.
fn hold(mut holder: Holder, stop: &Stop) -> anyhow::Result<()> {
    loop {
        match holder.take(true, stop) {
            Err(error) if error.is::<Stopped>() => return Ok(()),
            taken => taken?,
        }
        match holder.keep(stop) {
            Ok(()) => return Ok(()),
            Err(lost) => log::warn!("{lost}; standing by"),
        }
    }
}
