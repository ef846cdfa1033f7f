//! `set-aside`: list and show what the consumer could not make part of an entry.
//!
//! Reads the stream page by page, because a frame in it may have 64 KiB.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, SecondsFormat};
use data_encoding::BASE64;
use redis::RedisError;
use serde_json::json;

use super::terminal::ended_pipe_is_fine;
use crate::consumer::position::SET_ASIDE;
use crate::entry::EntryId;
use crate::logging::shown::{self, one_line};
use crate::redis::link::{self, Link, Redis};
use crate::settings::cli::SetAside;
use crate::settings::config::Config;

/// How many are read at a time.
const PAGE: u64 = 16;

/// Runs the command.
///
/// # Errors
///
/// Fails if Redis cannot be reached or refuses a command, or if what is to be shown does not exist.
pub fn run(config: &Config, action: &SetAside) -> anyhow::Result<()> {
    let mut link = Redis::new(config.redis.clone()).link(Duration::ZERO);
    ended_pipe_is_fine(match action {
        SetAside::List { json, limit } => list(&mut link, *json, limit.unwrap_or(u64::MAX)),
        SetAside::Show { id } => show(&mut link, *id),
    })
}

type Raw = (String, HashMap<String, Vec<u8>>);

/// One thing that was set aside.
struct Item {
    id: EntryId,
    fields: HashMap<String, Vec<u8>>,
}

impl Item {
    fn of((id, fields): Raw) -> anyhow::Result<Item> {
        let id = EntryId::parse(id.as_bytes()).with_context(|| format!("redis sent the ID {id:?}"))?;
        Ok(Item { id, fields })
    }

    fn text(&self, field: &str) -> String {
        let bytes = self.fields.get(field).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn time(&self) -> String {
        let time = i64::try_from(self.id.ms).ok().and_then(DateTime::from_timestamp_millis);
        time.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
    }

    fn frame(&self) -> Option<String> {
        self.fields.get("frame").map(|frame| BASE64.encode(frame))
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "id": self.id.to_string(),
            "time": self.time(),
            "reason": self.text("reason"),
            "relay": self.text("relay"),
            "seq": self.text("seq"),
            "did": self.text("did"),
            "path": self.text("path"),
            "frame": self.frame(),
        })
    }

    fn line(&self) -> String {
        let columns = ["reason", "seq", "did", "path"].map(|field| one_line(&self.text(field)));
        let [reason, seq, did, path] = columns;
        format!(
            "{:<22} {:<20} {reason:<16} {seq:<12} {did:<33} {path}",
            self.id.to_string(),
            self.time()
        )
    }
}

fn list(link: &mut Link, is_json: bool, limit: u64) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if !is_json {
        writeln!(
            out,
            "{:<22} {:<20} {:<16} {:<12} {:<33} PATH",
            "ID", "WHEN", "REASON", "SEQ", "DID"
        )?;
    }
    let mut left = limit;
    let mut end = "+".to_owned();
    while left > 0 {
        let mut range = redis::cmd("XREVRANGE");
        range.arg(SET_ASIDE).arg(&end).arg("-").arg("COUNT").arg(left.min(PAGE));
        let page: Vec<Raw> = link.query(&range).map_err(|error| explained(&error, "+xrevrange"))?;
        let Some((last, _)) = page.last() else { break };
        end = format!("({last}");
        left -= page.len() as u64;
        for item in page {
            let item = Item::of(item)?;
            match is_json {
                true => writeln!(out, "{}", shown::json(&item.to_json().to_string()))?,
                false => writeln!(out, "{}", item.line().trim_end())?,
            }
        }
    }
    Ok(out.flush()?)
}

fn show(link: &mut Link, id: EntryId) -> anyhow::Result<()> {
    let mut range = redis::cmd("XRANGE");
    range.arg(SET_ASIDE).arg(id.to_string()).arg(id.to_string());
    let page: Vec<Raw> = link.query(&range).map_err(|error| explained(&error, "+xrange"))?;
    let item = page
        .into_iter()
        .next()
        .with_context(|| format!("{id} is not in {SET_ASIDE}"))?;
    let item = Item::of(item)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    writeln!(out, "{:<8} {id}\n{:<8} {}", "ID", "when", item.time())?;
    for field in ["reason", "relay", "seq", "did", "path"] {
        writeln!(out, "{field:<8} {}", one_line(&item.text(field)))?;
    }
    if let Some(frame) = item.frame() {
        writeln!(out, "frame, in base64\n{frame}")?;
    }
    Ok(out.flush()?)
}

fn explained(error: &RedisError, rights: &str) -> anyhow::Error {
    let hint = link::hint(error, &format!("~{SET_ASIDE} {rights}"));
    anyhow::anyhow!("redis: {}{hint}", link::describe(error))
}
