//! `check`: whether the worker can run, and what to do where it cannot.
//!
//! Owns the order of the looks, and that each has an end: the looks at a server are taken in a thread of their own, which
//! is left behind where one takes too long. Changes nothing on either server.

mod finding;
mod postgres;
mod redis;
mod rights;
mod settings;
mod statements;
mod stream;
mod tables;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::json;

use crate::logging::shown;
use crate::redis::link::Redis;
use crate::settings::cli::Settings;
use crate::settings::config::Config;
use crate::settings::env_file::EnvFile;
pub use finding::{Finding, Level};

use super::terminal::terminal_width;

/// A server that has not answered a look for this long will not.
const LIMIT: Duration = Duration::from_secs(5);

/// Clocks may differ by this much before it shows: in the freshness, and in the times of records without one.
const CLOCK_MARGIN: f64 = 2.0;

/// More than the looks at a server report.
const CHANNEL_CAPACITY: usize = 1024;

/// Takes all looks, and prints what they find; whether nothing failed.
///
/// # Errors
///
/// A thread cannot be started, or nobody reads what is printed.
pub fn run(config: &Config, settings: &Settings, file: &EnvFile, is_json: bool) -> anyhow::Result<bool> {
    let mut out = Out::new(is_json);
    for finding in settings::look(file, settings, config) {
        out.take(finding)?;
    }
    // Both at a time, and told one after the other.
    let redis = start("redis", config, |config, report| {
        let redis = Redis::new(config.redis.clone());
        redis::look(&redis, &config, report)?;
        stream::look(redis.link(Duration::ZERO), &config, report)
    })?;
    let postgres = start("postgresql", config, |config, report| postgres::look(&config, report))?;
    follow("redis", &redis, &mut out)?;
    follow("postgresql", &postgres, &mut out)?;
    out.finish()
}

/// What a thread of looks tells.
enum CheckEvent {
    /// It begins to look at something.
    Looking(&'static str),
    Found(Finding),
}

/// Where looks report to.
pub struct Report(Sender<CheckEvent>);

/// That looks at this server have an end: it is of no use to go on.
struct Unusable;

type Looked = Result<(), Unusable>;

impl Report {
    fn looking(&self, what: &'static str) {
        self.send(CheckEvent::Looking(what));
    }

    fn ok(&self, what: &'static str, found: impl Into<String>) {
        self.found(Level::Ok, what, found, "");
    }

    /// With a word for who wants to make it better still.
    fn hint(&self, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.found(Level::Ok, what, found, remedy);
    }

    fn warn(&self, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.found(Level::Warn, what, found, remedy);
    }

    fn fail(&self, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.found(Level::Fail, what, found, remedy);
    }

    fn found(&self, level: Level, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.send(CheckEvent::Found(Finding {
            level,
            what,
            found: found.into(),
            remedy: remedy.into(),
        }));
    }

    fn send(&self, told: CheckEvent) {
        // Nobody listens any more to a thread that took too long.
        let _ = self.0.send(told);
    }
}

/// Starts the looks at a server.
fn start(name: &str, config: &Config, look: fn(Config, &Report) -> Looked) -> anyhow::Result<Receiver<CheckEvent>> {
    let (tx, rx) = bounded(CHANNEL_CAPACITY);
    let config = config.clone();
    std::thread::Builder::new()
        .name(format!("check {name}"))
        .spawn(move || {
            // What made it unusable is in the report.
            let _ = look(config, &Report(tx));
        })
        .context("failed to start a thread")?;
    Ok(rx)
}

/// Hands on what the looks at a server tell, until they end or one of them takes too long.
fn follow(server: &'static str, told: &Receiver<CheckEvent>, out: &mut Out) -> anyhow::Result<()> {
    let mut looking_at = server;
    loop {
        match told.recv_timeout(LIMIT) {
            Ok(CheckEvent::Looking(what)) => looking_at = what,
            Ok(CheckEvent::Found(finding)) => out.take(finding)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                return out.take(Finding {
                    level: Level::Fail,
                    what: looking_at,
                    found: format!("no answer within {} s", LIMIT.as_secs()),
                    remedy: format!(
                        "see to {server}: it is there and does not answer, or a firewall swallows what is sent"
                    ),
                });
            }
        }
    }
}

/// What is printed.
struct Out {
    findings: Vec<Finding>,
    is_json: bool,
    width: Option<usize>,
    has_colours: bool,
}

impl Out {
    fn new(is_json: bool) -> Out {
        let width = terminal_width();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Out {
            findings: Vec::new(),
            is_json,
            width,
            has_colours: io::stdout().is_terminal() && !no_colour,
        }
    }

    /// Prints a line as soon as it is known: a look may take its time.
    fn take(&mut self, finding: Finding) -> anyhow::Result<()> {
        if !self.is_json {
            writeln!(io::stdout(), "{}", finding.line(self.width, self.has_colours))?;
        }
        self.findings.push(finding);
        Ok(())
    }

    fn finish(self) -> anyhow::Result<bool> {
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let is_ok = count(Level::Fail) == 0;
        let mut out = io::stdout();
        if self.is_json {
            let findings: Vec<_> = self.findings.iter().map(Finding::to_json).collect();
            let report = json!({ "ok": is_ok, "findings": findings });
            writeln!(out, "{}", shown::json(&serde_json::to_string_pretty(&report)?))?;
        } else {
            writeln!(
                out,
                "\n{} ok, {} to see to, {} failed",
                count(Level::Ok),
                count(Level::Warn),
                count(Level::Fail)
            )?;
        }
        Ok(is_ok)
    }
}

/// Reports how far a server's clock is from this machine's, both in seconds.
fn report_clock(report: &Report, what: &'static str, theirs: f64, ours: f64) {
    match clock_difference(theirs - ours) {
        None => report.ok(what, "as this machine's"),
        Some(found) => report.warn(
            what,
            found,
            "let both machines keep time by NTP (timedatectl set-ntp true): freshness and the times of records go by it",
        ),
    }
}

/// In words, if it is more than can be borne.
fn clock_difference(seconds: f64) -> Option<String> {
    let direction = if seconds > 0.0 { "ahead of" } else { "behind" };
    (seconds.abs() > CLOCK_MARGIN).then(|| format!("{:.1} s {direction} this machine's", seconds.abs()))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/%@".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Seconds since 1970 by this machine's clock.
fn now() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        for (seconds, words) in [
            (0.0, None),
            (1.9, None),
            (-1.9, None),
            (2.5, Some("2.5 s ahead of this machine's")),
            (-3600.0, Some("3600.0 s behind this machine's")),
        ] {
            assert_eq!(clock_difference(seconds).as_deref(), words);
        }
    }

    #[test]
    fn what_a_shell_would_not_take_as_one_word_is_quoted() {
        assert_eq!(quoted("firehose:worker:losses:g%3A1"), "firehose:worker:losses:g%3A1");
        assert_eq!(quoted("it's a *"), "'it'\\''s a *'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_look_without_an_answer_is_given_up() {
        let (_tx, rx) = bounded(1);
        let mut out = Out::new(true);
        _tx.send(CheckEvent::Looking("redis")).unwrap();
        follow("redis", &rx, &mut out).unwrap();
        assert_eq!(out.findings.len(), 1);
        assert_eq!(out.findings[0].level, Level::Fail);
    }
}
