//! Checks the consumer: its settings, its rights, what Redis knows of it, and the relays.
//!
//! Owns whether there is one to check. Where none is certain to be in use, nothing fails: the worker can run.

use std::time::Duration;

use redis::{RedisError, RedisResult};

use super::report::Report;
use super::rights::{self, User};
use super::{cursor, relay, settings};
use crate::consumer::peers::STILL;
use crate::consumer::position::{self, Keys, Remembered, Unusable};
use crate::figures::finding::Level;
use crate::figures::producer::{Producer, STATUS, is_foreign};
use crate::lease::mark;
use crate::logging::shown::one_line;
use crate::redis::link::{self, Link, Redis};
use crate::settings::config::Config;
use crate::settings::consumer::ConsumerConfig;
use crate::settings::known_consumer::{Evidence, KnownConsumer};

/// What Redis knows of the consumer. `None` where this user may not ask.
struct Seen {
    remembered: Option<Result<Remembered, Unusable>>,
    holder: Option<String>,
    status: Option<Vec<u8>>,
}

/// Checks the consumer if these settings show one, or Redis does.
pub fn check(known: Option<KnownConsumer>, worker: &Config, report: &Report) {
    report.about("consumer");
    let Some(known) = known else {
        return report
            .ok("none of its settings is set here: the stream is filled from elsewhere, or by another program");
    };
    limit(known.evidence, report);
    let config = match ConsumerConfig::new(&known.settings) {
        Ok(config) => config,
        Err(faults) => {
            for fault in faults.0 {
                report.fail(fault, "correct the setting: until then, the consumer does not start");
            }
            return;
        }
    };
    let redis = Redis::new(config.redis.clone());
    let mut link = redis.link(Duration::ZERO);
    let seen = look(&mut link, &Keys::new(&config));
    let has_traces = seen.as_ref().is_ok_and(Seen::has_traces);
    let evidence = if has_traces { Evidence::Own } else { known.evidence };
    if evidence == Evidence::Nothing {
        return report.ok("not in use: none of its settings is set, and Redis has no trace of it");
    }
    limit(evidence, report);
    settings::check_exports(report, &known.file);
    check_config(&config, worker, report);
    match &seen {
        Ok(seen) => {
            check_rights(&mut link, &config, report);
            check_producers(seen, &config, report);
        }
        Err(error) => {
            report.about("consumer");
            report.fail(
                format!("redis {}: {}", config.redis, link::describe(error)),
                "start Redis, or correct the consumer's REDIS_URL",
            );
        }
    }
    // The position was read before, so that the relay's newest event cannot be older than it.
    let newest = relay::check(&config.relays, report);
    match seen.map(|seen| seen.remembered) {
        Ok(Some(Ok(remembered))) => cursor::check(&remembered, &config, newest, report),
        Ok(Some(Err(unusable))) => {
            report.about("cursor");
            report.fail(unusable.found, unusable.remedy);
        }
        Ok(None) | Err(_) => {}
    }
}

/// What fails is a warning where the settings may be meant for another producer.
fn limit(evidence: Evidence, report: &Report) {
    report.limit(match evidence {
        Evidence::Own => Level::Fail,
        Evidence::Shared | Evidence::Nothing => Level::Warn,
    });
}

fn look(link: &mut Link, keys: &Keys) -> RedisResult<Seen> {
    let remembered = unless_refused(position::read(link, keys))?;
    let holder = unless_refused(link.query(redis::cmd("GET").arg(&keys.holder)))?;
    let status = unless_refused(link.query(redis::cmd("GET").arg(STATUS)))?;
    Ok(Seen {
        remembered,
        holder: holder.flatten(),
        status: status.flatten(),
    })
}

fn unless_refused<T>(answer: RedisResult<T>) -> RedisResult<Option<T>> {
    let is_no_answer = |error: &RedisError| link::is_refused(error) || link::code(error) == "WRONGTYPE";
    match answer {
        Err(error) if is_no_answer(&error) => Ok(None),
        answer => answer.map(Some),
    }
}

impl Seen {
    /// Whether a consumer of this program runs, or has run.
    fn has_traces(&self) -> bool {
        let has_state = matches!(&self.remembered, Some(Ok(remembered)) if remembered.relay.is_some());
        has_state || self.holder.is_some() || self.status.as_deref().is_some_and(|status| !is_foreign(status))
    }
}

/// What the consumer runs with, and whether the worker agrees.
fn check_config(config: &ConsumerConfig, worker: &Config, report: &Report) {
    report.about("consumer");
    let relays: Vec<String> = config.relays.iter().map(ToString::to_string).collect();
    report.ok(format!(
        "{} to {} of redis {}, user {}; cursor {}",
        relays.join(", "),
        config.stream,
        config.redis,
        config.redis.user(),
        config.cursor_key
    ));
    for warning in &config.warnings {
        report.warn(warning, "correct or remove the setting");
    }
    if config.stream != worker.stream {
        report.warn(
            format!(
                "it appends to {}, and the worker reads {}",
                config.stream, worker.stream
            ),
            "set REDIS_STREAM_KEY alike for both",
        );
    }
    if config.group != worker.group {
        report.warn(
            format!(
                "it pauses for the backlog of the group {}, and the worker reads in {}: what that has not read may be trimmed",
                config.group, worker.group
            ),
            "set REDIS_CONSUMER_GROUP alike for both",
        );
    }
    if config.max_stream_len != worker.max_stream_len as u64 {
        report.warn(
            format!(
                "it keeps {} entries, and the worker warns as if it kept {}",
                config.max_stream_len, worker.max_stream_len
            ),
            "set REDIS_MAX_STREAM_LEN alike for both",
        );
    }
}

fn check_rights(link: &mut Link, config: &ConsumerConfig, report: &Report) {
    report.about("consumer rights");
    let commands = rights::consumer::commands(config);
    let user = User::of(link, &config.redis, &commands);
    rights::check(link, &user, "consumer", &commands, report);
}

fn check_producers(seen: &Seen, config: &ConsumerConfig, report: &Report) {
    report.about("consumer");
    let foreign = seen.status.as_deref().filter(|status| is_foreign(status));
    if let Some(status) = foreign {
        let url = serde_json::from_slice::<Producer>(status)
            .ok()
            .and_then(|producer| producer.url);
        let other = format!(
            "another program's producer runs, for {}",
            one_line(url.as_deref().unwrap_or("a relay"))
        );
        match config.is_beside_others {
            true => report.warn(
                format!("{other}: FIREHOSE_BESIDE_OTHERS lets the consumer append beside it, each event a second time"),
                "stop the other producer",
            ),
            false => report.warn(
                format!(
                    "{other}: the consumer stands by until {} s after its last sign of life",
                    STILL.as_secs()
                ),
                "start the consumer, then stop the other producer",
            ),
        }
    }
    match &seen.holder {
        Some(holder) => report.ok(format!(
            "{} holds the cursor {}",
            mark::process(holder),
            config.cursor_key
        )),
        None if foreign.is_none() => report.warn(
            format!("no process holds the cursor {}", config.cursor_key),
            "systemctl start firehose-consumer, once nothing here fails",
        ),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::commands::check::report::Event;
    use crate::settings::cli::{Cli, Command};

    /// The warnings about a consumer with these settings, beside a worker with the defaults.
    fn warnings(arguments: &[&str]) -> Vec<String> {
        let parse = |arguments: &[&str]| Cli::parse_from([&["firehose-worker"], arguments].concat());
        let worker = Config::new(&parse(&[]).settings)
            .map_err(|faults| faults.to_string())
            .unwrap();
        let Some(Command::Consume(settings)) = parse(&[&["consume"], arguments].concat()).command else {
            panic!("another command");
        };
        let consumer = ConsumerConfig::new(&settings)
            .map_err(|faults| faults.to_string())
            .unwrap();
        let (report, events) = Report::new("test");
        check_config(&consumer, &worker, &report);
        let warning = |event| match event {
            Event::Found(finding) if finding.level == Level::Warn => {
                Some(format!("{} {}", finding.found, finding.remedy))
            }
            _ => None,
        };
        events.try_iter().filter_map(warning).collect()
    }

    #[test]
    fn settings_that_worker_and_consumer_must_have_alike_are_compared() {
        assert_eq!(warnings(&[]), [""; 0]);
        for (argument, words) in [
            (
                "--redis-stream-key=other",
                ["appends to other", "REDIS_STREAM_KEY alike"],
            ),
            (
                "--redis-consumer-group=other",
                ["the group other", "REDIS_CONSUMER_GROUP alike"],
            ),
            (
                "--redis-max-stream-len=7",
                ["keeps 7 entries", "REDIS_MAX_STREAM_LEN alike"],
            ),
        ] {
            let warnings = warnings(&[argument]);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(words.iter().all(|word| warnings[0].contains(word)), "{warnings:?}");
        }
    }
}
