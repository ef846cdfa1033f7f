//! Thread `probe`: while another relay than the first is read, dials the first one, to find out when it is well again.
//!
//! Owns how often it dials, and for how long each attempt has to succeed. The reading thread returns to the first relay.

use std::time::{Duration, Instant};

use super::choice::Relays;
use super::relay::dial::{Failure, dial};
use super::relay::first::{First, first_event};
use crate::runtime::heartbeat;
use crate::runtime::shutdown::{Stop, Stopped};
use crate::settings::relay_url::RelayUrl;

/// From one attempt to the next.
const INTERVAL: Duration = Duration::from_secs(60);

/// A relay that could be reached each time for this long is well.
const WELL: Duration = Duration::from_secs(600);

/// How long an event is waited for. A quiet relay need not send one.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the thread checks whether the first relay is read.
const TICK: Duration = Duration::from_secs(1);

/// Probes until a stop is requested.
pub fn run(relays: &Relays, stop: &Stop) -> anyhow::Result<()> {
    let mut well_since = None;
    let mut next_at = Instant::now();
    while !stop.wait(TICK) {
        heartbeat::beat();
        let now = Instant::now();
        if !relays.is_away() {
            well_since = None;
        } else if now >= next_at {
            next_at = now + INTERVAL;
            let Ok(is_reached) = is_reached(relays.first(), stop) else {
                break;
            };
            if is_well(&mut well_since, is_reached, now) {
                relays.first_is_well();
            }
        }
    }
    Ok(())
}

/// Whether the relay accepts a connection and keeps it.
fn is_reached(relay: &RelayUrl, stop: &Stop) -> Result<bool, Stopped> {
    let socket = match dial(relay, None, stop) {
        Ok(socket) => socket,
        Err(Failure::Dial(error)) => {
            log::debug!("{} still fails: {error}", relay.authority());
            return Ok(false);
        }
        Err(Failure::Stopped(stopped)) => return Err(stopped),
    };
    let first = first_event(socket, PATIENCE, stop)?;
    Ok(!matches!(first, First::Ended(_)))
}

/// Judges an attempt at `now`, if all attempts since `well_since` have succeeded.
fn is_well(well_since: &mut Option<Instant>, is_reached: bool, now: Instant) -> bool {
    if !is_reached {
        *well_since = None;
    }
    is_reached && now - *well_since.get_or_insert(now) >= WELL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_well_once_every_attempt_of_10_minutes_has_succeeded() {
        let start = Instant::now();
        let mut well_since = None;
        for (seconds, is_reached, expected) in [
            (0, false, false),
            (60, true, false),
            (600, true, false),
            (620, false, false),
            (700, true, false),
            (1299, true, false),
            (1300, true, true),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(is_well(&mut well_since, is_reached, now), expected, "{seconds} s");
        }
    }
}
