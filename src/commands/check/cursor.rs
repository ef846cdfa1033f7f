//! Checks where the consumer would continue.

use super::relay::Newest;
use super::report::Report;
use crate::consumer::begin::{self, Begin};
use crate::consumer::intake::now_ms;
use crate::consumer::position::{Position, Remembered};
use crate::figures::text::{duration, grouped};
use crate::logging::shown::one_line;
use crate::settings::consumer::{ConsumerConfig, OnFutureCursor, Start};

/// The relay that the AppView's Python producer always reads, whatever RELAY_URL says.
const RELAY_OF_PYTHON: &str = "bsky.network";

/// `newest` is the newest event of the first relay, if it has sent one.
pub fn check(remembered: &Remembered, config: &ConsumerConfig, newest: Option<Newest>, report: &Report) {
    report.about("cursor");
    let relay = config.relays[0].authority();
    check_peers_cursor(remembered, &relay, config, report);
    match begin::decide(remembered, &relay, config.start, !config.is_beside_others) {
        Begin::After(position) => check_position(&position, "", config, newest, report),
        Begin::TakeOver(position) => check_position(&position, ", where another producer is", config, newest, report),
        Begin::ByTime(_) => report.ok(format!(
            "the position is that of {}: the consumer looks for it in {relay} by the time of the events",
            one_line(remembered.relay.as_deref().unwrap_or_default())
        )),
        Begin::Fresh(start) => check_start(start, &relay, report),
    }
}

/// The cursor of a producer that has read another relay than its settings say.
fn check_peers_cursor(remembered: &Remembered, relay: &str, config: &ConsumerConfig, report: &Report) {
    if remembered.relay.is_none() && remembered.cursor.is_some() && relay != RELAY_OF_PYTHON {
        report.warn(
            format!(
                "{} is another producer's: the Python producer never used RELAY_URL, and always reads {RELAY_OF_PYTHON}, \
                 whose events {relay} counts differently",
                config.cursor_key
            ),
            format!("set RELAY_URL=wss://{RELAY_OF_PYTHON}, unless that producer did read {relay}"),
        );
    }
}

fn check_position(position: &Position, whose: &str, config: &ConsumerConfig, newest: Option<Newest>, report: &Report) {
    let seq = position.seq.unwrap_or_default();
    let begins = format!("the consumer continues with {} after seq {seq}{whose}", position.relay);
    let age = match position.time_ms {
        0 => String::new(),
        time_ms => {
            let age = duration(now_ms().saturating_sub(time_ms) / 1000);
            format!("; the newest event in the stream is {age} old")
        }
    };
    match newest {
        Some((newest, _)) if newest < seq => report.warn(
            format!(
                "seq {seq} in {} is ahead of the relay, whose newest event has seq {newest}: the consumer {}, as \
                 FIREHOSE_ON_FUTURE_CURSOR says",
                config.cursor_key,
                future(config.on_future_cursor)
            ),
            "nothing if the relay counts its events anew; otherwise let RELAY_URL name the relay of that cursor",
        ),
        Some((newest, _)) => report.ok(format!("{begins}, {} behind{age}", grouped(newest - seq))),
        None => report.ok(format!("{begins}; how far behind is unknown{age}")),
    }
}

fn future(setting: OnFutureCursor) -> &'static str {
    match setting {
        OnFutureCursor::Time => "looks for its position by the time of the events",
        OnFutureCursor::Oldest => "begins with the relay's oldest event",
        OnFutureCursor::Now => "begins with the present, and loses the events before",
        OnFutureCursor::Stop => "stops",
    }
}

fn check_start(start: Start, relay: &str, report: &Report) {
    let found = "Redis holds no position: the consumer begins with";
    match start {
        Start::Now => report.hint(
            format!("{found} the present of {relay}, as FIREHOSE_START says"),
            "FIREHOSE_START=oldest begins with the oldest event that the relay keeps",
        ),
        Start::Oldest => report.ok(format!("{found} the oldest event of {relay}, as FIREHOSE_START says")),
        Start::Seq(seq) => report.ok(format!("{found} seq {seq} of {relay}, as FIREHOSE_START says")),
    }
}
