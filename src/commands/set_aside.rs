//! `set-aside`: list and show what the consumer could not make part of an entry.

use std::io::{self, Write};
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::json;

use super::terminal::ended_pipe_is_fine;
use crate::entry::EntryId;
use crate::figures::kept::{self, Kept};
use crate::keys::SET_ASIDE;
use crate::logging::shown::{self, one_line};
use crate::redis::link::{Link, Redis};
use crate::settings::cli::SetAside;
use crate::settings::config::Config;

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

fn frame(kept: &Kept) -> Option<String> {
    kept.fields.get("frame").map(|frame| BASE64.encode(frame))
}

fn to_json(kept: &Kept) -> serde_json::Value {
    json!({
        "id": kept.id.to_string(),
        "time": kept.time(),
        "reason": kept.text("reason"),
        "relay": kept.text("relay"),
        "seq": kept.text("seq"),
        "did": kept.text("did"),
        "path": kept.text("path"),
        "frame": frame(kept),
    })
}

fn line(kept: &Kept) -> String {
    let columns = ["reason", "seq", "did", "path"].map(|field| one_line(&kept.text(field)));
    let [reason, seq, did, path] = columns;
    format!(
        "{:<22} {:<20} {reason:<16} {seq:<12} {did:<33} {path}",
        kept.id.to_string(),
        kept.time()
    )
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
    kept::newest_first(link, SET_ASIDE, limit, |kept| {
        match is_json {
            true => writeln!(out, "{}", shown::json(&to_json(&kept).to_string()))?,
            false => writeln!(out, "{}", line(&kept).trim_end())?,
        }
        Ok(())
    })?;
    Ok(out.flush()?)
}

fn show(link: &mut Link, id: EntryId) -> anyhow::Result<()> {
    let kept = kept::find(link, SET_ASIDE, id)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    writeln!(out, "{:<8} {id}\n{:<8} {}", "ID", "when", kept.time())?;
    for field in ["reason", "relay", "seq", "did", "path"] {
        writeln!(out, "{field:<8} {}", one_line(&kept.text(field)))?;
    }
    if let Some(frame) = frame(&kept) {
        writeln!(out, "frame, in base64\n{frame}")?;
    }
    Ok(out.flush()?)
}
