//! The log.
//!
//! Owns its form: one line per event on stderr. Under systemd the journal has the time, so a line starts with its level
//! as the journal reads it; elsewhere with time and level. Keeps the last warning.

pub mod repeats;
pub mod shown;
pub mod stderr;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use chrono::{SecondsFormat, Utc};
use env_logger::Target;
use log::{Level, LevelFilter};

/// Characters of a line at most: whatever a server puts into an error, it is still read in a terminal.
const MAX_LENGTH: usize = 4000;

/// Starts logging at `level`; RUST_LOG refines it.
pub fn start(level: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    // The worker itself logs, once, what the PostgreSQL and pool crates would log.
    builder.filter_level(level);
    for noisy in ["r2d2", "tokio_postgres", "postgres"] {
        builder.filter_module(noisy, LevelFilter::Off);
    }
    let directives = std::env::var_os("RUST_LOG").unwrap_or_default();
    let directives = directives.to_string_lossy();
    // env_logger would print the error on standard error itself: as it is, and past the queue.
    let unusable = env_filter::Builder::new().try_parse(&directives).err();
    if unusable.is_none() {
        builder.parse_filters(&directives);
    }
    let is_journal = is_journal();
    builder.format(move |out, record| {
        // An event is one line, whatever is in it.
        let text = shown::cut(&shown::one_line(&record.args().to_string()), MAX_LENGTH);
        let level = record.level();
        match is_journal {
            true => writeln!(out, "<{}>{text}", priority(level))?,
            false => {
                let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
                writeln!(out, "{now} {level:5} {text}")?
            }
        }
        if level <= Level::Warn {
            *LAST_WARNING.lock().unwrap_or_else(PoisonError::into_inner) = Some((SystemTime::now(), text));
        }
        Ok(())
    });
    builder.target(Target::Pipe(Box::new(stderr::Queued)));
    // Set once, by the one call of this function.
    let _ = builder.try_init();
    if let Some(error) = unusable {
        log::warn!("RUST_LOG is unusable and has no effect: {error}");
    }
}

static LAST_WARNING: Mutex<Option<(SystemTime, String)>> = Mutex::new(None);

/// The newest line of level warning or error, and when it was written.
pub fn last_warning() -> Option<(SystemTime, String)> {
    LAST_WARNING.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
