//! `dead-letters`: list, show, replay, drop.
//!
//! Owns what an operator can do about entries and ops that became dead letters. Reads them page by page, because there
//! may be gigabytes of them.
//!
//! Invariant: a replayed letter is on the stream once and no longer among the dead letters, or neither. Both changes
//! happen in one transaction, which fails if the dead letters have changed since the letter was read.

mod letter;
mod table;

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use redis::{RedisError, RedisResult, Value};

use super::terminal::{ended_pipe_is_fine, terminal_width};
use crate::dead_letter::DEAD_LETTERS;
use crate::entry::EntryId;
use crate::figures::kept::{self, Kept, Raw};
use crate::logging::shown::{self, one_line};
use crate::redis::link::{self, Link, Redis};
use crate::settings::cli::{Chosen, DeadLetters};
use crate::settings::config::Config;
use table::{Columns, cells};

/// How often a replay is attempted. It fails if a worker adds a dead letter in the meantime.
const TRIES: u32 = 200;

/// Runs the command.
///
/// # Errors
///
/// Fails if Redis cannot be reached or refuses a command, or if a requested letter does not exist.
pub fn run(config: &Config, action: &DeadLetters) -> anyhow::Result<()> {
    let redis = Redis::new(config.redis.clone());
    let mut letters = Letters {
        link: redis.link(Duration::ZERO),
        stream: config.stream.clone(),
    };
    match action {
        DeadLetters::List { json, limit } => ended_pipe_is_fine(letters.list(*json, limit.unwrap_or(u64::MAX))),
        DeadLetters::Show { id } => ended_pipe_is_fine(letters.show(*id)),
        DeadLetters::Replay { chosen } => letters.replay(chosen),
        DeadLetters::Drop { chosen, yes } => letters.drop(chosen, *yes),
    }
}

type Page = Vec<Raw>;

struct Letters {
    link: Link,
    /// The stream to which letters are replayed.
    stream: String,
}

impl Letters {
    fn list(&mut self, is_json: bool, limit: u64) -> anyhow::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let columns = Columns::of(terminal_width());
        if !is_json {
            let title = ["ID", "WHEN", "TYPE", "REPO", "OP", "TRIES", "REASON"].map(str::to_owned);
            writeln!(out, "{}", columns.line(title))?;
        }
        kept::newest_first(&mut self.link, DEAD_LETTERS, limit, |letter| {
            match is_json {
                true => writeln!(out, "{}", shown::json(&letter::to_json(&letter).to_string()))?,
                false => writeln!(out, "{}", columns.line(cells(&letter)))?,
            }
            Ok(())
        })?;
        Ok(out.flush()?)
    }

    fn show(&mut self, id: EntryId) -> anyhow::Result<()> {
        let letter = kept::find(&mut self.link, DEAD_LETTERS, id)?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        writeln!(out, "{:<11} {id}\n{:<11} {}", "ID", "when", letter.time())?;
        writeln!(out, "{:<11} {}", "repo", one_line(&letter::repo(&letter)))?;
        let mut names: Vec<&String> = letter.fields.keys().filter(|name| *name != "data").collect();
        names.sort();
        for name in names {
            writeln!(out, "{:<11} {}", one_line(name), one_line(&letter.text(name)))?;
        }
        let data = letter.text("data");
        let pretty = serde_json::from_str::<serde_json::Value>(&data)
            .and_then(|value| serde_json::to_string_pretty(&value))
            .map_or_else(|_| shown::harmless(&data), |pretty| shown::json(&pretty));
        writeln!(out, "data\n{pretty}")?;
        Ok(out.flush()?)
    }

    fn replay(&mut self, chosen: &Chosen) -> anyhow::Result<()> {
        let mut tally = Tally::new("replayed");
        let result = match chosen.all {
            true => self.replay_all(&mut tally),
            false => self.replay_some(&chosen.ids, &mut tally),
        };
        tally.end(result)
    }

    fn replay_some(&mut self, ids: &[EntryId], tally: &mut Tally) -> anyhow::Result<()> {
        for id in ids {
            match self.replay_first(&id.to_string(), *id)? {
                Some((_, event)) => tally.done(*id, &format!(" as {event}")),
                None => tally.unknown(*id),
            }
        }
        Ok(())
    }

    /// Replays the letters that exist at the start, but not those that return while it runs.
    fn replay_all(&mut self, tally: &mut Tally) -> anyhow::Result<()> {
        let Some(end) = self.newest()? else { return Ok(()) };
        let mut start = "-".to_owned();
        while let Some((id, event)) = self.replay_first(&start, end)? {
            tally.done(id, &format!(" as {event}"));
            start = format!("({id}");
        }
        Ok(())
    }

    /// Replays the first letter of the range. Returns its ID and that of the new entry, or `None` if the range is
    /// empty.
    fn replay_first(&mut self, start: &str, end: EntryId) -> anyhow::Result<Option<(EntryId, String)>> {
        const RIGHTS: &str = "+xrange +xadd +xdel +watch +unwatch +multi +exec";
        for _ in 0..TRIES {
            let Some(letter) = self.watched(start, end).map_err(|error| explained(&error, RIGHTS))? else {
                return Ok(None);
            };
            let letter = Kept::of(letter)?;
            let mut delete = redis::cmd("XDEL");
            delete.arg(DEAD_LETTERS).arg(letter.id.to_string());
            let answer = self
                .link
                .transaction(&[letter::to_event(&letter, &self.stream), delete]);
            match answer.and_then(|answers| answers.map(event_id).transpose()) {
                Ok(Some(event)) => return Ok(Some((letter.id, event))),
                Ok(None) => std::thread::sleep(Duration::from_millis(fastrand::u64(1..20))),
                Err(error) if link::is_connection_error(&error) => bail!(
                    "the connection broke while {} was replayed ({}): if `list` still has it, it was not",
                    letter.id,
                    link::describe(&error)
                ),
                Err(error) => return Err(explained(&error, RIGHTS)),
            }
        }
        bail!("cannot replay from {DEAD_LETTERS}: dead letters are being added too fast; fix their cause first");
    }

    /// Reads the first letter of the range. A transaction after this fails if the dead letters change before it.
    fn watched(&mut self, start: &str, end: EntryId) -> RedisResult<Option<Raw>> {
        self.link.query::<()>(redis::cmd("WATCH").arg(DEAD_LETTERS))?;
        let mut range = redis::cmd("XRANGE");
        range.arg(DEAD_LETTERS).arg(start).arg(end.to_string());
        let page: Page = self.link.query(range.arg("COUNT").arg(1))?;
        let first = page.into_iter().next();
        if first.is_none() {
            self.link.query::<Value>(&redis::cmd("UNWATCH"))?;
        }
        Ok(first)
    }

    fn newest(&mut self) -> anyhow::Result<Option<EntryId>> {
        let mut range = redis::cmd("XREVRANGE");
        range.arg(DEAD_LETTERS).arg("+").arg("-").arg("COUNT").arg(1);
        let page: Page = self
            .link
            .query(&range)
            .map_err(|error| explained(&error, "+xrevrange"))?;
        let newest = page.into_iter().next().map(Kept::of).transpose()?;
        Ok(newest.map(|letter| letter.id))
    }

    fn drop(&mut self, chosen: &Chosen, is_sure: bool) -> anyhow::Result<()> {
        if chosen.all {
            return self.drop_all(is_sure);
        }
        let mut tally = Tally::new("dropped");
        let result = self.drop_some(&chosen.ids, &mut tally);
        tally.end(result)
    }

    fn drop_some(&mut self, ids: &[EntryId], tally: &mut Tally) -> anyhow::Result<()> {
        for id in ids {
            let mut delete = redis::cmd("XDEL");
            delete.arg(DEAD_LETTERS).arg(id.to_string());
            let deleted: u64 = self.link.query(&delete).map_err(|error| explained(&error, "+xdel"))?;
            match deleted {
                0 => tally.unknown(*id),
                _ => tally.done(*id, ""),
            }
        }
        Ok(())
    }

    /// Drops the letters that exist now, and not those that arrive while the operator answers.
    fn drop_all(&mut self, is_sure: bool) -> anyhow::Result<()> {
        let number: u64 = self
            .link
            .query(redis::cmd("XLEN").arg(DEAD_LETTERS))
            .map_err(|error| explained(&error, "+xlen"))?;
        let newest = self.newest()?;
        ensure!(
            is_sure || newest.is_none() || is_confirmed(number)?,
            "nothing is dropped"
        );
        let mut dropped = 0;
        if let Some(EntryId { ms, n }) = newest {
            let mut trim = redis::cmd("XTRIM");
            trim.arg(DEAD_LETTERS)
                .arg("MINID")
                .arg(format!("{ms}-{}", n.saturating_add(1)));
            dropped = self.link.query(&trim).map_err(|error| explained(&error, "+xtrim"))?;
        }
        print_line(&format!("dropped {dropped} dead letters"));
        Ok(())
    }
}

/// The ID of the new entry, which is the first reply of the transaction.
fn event_id(answers: Vec<Value>) -> RedisResult<String> {
    let first = answers.into_iter().next().unwrap_or(Value::Nil).extract_error()?;
    Ok(redis::from_redis_value(first)?)
}

fn is_confirmed(number: u64) -> anyhow::Result<bool> {
    ensure!(
        io::stdin().is_terminal(),
        "stdin is not a terminal, so dropping {number} dead letters cannot be confirmed: use --yes"
    );
    write!(io::stderr(), "Drop {number} dead letters for good? [y/N] ").context("failed to print the question")?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("failed to read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What has been done so far. Printed as it happens, because it remains done if a later step fails.
struct Tally {
    verb: &'static str,
    done: u64,
    unknown: Vec<EntryId>,
}

impl Tally {
    fn new(verb: &'static str) -> Tally {
        Tally {
            verb,
            done: 0,
            unknown: Vec::new(),
        }
    }

    fn done(&mut self, id: EntryId, how: &str) {
        self.done += 1;
        print_line(&format!("{} {id}{how}", self.verb));
    }

    fn unknown(&mut self, id: EntryId) {
        self.unknown.push(id);
    }

    fn end(self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        print_line(&format!("{} {} dead letters", self.verb, self.done));
        result?;
        let unknown: Vec<String> = self.unknown.iter().map(EntryId::to_string).collect();
        ensure!(unknown.is_empty(), "not in {DEAD_LETTERS}: {}", shown::list(&unknown));
        Ok(())
    }
}

/// Prints a line on stdout. The command continues if the reader has closed the pipe.
fn print_line(line: &str) {
    let _ = writeln!(io::stdout(), "{}", shown::harmless(line));
}

fn explained(error: &RedisError, rights: &str) -> anyhow::Error {
    kept::explained(error, DEAD_LETTERS, rights)
}
