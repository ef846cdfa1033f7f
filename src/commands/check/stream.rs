//! The looks at what is in Redis: stream, group, consumers, what is pending, dead or lost, and who reads and writes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::RedisResult;
use redis::streams::StreamInfoConsumer;

use super::{Looked, Report, quoted, rights};
use crate::commands::producer;
use crate::commands::terminal::duration;
use crate::dead_letter::DEAD_LETTERS;
use crate::group::stream_info::{self, StreamInfo};
use crate::group::{holder, mark};
use crate::keys;
use crate::logging::shown;
use crate::losses;
use crate::losses::forecast::{WARN_WITHIN, seconds_left};
use crate::metrics::rates::per_second;
use crate::redis::link::{self, Link};
use crate::settings::config::Config;

/// Between the two looks that rates are taken from.
const SAMPLE: Duration = Duration::from_millis(1500);

/// A standstill of the worker that must not lose anything, in seconds: an upgrade, a restart of a server.
const SHORTEST_HEADROOM: f64 = 120.0;

/// A share of the producer's limit at which to see to the backlog, in percent.
const FULL_PERCENT: u64 = 80;

/// Looks at all of it; what may not be asked was said with the rights.
pub fn look(mut link: Link, config: &Config, report: &Report) -> Looked {
    let link = &mut link;
    report.looking("stream");
    let started_at = Instant::now();
    let first = stream_info::read(link, &config.stream, &config.group);
    match &first {
        Ok(Some(info)) => check_group(info, config, report),
        Ok(None) => check_stream(link, config, report),
        Err(error) if link::code(error) == "WRONGTYPE" => check_stream(link, config, report),
        Err(error) if link::is_refused(error) => {
            let rules = ["+xinfo", "+multi", "+exec"];
            let remedy = rights::remedy(link, config, error, Some(&config.stream), &rules);
            let why = match link::is_unknown(error) {
                true => "redis does not know what it is asked by",
                false => "this user may not ask about it",
            };
            report.warn("stream", format!("nothing is known of it: {why}"), remedy);
        }
        Err(error) => report.fail("stream", link::describe(error), "follow Redis's message"),
    }
    check_dead_letters(link, config, report);
    check_losses(link, config, report);
    check_holder(link, config, report);
    check_producer(link, report);
    if let Ok(Some(first)) = first {
        std::thread::sleep(SAMPLE.saturating_sub(started_at.elapsed()));
        report.looking("trim headroom");
        if let Ok(Some(second)) = stream_info::read(link, &config.stream, &config.group) {
            check_headroom(
                &first,
                &second,
                started_at.elapsed(),
                config.max_stream_len as u64,
                report,
            );
        }
    }
    Ok(())
}

/// There is no group: is there a stream?
fn check_stream(link: &mut Link, config: &Config, report: &Report) {
    let stream = &config.stream;
    let kind = link.query::<String>(redis::cmd("TYPE").arg(stream));
    match kind.as_deref() {
        Ok("none") => report.warn(
            "stream",
            format!("{stream} is not there yet"),
            "start the firehose consumer, or let REDIS_STREAM_KEY name its stream and REDIS_URL its database",
        ),
        Ok("stream") => {
            let length: u64 = link.query(redis::cmd("XLEN").arg(stream)).unwrap_or(0);
            report.ok("stream", format!("{stream} has {length} entries"));
            report.warn(
                "group",
                format!(
                    "{} is not there yet: the worker makes it and reads all {length} entries",
                    config.group
                ),
                "nothing, unless another group is meant: then set REDIS_CONSUMER_GROUP",
            );
        }
        Ok(other) => report.fail(
            "stream",
            format!("the key {stream} holds a {other} and no stream"),
            "let REDIS_STREAM_KEY name the producer's stream",
        ),
        Err(error) => {
            let remedy = rights::remedy(link, config, error, Some(stream), &["+type"]);
            report.warn("stream", format!("whether {stream} is there may not be asked"), remedy);
        }
    }
}

fn check_group(info: &StreamInfo, config: &Config, report: &Report) {
    report.ok("stream", format!("{} has {} entries", config.stream, info.length));
    report.ok("group", config.group.clone());
    check_consumers(info, config, report);
    let limit = config.max_stream_len as u64;
    let unread = info.unread(None);
    if info.has_gap() {
        report.warn(
            "backlog",
            format!("{unread} entries are unread, and others were trimmed before they were read"),
            "start the worker, or find out what it waits for: firehose-worker status",
        );
    } else if unread * 100 > limit * FULL_PERCENT {
        report.warn(
            "backlog",
            format!("{unread} entries are unread, of {limit} that the producer keeps"),
            "start the worker, or find out what it waits for: firehose-worker status",
        );
    } else {
        report.ok("backlog", format!("{unread} entries are unread"));
    }
}

fn check_consumers(info: &StreamInfo, config: &Config, report: &Report) {
    let consumers = &info.group.consumers;
    let pending = info.group.pending;
    let describe = |consumer: &StreamInfoConsumer| {
        let idle = duration(consumer.idle as u64 / 1000);
        format!("{} ({} pending, idle {idle})", consumer.name, consumer.pending)
    };
    let holding: Vec<String> = consumers
        .iter()
        .filter(|consumer| consumer.pending > 0 || consumer.name == config.consumer)
        .map(describe)
        .collect();
    let mut found = format!("{} consumers, {pending} entries pending", consumers.len());
    if !holding.is_empty() {
        found += &format!(": {}", shown::list(&holding));
    }
    let claim_idle = config.claim_idle.as_millis() as u64;
    let is_left = consumers
        .iter()
        .any(|consumer| consumer.pending > 0 && consumer.idle as u64 > claim_idle);
    match is_left {
        true => report.warn(
            "pending",
            found,
            format!(
                "a running worker takes over what a consumer has left for {} s (CLAIM_IDLE_MS): see that one runs",
                claim_idle / 1000
            ),
        ),
        false => report.ok("pending", found),
    }
}

fn check_dead_letters(link: &mut Link, config: &Config, report: &Report) {
    let what = "dead letters";
    report.looking(what);
    let Ok(number) = link.query::<u64>(redis::cmd("XLEN").arg(DEAD_LETTERS)) else {
        return;
    };
    let limit = config.dead_letter_maxlen as u64;
    let found = format!("{number} of about {limit} that are kept");
    if losses::dead_letters_are_many(number, limit) {
        report.warn(
            what,
            format!("{found}: beyond that the oldest go"),
            format!(
                "see firehose-worker dead-letters list, then replay or drop them; or set REDIS_DEAD_LETTER_MAXLEN={}",
                2 * number.max(limit)
            ),
        );
    } else if number > 0 {
        report.hint(what, found, "firehose-worker dead-letters list shows them");
    } else {
        report.ok(what, "none");
    }
}

fn check_losses(link: &mut Link, config: &Config, report: &Report) {
    let answer: RedisResult<HashMap<String, String>> = link.query(redis::cmd("HGETALL").arg(keys::losses(config)));
    let Ok(losses) = answer else { return };
    let number = |field: &str| losses.get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let (unread, pending) = (number("unread_trimmed"), number("pending_trimmed"));
    match unread + pending {
        0 => report.ok("losses", "none counted"),
        _ => report.warn(
            "losses",
            format!("{unread} entries were trimmed before they were read, {pending} before they were applied"),
            format!(
                "raise the producer's limit of entries, or make the worker faster; to forget them: redis-cli DEL {}",
                quoted(&keys::losses(config))
            ),
        ),
    }
}

fn check_holder(link: &mut Link, config: &Config, report: &Report) {
    report.looking("worker");
    let key = holder::key(config, &config.consumer);
    match link.query::<Option<String>>(redis::cmd("GET").arg(key)) {
        Ok(Some(mark)) => report.ok(
            "worker",
            format!("{} runs as {}", mark::process(&mark), config.consumer),
        ),
        Ok(None) => report.warn(
            "worker",
            format!("none runs as {}", config.consumer),
            "systemctl start firehose-worker, once nothing here fails",
        ),
        Err(_) => {}
    }
}

fn check_producer(link: &mut Link, report: &Report) {
    let what = "producer";
    let Ok(producer) = producer::ask(link) else {
        return;
    };
    match producer {
        None => report.warn(what, "none has reported recently", "start the firehose consumer"),
        Some(Ok(producer)) if producer.connected => {
            let cursor = producer.current_cursor.as_deref().unwrap_or("none yet");
            report.ok(what, format!("connected to the firehose, cursor {cursor}"));
        }
        Some(Ok(_)) => report.warn(
            what,
            "it lives, and is not connected to the firehose",
            "see its log, and whether the relay can be reached",
        ),
        Some(Err(error)) => report.warn(
            what,
            format!("{} is not what a firehose consumer writes: {error}", producer::KEY),
            "see what writes it",
        ),
    }
}

fn check_headroom(first: &StreamInfo, second: &StreamInfo, time: Duration, limit: u64, report: &Report) {
    let what = "trim headroom";
    let (Some(before), Some(after)) = (first.added, second.added) else {
        return;
    };
    let unread = second.unread(None);
    let added = per_second(after.saturating_sub(before) as f64, time);
    let growth = per_second(unread as f64 - first.unread(None) as f64, time);
    let Some(standstill) = seconds_left(limit, unread, added) else {
        report.ok(what, format!("nothing was added for {:.1} s", time.as_secs_f64()));
        return;
    };
    let mut found = format!(
        "{added:.0} entries/s are added: a standstill of {} loses none",
        duration(standstill as u64)
    );
    // Within so short a time a burst looks like a trend: only one that would be over soon is worth a word.
    let left = seconds_left(limit, unread, growth).filter(|_| growth > added / 10.0);
    if let Some(left) = left.filter(|left| *left < WARN_WITHIN.as_secs_f64()) {
        found += &format!("; the backlog grows by {growth:.0}/s, which leaves {left:.0} s");
        report.warn(
            what,
            found,
            "see why the worker is slower than the producer: firehose-worker status",
        );
    } else if standstill < SHORTEST_HEADROOM {
        report.warn(what, found, {
            let enough = unread + (added * SHORTEST_HEADROOM * 1.5) as u64 + 1;
            format!("raise the producer's limit of {limit} entries to {enough}, and set REDIS_MAX_STREAM_LEN={enough}")
        });
    } else {
        report.ok(what, found);
    }
}
