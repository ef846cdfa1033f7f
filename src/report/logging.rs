//! The log.
//!
//! Owns its form: one line per event on stderr. Under systemd the journal has the time, so a line starts with its level
//! as the journal reads it; elsewhere with time and level. Keeps the last warning.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};

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
    let logger = builder.build();
    log::set_max_level(logger.filter());
    // Set once, by the one call of this function.
    let _ = log::set_boxed_logger(Box::new(Remembering(logger)));
}

static LAST_WARNING: Mutex<Option<(SystemTime, String)>> = Mutex::new(None);

/// The newest line of level warning or error, and when it was written.
pub fn last_warning() -> Option<(SystemTime, String)> {
    LAST_WARNING.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Writes the log, and keeps its last warning for the status.
struct Remembering(env_logger::Logger);

impl Log for Remembering {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if record.level() <= Level::Warn && self.0.matches(record) {
            let warning = (SystemTime::now(), one_line(record));
            *LAST_WARNING.lock().unwrap_or_else(PoisonError::into_inner) = Some(warning);
        }
        self.0.log(record);
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// An event is one line, whatever is in it.
fn one_line(record: &Record) -> String {
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
