//! Checks each relay: dials it as the consumer does, from now on, and reads one event.

use std::cell::Cell;
use std::time::Duration;

use tungstenite::http::StatusCode;

use super::report::Report;
use crate::consumer::intake::{CLOCK_SKEW_MS, now_ms};
use crate::consumer::relay::dial::{Dial, DialError, Failure, Step};
use crate::consumer::relay::first::{First, first_event};
use crate::figures::finding::Level;
use crate::runtime::shutdown::Stop;
use crate::settings::relay_url::RelayUrl;

/// Limit of each step. Less than that of a check, so that the step itself says what it waited for.
const LIMIT: Duration = Duration::from_secs(4);

/// Seq and time, in milliseconds since 1970, of an event that a relay sent as its newest.
pub type Newest = (u64, Option<u64>);

/// Checks all relays. Returns the newest event of the first. The consumer needs only that one; the others are for its
/// absence.
pub fn check(relays: &[RelayUrl], report: &Report) -> Option<Newest> {
    let mut newest = None;
    for (index, relay) in relays.iter().enumerate() {
        let level = if index == 0 { Level::Fail } else { Level::Warn };
        let found = check_one(relay, level, report);
        if index == 0 {
            newest = found;
        }
    }
    newest
}

fn check_one(relay: &RelayUrl, level: Level, report: &Report) -> Option<Newest> {
    let stop = Stop::default();
    let step = Cell::new(None);
    let dial = Dial {
        timeout: LIMIT,
        begins: &|begun| {
            step.set(Some(begun));
            report.about(subject(begun));
        },
        stop: &stop,
    };
    report.about("relay");
    let socket = match dial.open(relay, None) {
        Ok(socket) => socket,
        Err(Failure::Stopped(_)) => return None,
        Err(Failure::Dial(error)) => {
            report.add(level, format!("{relay}: {error}"), remedy(step.get(), &error));
            return None;
        }
    };
    report.about("relay");
    match first_event(socket, LIMIT, &stop) {
        Ok(First::Event { seq, time_ms }) => {
            report.ok(format!(
                "{relay} sends events; the newest has seq {seq}{}",
                age(time_ms)
            ));
            check_clock(relay, time_ms, report);
            Some((seq, time_ms))
        }
        Ok(First::Nothing) => {
            report.warn(
                format!(
                    "{relay} is connected, and has sent no event within {} s",
                    LIMIT.as_secs()
                ),
                "nothing if it is a quiet host such as a PDS; the relay of the whole network sends hundreds a second",
            );
            None
        }
        Ok(First::Ended(reason)) => {
            report.add(
                level,
                format!("{relay} ended the connection before it sent an event: {reason}"),
                "try again; if it does so each time, name another relay in RELAY_URL",
            );
            None
        }
        Err(_) => None,
    }
}

fn subject(step: Step) -> &'static str {
    match step {
        Step::Name => "relay name",
        Step::Connect => "relay connection",
        Step::Tls => "relay tls",
        Step::Upgrade => "relay upgrade",
    }
}

fn remedy(step: Option<Step>, error: &DialError) -> &'static str {
    match (step, error.status) {
        (None, _) => "correct HTTPS_PROXY",
        (Some(Step::Name), _) => "correct RELAY_URL, or let this machine resolve the name",
        (Some(Step::Connect), _) => {
            "check the port in RELAY_URL and the firewalls on the way; if only a proxy leads there, set HTTPS_PROXY"
        }
        (Some(Step::Tls), _) => {
            "let RELAY_URL name the host as its certificate does; SSL_CERT_FILE names authorities other than the system's"
        }
        (Some(Step::Upgrade), Some(StatusCode::TOO_MANY_REQUESTS)) => {
            "nothing: the relay limits connections, and the consumer waits for as long as it asks"
        }
        (Some(Step::Upgrade), Some(status)) if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
            "wait until the relay is well, or name another one in RELAY_URL"
        }
        (Some(Step::Upgrade), _) => {
            "let RELAY_URL name a host that serves com.atproto.sync.subscribeRepos: a relay or a PDS"
        }
    }
}

fn age(time_ms: Option<u64>) -> String {
    match time_ms {
        Some(time_ms) => format!(", {:.1} s old", now_ms().saturating_sub(time_ms) as f64 / 1000.0),
        None => String::new(),
    }
}

/// Compares the event's time with this machine's clock. Only one ahead shows a wrong clock: events may be old.
fn check_clock(relay: &RelayUrl, time_ms: Option<u64>, report: &Report) {
    let ahead_ms = time_ms.unwrap_or_default().saturating_sub(now_ms());
    if ahead_ms > CLOCK_SKEW_MS {
        report.about("relay clock");
        report.warn(
            format!(
                "the newest event of {relay} is {} s ahead of this machine's clock: the consumer cannot tell how old events \
                 are",
                ahead_ms / 1000
            ),
            "let this machine keep time by NTP: timedatectl set-ntp true",
        );
    }
}
