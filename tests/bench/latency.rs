//! Measures how long a single entry takes in an idle system: from XADD until it is acknowledged. Between the entries it
//! measures what a commit takes on the same server, which no worker can save.
//!
//! For `tests/bench.sh`: a worker is running on the stream, and nobody else adds to it. Prints milliseconds.

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../generator/mod.rs"]
mod generator;

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use postgres::{Client, NoTls};
use redis::{Connection, Value};

use generator::{Event, Events};

/// Entries that go ahead uncounted: connections, plans and caches are cold for them.
const N_WARM_UP: usize = 20;

/// How often the acknowledgement is polled, and so how much a result may be too long.
const LOOK: Duration = Duration::from_micros(100);

const MAX_WAIT: Duration = Duration::from_secs(30);

/// Measures how long a single entry takes in an idle system
#[derive(Parser)]
#[command(name = "latency")]
struct Options {
    /// The Redis of the stream
    #[arg(long, value_name = "URL")]
    redis: String,
    /// The PostgreSQL that the worker writes to
    #[arg(long, value_name = "URL")]
    postgres: String,
    /// The stream to append to
    #[arg(long, default_value = "firehose:events")]
    key: String,
    /// The group whose acknowledgement is waited for
    #[arg(long, default_value = "firehose-processors")]
    group: String,
    /// How many entries to measure
    #[arg(long, default_value_t = 300)]
    entries: usize,
    /// Seed of the made-up entries
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.entries > 0, "--entries has to be above 0");
    let client = redis::Client::open(options.redis.as_str()).context("failed to read the Redis URL")?;
    let mut connection = client.get_connection().context("failed to connect to Redis")?;
    let mut postgres = Client::connect(&options.postgres, NoTls).context("failed to connect to PostgreSQL")?;
    postgres.batch_execute("CREATE TABLE commits (n integer)")?;
    let n_sent = N_WARM_UP + options.entries;
    let mut times = Vec::with_capacity(n_sent);
    let mut commits = Vec::with_capacity(n_sent);
    // About a third of the events will do.
    for event in Events::new(options.seed, 10 * n_sent as u64)
        .filter(is_single)
        .take(n_sent)
    {
        pause();
        commits.push(time_commit(&mut postgres)?);
        pause();
        times.push(time_one(&mut connection, &options, &event)?);
    }
    ensure!(
        times.len() == n_sent,
        "too few of the made-up events are likes and posts"
    );
    let [times, commits] = [times, commits].map(|times| sorted(&times[N_WARM_UP..]));
    println!(
        "median {:.2} p99 {:.2} commit {:.2}",
        millis(&times, 50),
        millis(&times, 99),
        millis(&commits, 50)
    );
    Ok(())
}

/// Uneven, to be in step with nothing.
fn pause() {
    thread::sleep(Duration::from_micros(fastrand::u64(10_000..20_000)));
}

/// How long the COMMIT of one row takes.
fn time_commit(client: &mut Client) -> Result<Duration> {
    client.batch_execute("BEGIN; INSERT INTO commits VALUES (1)")?;
    let start = Instant::now();
    client.batch_execute("COMMIT")?;
    Ok(start.elapsed())
}

fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

/// A new like or post and nothing else.
fn is_single(event: &Event) -> bool {
    event.data.matches(r#""path":"#).count() == 1
        && event.data.contains(r#""action":"create""#)
        && [r#""path":"app.bsky.feed.like/"#, r#""path":"app.bsky.feed.post/"#]
            .iter()
            .any(|path| event.data.contains(path))
}

fn time_one(connection: &mut Connection, options: &Options, event: &Event) -> Result<Duration> {
    let start = Instant::now();
    let id: String = redis::cmd("XADD")
        .arg(&options.key)
        .arg("*")
        .arg("type")
        .arg(&event.kind)
        .arg("data")
        .arg(&event.data)
        .arg("seq")
        .arg(&event.seq)
        .query(connection)
        .context("failed to send")?;
    while !is_acknowledged(connection, options, &id)? {
        if start.elapsed() > MAX_WAIT {
            bail!("entry {id} is not acknowledged after {} s", MAX_WAIT.as_secs());
        }
        thread::sleep(LOOK);
    }
    Ok(start.elapsed())
}

/// Whether the entry, the stream's last, is read and nothing is pending.
fn is_acknowledged(connection: &mut Connection, options: &Options, id: &str) -> Result<bool> {
    let groups: Vec<HashMap<String, Value>> = redis::cmd("XINFO")
        .arg("GROUPS")
        .arg(&options.key)
        .query(connection)
        .context("failed to look at the group")?;
    let is_text =
        |value: Option<&Value>, text: &str| matches!(value, Some(Value::BulkString(bytes)) if bytes == text.as_bytes());
    let group = groups.iter().find(|group| is_text(group.get("name"), &options.group));
    Ok(group.is_some_and(|group| {
        is_text(group.get("last-delivered-id"), id) && group.get("pending") == Some(&Value::Int(0))
    }))
}

fn millis(sorted: &[Duration], percentile: usize) -> f64 {
    let rank = (sorted.len() * percentile).div_ceil(100).max(1);
    sorted[rank - 1].as_secs_f64() * 1000.0
}
