//! Reports what is wrong with the stream, its group, its workers and its producer.
//!
//! Reports no question that the user may not ask: the rights were checked before.

use std::time::Duration;

use redis::RedisError;

use super::report::{Checked, Report, Unusable};
use super::rights::User;
use crate::figures::gather::Gatherer;
use crate::figures::target::Target;
use crate::figures::text::grouped;
use crate::figures::{Figures, Question, judge};
use crate::redis::link::{self, Redis};
use crate::settings::config::Config;
use crate::settings::consumer_args::DEFAULT_CURSOR;

/// Time between the two samples from which rates are computed.
const SAMPLE: Duration = Duration::from_millis(1500);

pub fn check(redis: &Redis, user: &User, config: &Config, report: &Report) -> Checked {
    report.about("stream");
    let target = Target::of_worker(config, DEFAULT_CURSOR);
    let figures = gather(redis, &target, report).map_err(|error| {
        report.about("stream");
        Unusable::new(format!("{error:#}"), "follow Redis's message")
    })?;
    match figures.length {
        Some(_) => report.find(judge::stream(&figures, &target)),
        None => check_stream(redis, &figures, user, config, report),
    }
    report.find(judge::rest(&figures, &target));
    Ok(())
}

/// The figures, with rates if there is a group.
fn gather(redis: &Redis, target: &Target, report: &Report) -> anyhow::Result<Figures> {
    let mut gatherer = Gatherer::new(redis, target.clone());
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
