//! A relay for the demo, for benchmarks, and for trying things out by hand: serves made-up or recorded events on
//! 127.0.0.1, to any number of subscribers, from any cursor.
//!
//! `cargo run --release --features relay --bin relay -- --events 60000 --rate 2000` prints the address for RELAY_URL, and
//! how many entries a consumer makes of the events.

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "generator/mod.rs"]
mod generator;
#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "relay/mod.rs"]
mod relay;

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use generator::Events;
use relay::{Conduct, Message, Relay, frames, tls};

/// At a limited rate, events that are due are appended this often. At most so much is added to an event's latency.
const TICK: Duration = Duration::from_millis(1);

/// Serves AT Protocol events as a relay does, at com.atproto.sync.subscribeRepos
#[derive(Parser)]
#[command(name = "relay")]
struct Options {
    /// How many events to serve
    #[arg(long, default_value_t = 60_000)]
    events: u64,
    /// The same seed gives the same made-up events, but for their times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Serve the frames of a file (a u32, little endian, with the length before each; plain or .gz) instead of made-up
    /// ones, over and over
    #[arg(long)]
    file: Option<PathBuf>,
    /// Events per second, once there is a subscriber [default: all are there from the start]
    #[arg(long)]
    rate: Option<u32>,
    /// The first event's seq
    #[arg(long, default_value_t = 20_000_000_001)]
    first_seq: u64,
    /// Port of 127.0.0.1 [default: any free one]
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Which relay's rules cursors have
    #[arg(long, value_enum, default_value_t = Rules::Pds)]
    rules: Rules,
    /// Write `seq microseconds-since-1970` to this file when an event becomes available
    #[arg(long, value_name = "FILE")]
    times: Option<PathBuf>,
    /// Write the entries that a consumer makes of the events to this file, as lines {"type","data","seq"}
    #[arg(long, value_name = "FILE")]
    entries: Option<PathBuf>,
    /// Serve wss with the certificate in this PEM file
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The certificate's key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rules {
    /// Begins after the cursor, and reports one in the future or before the oldest event
    Pds,
    /// Begins after the cursor, and reports nothing
    Indigo,
    /// Begins with the cursor, and reports nothing
    Rainbow,
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.rate != Some(0), "--rate has to be above 0");
    let messages = messages(&options)?;
    if let Some(path) = &options.entries {
        write_entries(path, &options, &messages).with_context(|| format!("failed to write {}", path.display()))?;
    }
    let tls = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => Some(tls(certificate, key)),
        _ => None,
    };
    let conduct = match options.rules {
        Rules::Pds => Conduct::pds(),
        Rules::Indigo => Conduct::indigo(),
        Rules::Rainbow => Conduct::rainbow(),
    };
    let relay = Relay::on_port(options.port, options.first_seq, conduct, tls);
    println!("{}", relay.url());
    println!("{}", Served::of(&options, &messages));
    match options.rate {
        None => relay.append_all(served(&options, &messages).map(|(_, message)| message)),
        Some(rate) => serve_at(rate, &relay, &options, &messages)?,
    }
    // Its threads serve until the process is killed.
    loop {
        thread::park();
    }
}

fn messages(options: &Options) -> Result<Vec<Arc<Message>>> {
    if let Some(path) = &options.file {
        let messages = frames::read(path).with_context(|| format!("failed to read {}", path.display()))?;
        ensure!(!messages.is_empty(), "{} has no frame with a seq", path.display());
        return Ok(messages.into_iter().map(Arc::new).collect());
    }
    let events = Events::new(options.seed, options.events);
    Ok(events
        .map(|event| Arc::new(frames::Frame::of(&event).message()))
        .collect())
}

/// All events that are served, with their seqs.
fn served<'a>(options: &Options, messages: &'a [Arc<Message>]) -> impl Iterator<Item = (u64, Arc<Message>)> + use<'a> {
    let messages = messages.iter().cycle().cloned();
    (options.first_seq..options.first_seq + options.events).zip(messages)
}

/// How many events are served, and what a consumer makes of them.
#[derive(Default)]
struct Served {
    events: u64,
    commit: u64,
    identity: u64,
    account: u64,
    /// Events that make no entry, such as commits without ops.
    none: u64,
}

impl Served {
    fn of(options: &Options, messages: &[Arc<Message>]) -> Served {
        let mut counts = Served::default();
        for (_, message) in served(options, messages) {
            counts.events += 1;
            match message.entry_type() {
                Some("commit") => counts.commit += 1,
                Some("identity") => counts.identity += 1,
                Some("account") => counts.account += 1,
                _ => counts.none += 1,
            }
        }
        counts
    }
}

impl Display for Served {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Served {
            events,
            commit,
            identity,
            account,
            none,
        } = self;
        write!(
            out,
            "serves {events} commit={commit} identity={identity} account={account} none={none}"
        )
    }
}

/// Appends the events at the rate, measured from the first subscriber's request, so that a late one is caught up with.
fn serve_at(rate: u32, relay: &Relay, options: &Options, messages: &[Arc<Message>]) -> Result<()> {
    let mut times = options
        .times
        .as_ref()
        .map(|path| File::create(path).map(BufWriter::new))
        .transpose()
        .context("failed to create the file of times")?;
    while relay.n_subscribers() == 0 {
        thread::sleep(TICK);
    }
    let start = Instant::now();
    for (n, (seq, message)) in (0_u32..).zip(served(options, messages)) {
        let due = Duration::from_secs_f64(f64::from(n) / f64::from(rate));
        while start.elapsed() < due {
            flush(&mut times)?;
            thread::sleep(TICK.min(due.saturating_sub(start.elapsed())));
        }
        if let Some(times) = &mut times {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            writeln!(times, "{seq} {}", now.as_micros())?;
        }
        relay.append(message);
    }
    flush(&mut times)?;
    Ok(())
}

fn flush(times: &mut Option<BufWriter<File>>) -> io::Result<()> {
    times.as_mut().map_or(Ok(()), BufWriter::flush)
}

fn write_entries(path: &PathBuf, options: &Options, messages: &[Arc<Message>]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for (seq, message) in served(options, messages) {
        if let Some(entry) = message.entry(seq) {
            writeln!(out, "{}", generator::file::line(&entry))?;
        }
    }
    out.flush()
}
