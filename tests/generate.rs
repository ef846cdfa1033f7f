//! Puts made-up but lifelike events, or those of a file, into a Redis stream or a file.
//!
//! For the demo, for benchmarks, and for trying things out by hand:
//! `cargo run --release --features generate --bin generate -- --events 60000 --redis redis://127.0.0.1:6379`

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "generator/mod.rs"]
mod generator;
#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "sdk_dialect.rs"]
mod sdk_dialect;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use generator::{Event, Events, file};

/// Entries in one round trip to Redis.
const N_PIPELINED: usize = 500;

/// At a limited rate, a round trip this often.
const TICK: Duration = Duration::from_millis(20);

/// Makes up events as the AT Protocol's firehose has them, and puts them where a worker finds them
#[derive(Parser)]
#[command(name = "generate")]
struct Options {
    /// How many events to make up
    #[arg(long, default_value_t = 60_000)]
    events: u64,
    /// The same seed (and base time) gives the same events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The time of the last event, in milliseconds since 1970 [default: now]
    #[arg(long, value_name = "MS")]
    base_time: Option<u64>,
    /// The form of the records: the lexicon's JSON, or what a producer built on the Python SDK sends
    #[arg(long, value_enum, default_value_t = Dialect::Lexicon)]
    dialect: Dialect,
    /// Take the events from a file of JSON lines {"type","data","seq"} (plain or .gz) instead of making them up
    #[arg(long)]
    file: Option<PathBuf>,
    /// Time between two events, in milliseconds [default: 1.5]
    #[arg(long, value_name = "MS", conflicts_with = "file")]
    step: Option<u64>,
    /// Leave out the first ones, which happened before
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// Send no more than this
    #[arg(long, value_name = "N")]
    take: Option<u64>,
    /// Give entries the IDs of the events' times, as if they had been added then
    #[arg(long, requires = "redis", requires = "step")]
    entry_ids: bool,
    /// Make no events, and print the DIDs of so many people of the stream, from the most followed to the least
    #[arg(long, value_name = "N")]
    dids: Option<usize>,
    /// Send to this Redis
    #[arg(long, value_name = "URL", required_unless_present_any = ["out", "dids"], conflicts_with = "out")]
    redis: Option<String>,
    /// The stream to append to
    #[arg(long, default_value = "firehose:events")]
    key: String,
    /// Write JSON lines to this file; - is stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Events per second [default: as fast as possible]
    #[arg(long)]
    rate: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dialect {
    Lexicon,
    Sdk,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.rate == Some(0) {
        bail!("--rate has to be above 0");
    }
    if let Some(number) = options.dids {
        made_up(&options).dids(number).iter().for_each(|did| println!("{did}"));
        return Ok(());
    }
    let events = events(&options)?.skip(options.skip as usize);
    let events = events.take(options.take.unwrap_or(u64::MAX) as usize);
    let events = events.map(|event| in_dialect(event?, options.dialect));
    match (&options.redis, &options.out) {
        (Some(url), _) => send(url, &options, events),
        (None, Some(path)) => write(path, options.rate, events),
        (None, None) => bail!("--redis or --out is needed"),
    }
}

fn events(options: &Options) -> Result<Box<dyn Iterator<Item = io::Result<Event>>>> {
    if let Some(path) = &options.file {
        let events = file::read(path).with_context(|| format!("failed to open {}", path.display()))?;
        return Ok(Box::new(events));
    }
    Ok(Box::new(made_up(options).map(Ok)))
}

fn made_up(options: &Options) -> Events {
    let mut events = Events::new(options.seed, options.events);
    if let Some(time) = options.base_time {
        events = events.at(time);
    }
    if let Some(step) = options.step {
        events = events.every(Duration::from_millis(step));
    }
    events
}

fn in_dialect(event: Event, dialect: Dialect) -> Result<Event> {
    match dialect {
        Dialect::Lexicon => Ok(event),
        Dialect::Sdk => Ok(Event {
            data: sdk_dialect::convert(&event.kind, &event.data)?,
            ..event
        }),
    }
}

fn send(url: &str, options: &Options, events: impl Iterator<Item = Result<Event>>) -> Result<()> {
    let client = redis::Client::open(url).context("failed to read the Redis URL")?;
    let mut connection = client.get_connection().context("failed to connect to Redis")?;
    let mut pace = Pace::new(options.rate);
    let mut sent = Sent::default();
    let mut pipe = redis::pipe();
    let first = made_up(options).next_millis() + options.skip * options.step.unwrap_or_default();
    for event in events {
        let event = event?;
        let id = match options.entry_ids {
            true => (first + sent.total * options.step.unwrap_or_default()).to_string(),
            false => "*".to_owned(),
        };
        sent.count(&event.kind);
        pipe.cmd("XADD").arg(&options.key).arg(id).arg("type").arg(&event.kind);
        pipe.arg("data").arg(&event.data).arg("seq").arg(&event.seq).ignore();
        if pipe.len() == pace.n_at_once {
            pipe.query::<()>(&mut connection).context("failed to send")?;
            pipe.clear();
            pace.wait(sent.total);
        }
    }
    if !pipe.is_empty() {
        pipe.query::<()>(&mut connection).context("failed to send")?;
    }
    println!(
        "sent {} commit={} identity={} account={}",
        sent.total, sent.commit, sent.identity, sent.account
    );
    Ok(())
}

fn write(path: &PathBuf, rate: Option<u32>, events: impl Iterator<Item = Result<Event>>) -> Result<()> {
    let out: Box<dyn Write> = if path.as_os_str() == "-" {
        Box::new(io::stdout().lock())
    } else {
        Box::new(File::create(path).with_context(|| format!("failed to create {}", path.display()))?)
    };
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let mut pace = Pace::new(rate);
    for (n, event) in (1..).zip(events) {
        writeln!(out, "{}", file::line(&event?)).context("failed to write")?;
        if rate.is_some() && n % pace.n_at_once as u64 == 0 {
            out.flush().context("failed to write")?;
            pace.wait(n);
        }
    }
    out.flush().context("failed to write")
}

/// How many events went, by type.
#[derive(Default)]
struct Sent {
    total: u64,
    commit: u64,
    identity: u64,
    account: u64,
}

impl Sent {
    fn count(&mut self, kind: &str) {
        self.total += 1;
        match kind {
            "commit" => self.commit += 1,
            "identity" => self.identity += 1,
            "account" => self.account += 1,
            _ => {} // a file may hold anything
        }
    }
}

/// Holds events back to a rate, measured from the start, so that a late one is caught up with.
struct Pace {
    start: Instant,
    rate: Option<u32>,
    n_at_once: usize,
}

impl Pace {
    fn new(rate: Option<u32>) -> Self {
        let n_at_once = rate.map_or(N_PIPELINED, |rate| {
            let per_tick = (f64::from(rate) * TICK.as_secs_f64()) as usize;
            per_tick.clamp(1, N_PIPELINED)
        });
        Self {
            start: Instant::now(),
            rate,
            n_at_once,
        }
    }

    fn wait(&mut self, n_done: u64) {
        let Some(rate) = self.rate else { return };
        let due = Duration::from_secs_f64(n_done as f64 / f64::from(rate));
        thread::sleep(due.saturating_sub(self.start.elapsed()));
    }
}
