//! Other producers that write to the same stream and hold no lease: the AppView's own ones.
//!
//! Owns how they are noticed: by their status key, or because the cursor moves. While one runs, this process stands by,
//! so that a cutover is to start this process and then to stop the other one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use redis::{RedisResult, Value};

use super::position::Keys;
use crate::figures::producer::{STATUS, is_foreign};
use crate::redis::link::{self, Link};
use crate::runtime::retry::Backoff;
use crate::runtime::shutdown::{Stop, Stopped};

/// A producer that has written nothing for this long has ended.
pub const STILL: Duration = Duration::from_secs(15);

const POLL_INTERVAL: Duration = Duration::from_secs(1);
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Whether another producer was noticed. Clones share it.
#[derive(Clone, Default)]
pub struct Noticed(Arc<AtomicBool>);

impl Noticed {
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }

    fn clear(&self) {
        self.0.store(false, Relaxed);
    }
}

/// What another producer would change.
#[derive(PartialEq)]
struct Traces {
    has_foreign_status: bool,
    cursor: Option<Vec<u8>>,
    newest: Value,
}

fn traces(link: &mut Link, keys: &Keys) -> RedisResult<Traces> {
    let status: Option<Vec<u8>> = link.query(redis::cmd("GET").arg(STATUS))?;
    let mut newest = redis::cmd("XREVRANGE");
    newest.arg(&keys.stream).arg("+").arg("-").arg("COUNT").arg(1);
    Ok(Traces {
        has_foreign_status: status.is_some_and(|status| is_foreign(&status)),
        cursor: link.query(redis::cmd("GET").arg(&keys.cursor))?,
        newest: link.query(&newest)?,
    })
}

/// Waits until no other producer runs. Returns at once if there is no trace of one.
///
/// # Errors
///
/// A stop was requested.
pub fn wait(link: &mut Link, keys: &Keys, noticed: &Noticed, stop: &Stop) -> Result<(), Stopped> {
    let mut backoff = Backoff::default();
    let mut last: Option<Traces> = None;
    let mut moved_at = Instant::now();
    let mut reported_at: Option<Instant> = None;
    loop {
        match traces(link, keys) {
            Ok(traces) => {
                if !traces.has_foreign_status && !noticed.is_set() {
                    return Ok(());
                }
                noticed.set();
                if traces.has_foreign_status || last.as_ref() != Some(&traces) {
                    moved_at = Instant::now();
                }
                last = Some(traces);
                if moved_at.elapsed() >= STILL {
                    noticed.clear();
                    log::info!("the other producer has ended");
                    return Ok(());
                }
                if reported_at.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                    reported_at = Some(Instant::now());
                    log::warn!(
                        "standby: another producer writes to {}; stop it, and this process takes over when it has \
                         written nothing for {} s",
                        keys.stream,
                        STILL.as_secs()
                    );
                }
                stop.wait(POLL_INTERVAL);
                stop.check()?;
            }
            Err(error) => {
                // The link reports an outage; a refusal is reported when the position is read.
                log::debug!("cannot look for other producers: {}", link::describe(&error));
                if !link.waits_out(&error) && !noticed.is_set() {
                    return Ok(());
                }
                backoff.wait(stop)?;
            }
        }
    }
}
