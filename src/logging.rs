//! The log.
//!
//! Owns its form: one line per event on stderr. Under systemd the journal has the time, so a line starts with its level
//! as the journal reads it; elsewhere with time and level.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use log::{Level, LevelFilter};

/// Starts logging at `level`; RUST_LOG refines it.
pub fn start(level: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    // The PostgreSQL and pool crates tell what the worker says itself, once and in its own words.
    builder.filter_level(level);
    for noisy in ["r2d2", "tokio_postgres", "postgres"] {
        builder.filter_module(noisy, LevelFilter::Off);
    }
    builder.parse_default_env();
    if is_journal() {
        builder.format(|out, record| writeln!(out, "<{}>{}", priority(record.level()), one_line(record)));
    } else {
        builder.format(|out, record| {
            let time = out.timestamp_millis();
            writeln!(out, "{time} {:5} {}", record.level(), one_line(record))
        });
    }
    builder.init();
}

/// An event is one line, whatever is in it.
fn one_line(record: &log::Record) -> String {
    record.args().to_string().replace(['\n', '\r'], " ")
}

/// The levels of syslog(3), which the journal uses.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Whether stderr is the journal: systemd names its device and inode, which a redirected stderr does not have.
fn is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream.to_str() == Some(&format!("{}:{}", stderr.dev(), stderr.ino()))
}
