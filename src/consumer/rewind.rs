//! Finds a position by the time of the events, where the seq means nothing: after a change of relay, or if the relay
//! counts anew.
//!
//! Owns the search: from the relay's present back, in steps that double, until the relay begins with an event that is
//! older than the last one in the stream. What is read twice by that is bounded, and changes no row of the worker.

use std::time::Duration;

use super::intake::now_ms;
use super::relay::dial::{Failure, dial};
use super::relay::first::{self, First};
use crate::runtime::shutdown::Stop;
use crate::settings::relay_url::RelayUrl;

/// How much older than the last event in the stream the first one must be, in milliseconds: relays do not order events
/// by time.
const MARGIN_MS: u64 = 60_000;

const MAX_DIALS: u32 = 8;
const PAUSE: Duration = Duration::from_secs(1);

/// How long the first event of a connection may take. A quiet relay is read from its oldest event.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first step back is this many events for each second that has to be made up for, and at least `SHORTEST_STEP`.
const EVENTS_PER_SECOND: u64 = 100;
const SHORTEST_STEP: u64 = 1000;

/// The cursor from which a relay sends its oldest event first.
const OLDEST: u64 = 0;

/// Returns the seq after which to read, so that every event that is newer than `time_ms` is read.
///
/// # Errors
///
/// The relay could not be reached, or a stop was requested.
pub fn find(relay: &RelayUrl, time_ms: u64, stop: &Stop) -> Result<u64, Failure> {
    let wanted_ms = time_ms.saturating_sub(MARGIN_MS);
    let Some((live, _)) = first_event(relay, None, stop)? else {
        return Ok(found(relay, OLDEST, None, time_ms));
    };
    let behind = now_ms().saturating_sub(wanted_ms) / 1000;
    let mut step = (behind * EVENTS_PER_SECOND).max(SHORTEST_STEP);
    for _ in 0..MAX_DIALS {
        stop.wait(PAUSE);
        stop.check()?;
        let cursor = live.saturating_sub(step);
        match first_event(relay, Some(cursor), stop)? {
            Some((_, Some(first_ms))) if first_ms <= wanted_ms => {
                return Ok(found(relay, cursor, Some(first_ms), time_ms));
            }
            _ if cursor == OLDEST => break,
            _ => step = step.saturating_mul(2),
        }
    }
    Ok(found(relay, OLDEST, None, time_ms))
}

fn found(relay: &RelayUrl, cursor: u64, first_ms: Option<u64>, time_ms: u64) -> u64 {
    let twice = first_ms.map_or_else(
        || "all that the relay keeps".to_owned(),
        |first_ms| format!("those of {} s", time_ms.saturating_sub(first_ms) / 1000),
    );
    log::warn!(
        "resuming {} by time, after seq {cursor}: events that the stream has already, at most {twice}, are appended twice",
        relay.authority()
    );
    cursor
}

/// Seq and time of the first event from `cursor` on. `None` if none comes in time.
fn first_event(relay: &RelayUrl, cursor: Option<u64>, stop: &Stop) -> Result<Option<(u64, Option<u64>)>, Failure> {
    let socket = dial(relay, cursor, stop)?;
    Ok(match first::first_event(socket, PATIENCE, stop)? {
        First::Event { seq, time_ms } => Some((seq, time_ms)),
        First::Nothing | First::Ended(_) => None,
    })
}
