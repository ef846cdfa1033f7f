//! Judges the figures of the stream, its group and its workers.
//!
//! Reports no question that the user may not ask: the rights were checked before.

use std::time::Duration;

use redis::RedisError;

use super::quoted;
use super::report::{Checked, Report, Unusable};
use super::rights::User;
use crate::commands::figures::{Figures, Gatherer, Question, Worker, grouped, list};
use crate::consumer::peers::STATUS;
use crate::keys;
use crate::logging::shown;
use crate::losses;
use crate::losses::forecast::{WARN_WITHIN, seconds_left};
use crate::redis::link::{self, Redis};
use crate::settings::config::Config;
use crate::settings::consumer_args::DEFAULT_CURSOR;

/// Time between the two samples from which rates are computed.
const SAMPLE: Duration = Duration::from_millis(1500);

/// A standstill of the worker that must not lose entries, in seconds: an upgrade, or a restart of a server.
const SHORTEST_HEADROOM: f64 = 120.0;

/// Share of the producer's limit from which the backlog needs attention, in percent.
const FULL_PERCENT: u64 = 80;

const BEHIND: &str = "start the worker, or find out what it waits for: firehose-worker status";

pub fn check(redis: &Redis, user: &User, config: &Config, report: &Report) -> Checked {
    report.about("stream");
    let figures = gather(redis, config, report).map_err(|error| {
        report.about("stream");
        Unusable::new(format!("{error:#}"), "follow Redis's message")
    })?;
    match figures.length {
        Some(length) => {
            report.about("stream");
            report.ok(format!("{} has {} entries", config.stream, grouped(length)));
            report.about("group");
            report.ok(&config.group);
            check_pending(&figures, config, report);
            check_backlog(&figures, config, report);
        }
        None => check_stream(redis, &figures, user, config, report),
    }
    check_dead_letters(&figures, report);
    check_losses(&figures, config, report);
    check_worker(&figures, config, report);
    check_producer(&figures, report);
    check_headroom(&figures, config, report);
    Ok(())
}

/// The figures, with rates if there is a group.
fn gather(redis: &Redis, config: &Config, report: &Report) -> anyhow::Result<Figures> {
    let mut gatherer = Gatherer::new(redis, config, DEFAULT_CURSOR);
    let figures = gatherer.gather()?;
    if figures.length.is_none() {
        return Ok(figures);
    }
    std::thread::sleep(SAMPLE);
    report.about("trim headroom");
    gatherer.gather()
}

/// Without figures: whether there is a stream, but no group.
fn check_stream(redis: &Redis, figures: &Figures, user: &User, config: &Config, report: &Report) {
    let stream = &config.stream;
    let denied = |found: &str, error: &RedisError, rules: &[&str]| {
        let why = match link::is_unknown(error) {
            true => "Redis does not know the command",
            false => "this user may not ask",
        };
        report.warn(
            format!("{found} is unknown: {why}"),
            user.remedy(error, Some(stream), rules),
        );
    };
    if let Some(error) = figures.refusals.get(&Question::Stream)
        && link::is_refused(error)
    {
        return denied("its state", error, &["+xinfo", "+multi", "+exec"]);
    }
    let mut link = redis.link(Duration::ZERO);
    let kind = link.query::<String>(redis::cmd("TYPE").arg(stream));
    match kind.as_deref() {
        Ok("none") => report.warn(
            format!("{stream} does not exist yet"),
            "start the firehose consumer, or let REDIS_STREAM_KEY name its stream and REDIS_URL its database",
        ),
        Ok("stream") => {
            let length: u64 = link.query(redis::cmd("XLEN").arg(stream)).unwrap_or(0);
            report.ok(format!("{stream} has {} entries", grouped(length)));
            report.about("group");
            report.warn(
                format!(
                    "{} does not exist yet; the worker creates it and reads all {length} entries",
                    config.group
                ),
                "nothing, unless you mean another group: then set REDIS_CONSUMER_GROUP",
            );
        }
        Ok(other) => report.fail(
            format!("the key {stream} holds a {other} instead of a stream"),
            "let REDIS_STREAM_KEY name the producer's stream",
        ),
        Err(error) => denied("whether it exists", error, &["+type"]),
    }
}

fn check_pending(figures: &Figures, config: &Config, report: &Report) {
    report.about("pending");
    let claim_idle_ms = config.claim_idle.as_millis() as u64;
    let consumers = || figures.workers.iter().filter(|worker| worker.idle_ms.is_some());
    let describe = |worker: &Worker| Some(format!("{}: {}", worker.consumer, worker.describe_consumer()?));
    let described: Vec<String> = consumers().filter_map(describe).collect();
    let mut found = format!("{} entries pending", grouped(figures.pending.unwrap_or(0)));
    if !described.is_empty() {
        found += &format!(" ({})", shown::list(&described));
    }
    match consumers().any(|worker| worker.pending > 0 && worker.idle_ms > Some(claim_idle_ms)) {
        true => report.warn(
            found,
            format!(
                "make sure that a worker runs: it takes over what a consumer has left for {} s (CLAIM_IDLE_MS)",
                claim_idle_ms / 1000
            ),
        ),
        false => report.ok(found),
    }
}

fn check_backlog(figures: &Figures, config: &Config, report: &Report) {
    report.about("backlog");
    let found = figures.describe_backlog();
    let limit = config.max_stream_len as u64;
    if figures.has_gap {
        report.warn(
            format!("{found}; other entries were trimmed before they were read"),
            BEHIND,
        );
    } else if figures.backlog.unwrap_or(0) * 100 > limit * FULL_PERCENT {
        report.warn(
            format!("{found}; the producer keeps {} entries", grouped(limit)),
            BEHIND,
        );
    } else {
        report.ok(found);
    }
}

fn check_dead_letters(figures: &Figures, report: &Report) {
    let Some(number) = figures.dead_letters else { return };
    report.about("dead letters");
    let found = figures.describe_dead_letters();
    let limit = figures.dead_letter_limit;
    if losses::dead_letters_are_many(number, limit) {
        report.warn(
            format!("{found}; beyond that, the oldest are deleted"),
            format!(
                "see firehose-worker dead-letters list, then replay or drop them; or set REDIS_DEAD_LETTER_MAXLEN={}",
                2 * number.max(limit)
            ),
        );
    } else if number > 0 {
        report.hint(found, "firehose-worker dead-letters list shows them");
    } else {
        report.ok(found);
    }
}

fn check_losses(figures: &Figures, config: &Config, report: &Report) {
    if figures.refusals.contains_key(&Question::Losses) {
        return;
    }
    report.about("losses");
    let found = list(&figures.losses);
    match figures
        .losses
        .iter()
        .any(|(name, number)| name.ends_with("_trimmed") && *number > 0)
    {
        false => report.ok(found),
        true => report.warn(
            format!("entries were trimmed before they were applied: {found}"),
            format!(
                "raise the producer's limit of entries, or make the worker faster; to forget them: redis-cli DEL {}",
                quoted(&keys::losses(config))
            ),
        ),
    }
}

fn check_worker(figures: &Figures, config: &Config, report: &Report) {
    if figures.refusals.contains_key(&Question::Holder) {
        return;
    }
    report.about("worker");
    let own = figures.workers.iter().find(|worker| worker.consumer == config.consumer);
    match own.and_then(|worker| worker.held_by.as_deref()) {
        Some(process) => report.ok(format!("{process} runs as {}", config.consumer)),
        None => report.warn(
            format!("no process runs as {}", config.consumer),
            "systemctl start firehose-worker, once nothing here fails",
        ),
    }
}

fn check_producer(figures: &Figures, report: &Report) {
    if figures.refusals.contains_key(&Question::Producer) {
        return;
    }
    report.about("producer");
    if let Some(fault) = &figures.producer_fault {
        let found = format!("{STATUS} is not what a firehose consumer writes: {fault}");
        return report.warn(found, "find out what writes it");
    }
    let found = figures.describe_producer();
    match &figures.producer {
        None => report.warn(found, "start the firehose consumer"),
        Some(producer) if producer.connected => report.ok(found),
        Some(_) => report.warn(found, "see its log, and whether it can reach the relay"),
    }
}

fn check_headroom(figures: &Figures, config: &Config, report: &Report) {
    let (Some(backlog), Some(added)) = (figures.backlog, figures.added_per_second) else {
        return;
    };
    report.about("trim headroom");
    let limit = config.max_stream_len as u64;
    let found = figures.describe_headroom();
    // Over so short a time a burst looks like a trend: only a backlog that reaches the limit soon is worth a warning.
    let growth = figures
        .backlog_growth
        .filter(|growth| *growth > added / 10.0)
        .unwrap_or(0.0);
    let left = seconds_left(limit, backlog, growth).filter(|left| *left < WARN_WITHIN.as_secs_f64());
    if let Some(left) = left {
        report.warn(
            format!("{found}; the backlog grows by {growth:.0}/s, which leaves {left:.0} s"),
            "find out why the worker is slower than the producer: firehose-worker status",
        );
    } else if figures
        .trim_headroom_seconds
        .is_some_and(|seconds| seconds < SHORTEST_HEADROOM)
    {
        let enough = backlog + (added * SHORTEST_HEADROOM * 1.5) as u64 + 1;
        report.warn(
            found,
            format!("raise the producer's limit of {limit} entries to {enough}, and set REDIS_MAX_STREAM_LEN={enough}"),
        );
    } else {
        report.ok(found);
    }
}
