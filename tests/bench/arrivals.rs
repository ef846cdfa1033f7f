//! Measures how long a relay's events take to become entries, or to be acknowledged by the worker's group.
//!
//! For `tests/bench.sh --consumer`: the relay notes in a file when it sends each event, this program when its entry is
//! there. Prints how many entries came, how many of them again, and milliseconds.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use redis::streams::{StreamInfoGroupsReply, StreamReadOptions, StreamReadReply};
use redis::{Commands, Connection};

/// How often the acknowledgement is polled, and so how much a result may be too long.
const POLL_INTERVAL: Duration = Duration::from_micros(100);

/// Measures how long a relay's events take
#[derive(Parser)]
#[command(name = "arrivals")]
struct Options {
    /// The Redis of the stream
    #[arg(long, value_name = "URL")]
    redis: String,
    /// The stream
    #[arg(long, default_value = "firehose:events")]
    key: String,
    /// The file of the relay with lines `seq microseconds-since-1970`, read when all entries are there
    #[arg(long, value_name = "FILE")]
    times: PathBuf,
    /// How many entries to wait for
    #[arg(long)]
    entries: usize,
    /// Leave so many entries at the start out of the latency: connections, plans and caches are cold for them
    #[arg(long, default_value_t = 0)]
    warm_up: usize,
    /// Stop when no entry has come for so many seconds
    #[arg(long, default_value_t = 15)]
    patience: usize,
    /// Wait until this group has acknowledged each entry, instead of only until it is there
    #[arg(long)]
    group: Option<String>,
}

/// An entry: the seq of its event, and when it was there, in microseconds since 1970.
type Arrival = (u64, u128);

fn main() -> Result<()> {
    let options = Options::parse();
    let client = redis::Client::open(options.redis.as_str()).context("failed to read the Redis URL")?;
    let mut connection = client.get_connection().context("failed to connect to Redis")?;
    let arrivals = arrivals(&mut connection, &options)?;
    let sent = sent(&options)?;
    let distinct: HashSet<u64> = arrivals.iter().map(|(seq, _)| *seq).collect();
    let since_sent = |(seq, at): &Arrival| Some(at.saturating_sub(*sent.get(seq)?));
    let mut latencies: Vec<u128> = arrivals.iter().skip(options.warm_up).filter_map(since_sent).collect();
    ensure!(
        !latencies.is_empty(),
        "no entry has come of an event that the relay has sent"
    );
    latencies.sort_unstable();
    println!(
        "entries {} doubled {} median {:.2} p99 {:.2}",
        distinct.len(),
        arrivals.len() - distinct.len(),
        millis(&latencies, 50),
        millis(&latencies, 99)
    );
    Ok(())
}

fn arrivals(connection: &mut Connection, options: &Options) -> Result<Vec<Arrival>> {
    let reading = StreamReadOptions::default().block(options.patience * 1000).count(1000);
    let mut arrivals = Vec::with_capacity(options.entries);
    let mut last_id = "0-0".to_owned();
    while arrivals.len() < options.entries {
        let reply: Option<StreamReadReply> = connection
            .xread_options(&[&options.key], &[&last_id], &reading)
            .context("failed to read the stream")?;
        let Some(stream) = reply.and_then(|mut reply| reply.keys.pop()) else {
            break;
        };
        for entry in stream.ids {
            if let Some(group) = &options.group {
                wait_until_acknowledged(connection, &options.key, group, &entry.id)?;
            }
            let seq: Option<u64> = entry.get("seq");
            arrivals.push((seq.context("an entry has no seq")?, now()?));
            last_id = entry.id;
        }
    }
    Ok(arrivals)
}

/// Until the entry is delivered and nothing is pending.
fn wait_until_acknowledged(connection: &mut Connection, key: &str, group: &str, id: &str) -> Result<()> {
    loop {
        let reply: StreamInfoGroupsReply = connection.xinfo_groups(key).context("failed to ask for the group")?;
        let of_name = reply.groups.iter().find(|each| each.name == group);
        if of_name.is_some_and(|group| group.pending == 0 && place(&group.last_delivered_id) >= place(id)) {
            return Ok(());
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// An ID in a form that can be compared.
fn place(id: &str) -> Option<(u64, u64)> {
    let (millis, number) = id.split_once('-')?;
    Some((millis.parse().ok()?, number.parse().ok()?))
}

/// When the relay has sent each event, by its seq.
fn sent(options: &Options) -> Result<HashMap<u64, u128>> {
    let text = std::fs::read_to_string(&options.times).context("failed to read the file of times")?;
    let line = |line: &str| {
        let (seq, micros) = line.split_once(' ')?;
        Some((seq.parse().ok()?, micros.parse().ok()?))
    };
    // The relay may be writing the last line.
    Ok(text.lines().filter_map(line).collect())
}

fn now() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())
}

fn millis(sorted: &[u128], percentile: usize) -> f64 {
    let rank = (sorted.len() * percentile).div_ceil(100).max(1);
    sorted[rank - 1] as f64 / 1000.0
}
