//! `check`: whether the worker and the consumer can run, and what to do if they cannot.
//!
//! Owns the order of the checks and their time limit: each server is checked in a thread of its own, which is abandoned
//! if a check takes too long. Changes nothing on any server.

mod consumer;
mod cursor;
mod growth;
mod indexes;
mod postgres;
mod redis;
mod relay;
mod report;
mod rights;
mod savings;
mod settings;
mod statements;
mod stream;
mod tables;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use serde_json::json;

use crate::figures::finding::{Finding, Level};
use crate::logging::shown;
use crate::report::growth::read as read_history;
use crate::settings::cli::Settings;
use crate::settings::config::Config;
use crate::settings::env_file::EnvFile;
use crate::settings::known_consumer::KnownConsumer;
use report::{Checked, Event, Report};

/// A server that has not answered a check within this time will not answer it.
const LIMIT: Duration = Duration::from_secs(5);

/// Clocks may differ by this many seconds before the freshness and the times of records show it.
const CLOCK_MARGIN: f64 = 2.0;

/// Runs all checks and prints what they find. Returns whether nothing failed.
///
/// # Errors
///
/// A thread cannot be started, or stdout cannot be written to.
pub fn run(
    config: &Config,
    settings: &Settings,
    file: &EnvFile,
    known_consumer: Option<KnownConsumer>,
    is_json: bool,
) -> anyhow::Result<bool> {
    let mut out = Out::new(is_json);
    let (report, events) = Report::new("configuration");
    settings::check(&report, file, settings, config);
    drop(report);
    follow("settings", &events, &mut out)?;
    // The servers are checked at the same time, and reported one after the other.
    let (known, history) = bounded(1);
    let redis = start("redis", config, move |config, report| {
        let (redis, user) = redis::check(&config, report)?;
        // There is room for it, and if it is refused, the rights that lack were reported.
        let _ = known.send(read_history(&mut redis.link(Duration::ZERO), &config).ok().flatten());
        stream::check(&redis, &user, &config, report)
    })?;
    let postgres = start("postgresql", config, move |config, report| {
        postgres::check(&config, &history, report)
    })?;
    let consumer = start("consumer", config, |config, report| {
        consumer::check(known_consumer, &config, report);
        Ok(())
    })?;
    follow("redis", &redis, &mut out)?;
    follow("postgresql", &postgres, &mut out)?;
    follow("redis or the relay", &consumer, &mut out)?;
    out.finish()
}

/// Starts the checks of a server.
fn start(
    server: &'static str,
    config: &Config,
    check: impl FnOnce(Config, &Report) -> Checked + Send + 'static,
) -> anyhow::Result<Receiver<Event>> {
    let (report, events) = Report::new(server);
    let config = config.clone();
    std::thread::Builder::new()
        .name(format!("check {server}"))
        .spawn(move || {
            if let Err(unusable) = check(config, &report) {
                report.fail(unusable.found, unusable.remedy);
            }
        })
        .context("failed to start a thread")?;
    Ok(events)
}

/// Prints what the checks of a server find, until they end or one of them takes too long.
fn follow(server: &'static str, events: &Receiver<Event>, out: &mut Out) -> anyhow::Result<()> {
    let mut under_way = (server, Level::Fail);
    loop {
        match events.recv_timeout(LIMIT) {
            Ok(Event::Checking(what, level)) => under_way = (what, level),
            Ok(Event::Found(finding)) => out.add(finding)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                let (what, level) = under_way;
                return out.add(Finding {
                    level,
                    what,
                    found: format!("no answer within {} s", LIMIT.as_secs()),
                    remedy: format!("check whether {server} hangs, or a firewall drops what is sent to it"),
                });
            }
        }
    }
}

/// What is printed.
struct Out {
    findings: Vec<Finding>,
    is_json: bool,
    has_colors: bool,
}

impl Out {
    fn new(is_json: bool) -> Out {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Out {
            findings: Vec::new(),
            is_json,
            has_colors: io::stdout().is_terminal() && !no_color,
        }
    }

    /// Prints a line as soon as it is known, because some checks take a while.
    fn add(&mut self, finding: Finding) -> anyhow::Result<()> {
        if !self.is_json {
            writeln!(io::stdout(), "{}", report::line(&finding, self.has_colors))?;
        }
        self.findings.push(finding);
        Ok(())
    }

    fn finish(self) -> anyhow::Result<bool> {
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let (ok, warnings, failed) = (count(Level::Ok), count(Level::Warn), count(Level::Fail));
        let is_ok = failed == 0;
        let text = match self.is_json {
            true => {
                let report = json!({ "ok": is_ok, "findings": self.findings });
                shown::json(&serde_json::to_string_pretty(&report)?)
            }
            false => format!("\n{ok} ok, {warnings} warnings, {failed} failed"),
        };
        writeln!(io::stdout(), "{text}")?;
        Ok(is_ok)
    }
}

/// Seconds since 1970 by this machine's clock.
fn now() -> f64 {
    Utc::now().timestamp_micros() as f64 / 1e6
}

/// Reports how far the clock of a server, which was asked at `asked_at`, differs from this machine's.
fn check_clock(report: &Report, theirs: f64, asked_at: f64) {
    // The server read its clock at some time in between.
    let difference = theirs - (asked_at + now()) / 2.0;
    if difference.abs() <= CLOCK_MARGIN {
        return report.ok("agrees with this machine's");
    }
    let direction = if difference > 0.0 { "ahead of" } else { "behind" };
    report.warn(
        format!("{:.1} s {direction} this machine's", difference.abs()),
        "let both machines keep time by NTP (timedatectl set-ntp true): freshness and the times of records depend on it",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_without_an_answer_is_given_up() {
        let (report, events) = Report::new("redis");
        let mut out = Out::new(true);
        report.about("redis");
        follow("redis", &events, &mut out).unwrap();
        assert_eq!(out.findings.len(), 1);
        assert_eq!(out.findings[0].level, Level::Fail);
    }
}
