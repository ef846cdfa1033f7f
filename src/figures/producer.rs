//! What fills the stream: the consumer of this program or another producer, as it reports itself.
//!
//! Owns the key and the form of that report, as readers see it, and the sentences about it.

use std::collections::BTreeMap;

use chrono::Utc;
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::text::{LONGEST, duration, grouped, list};
use crate::logging::shown::{cut, one_line};

/// The status of whichever producer runs, which the AppView reads.
pub const STATUS: &str = "firehose:status";

/// The beginning of the member `producer` in the status of this program.
pub const PRODUCER: &str = "firehose-worker";

/// Whether a status is that of a producer other than this program.
pub fn is_foreign(status: &[u8]) -> bool {
    let producer = serde_json::from_slice::<serde_json::Value>(status).ok();
    let producer = producer.as_ref().and_then(|status| status.get("producer")?.as_str());
    !producer.is_some_and(|producer| producer.starts_with(PRODUCER))
}

/// What every producer reports about itself.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "camelCase"))]
pub struct Producer {
    pub connected: bool,
    pub url: Option<String>,
    pub current_cursor: Option<String>,
}

/// What Redis knows of the consumer.
#[derive(Debug, Default, Serialize)]
pub struct Consumer {
    pub state: State,
    /// Host and process ID of the consumer that holds the cursor.
    pub held_by: Option<String>,
    /// `null` if it has not reported in the last 10 s, or stands by.
    pub status: Option<Status>,
    pub last_set_aside: Option<SetAside>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Connected,
    Paused,
    /// Another producer runs.
    Standby,
    #[default]
    NotConnected,
}

/// What the consumer reports beside `Producer`. Of an older version, some of it is missing.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all(deserialize = "camelCase"))]
pub struct Status {
    /// The program, its version, host and process ID.
    pub producer: String,
    pub paused: bool,
    /// The age of the newest event in the stream, in milliseconds.
    pub lag_ms: Option<u64>,
    pub events_per_second: f64,
    pub entries: u64,
    pub set_aside: u64,
    pub set_aside_by_reason: BTreeMap<String, u64>,
    pub reconnects: u64,
    pub pauses: u64,
    pub paused_ms: u64,
}

/// Something that the consumer did not make part of an entry.
#[derive(Debug, Serialize)]
pub struct SetAside {
    pub id: String,
    pub time_ms: u64,
    pub reason: String,
    pub seq: String,
    pub did: String,
    pub path: String,
}

impl From<Kept> for SetAside {
    fn from(kept: Kept) -> SetAside {
        let text = |field| cut(&kept.text(field), LONGEST);
        SetAside {
            id: kept.id.to_string(),
            time_ms: kept.id.ms,
            reason: text("reason"),
            seq: text("seq"),
            did: text("did"),
            path: text("path"),
        }
    }
}

/// What the producer does, the most important first.
pub fn describe(producer: Option<&Producer>, consumer: Option<&Consumer>) -> String {
    let Some(producer) = producer else {
        return "no firehose consumer has reported in the last 10 s".to_owned();
    };
    let status = consumer.and_then(|consumer| consumer.status.as_ref());
    let state = match (status.is_some_and(|status| status.paused), producer.connected) {
        (true, _) => "paused until the group has read more",
        (false, true) => "connected",
        (false, false) => "not connected",
    };
    let cursor = producer.current_cursor.as_deref().unwrap_or("none");
    let mut text = format!("{state}, cursor {}", one_line(cursor));
    if let Some(status) = status {
        if let Some(lag_ms) = status.lag_ms {
            text += &format!(", newest event {} old", seconds(lag_ms));
        }
        let url = producer.url.as_deref().unwrap_or_default();
        text += &format!(", {:.0} events/s, {}", status.events_per_second, one_line(url));
    }
    text
}

impl Consumer {
    /// The process, and what it has gone through.
    pub fn describe(&self) -> String {
        let holder = self.held_by.as_deref().map(one_line);
        let Some(status) = &self.status else {
            let holder = holder.unwrap_or_default();
            return match self.state {
                State::Standby => format!("{holder} stands by until that producer has ended"),
                _ => format!("{holder} holds the cursor, and has not reported in the last 10 s"),
            };
        };
        let (process, version) = status.program();
        format!(
            "{}, version {version}; reconnects {}, pauses {} ({} s)",
            holder.unwrap_or(process),
            grouped(status.reconnects),
            grouped(status.pauses),
            grouped(status.paused_ms / 1000)
        )
    }

    /// What the process has set aside, and the last thing that any has. `None` if there is nothing.
    pub fn describe_set_aside(&self) -> Option<String> {
        let mut facts = Vec::new();
        if let Some(status) = self.status.as_ref().filter(|status| status.set_aside > 0) {
            facts.push(format!(
                "{}: {}",
                grouped(status.set_aside),
                one_line(&list(&status.set_aside_by_reason))
            ));
        }
        if let Some(last) = &self.last_set_aside {
            let now_ms = u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default();
            let age = duration(now_ms.saturating_sub(last.time_ms) / 1000);
            let what = [&last.reason, &last.seq, &last.did, &last.path]
                .map(|text| one_line(text))
                .join(" ");
            facts.push(format!("the last {age} ago: {}", what.trim_end()));
        }
        (!facts.is_empty()).then(|| facts.join("; "))
    }
}

impl Status {
    /// Process and version.
    fn program(&self) -> (String, String) {
        let text = one_line(self.producer.strip_prefix(PRODUCER).unwrap_or(&self.producer));
        let mut words = text.trim().rsplitn(4, ' ');
        let (pid, word, host) = (words.next(), words.next(), words.next());
        let process = [host, word, pid].map(Option::unwrap_or_default).join(" ");
        (process, words.next().unwrap_or("unknown").to_owned())
    }
}

fn seconds(ms: u64) -> String {
    match ms {
        0..120_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => duration(ms / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_this_programs_name_is_another_producers() {
        assert!(is_foreign(
            br#"{"connected":true,"url":"wss://bsky.network","currentCursor":"7"}"#
        ));
        assert!(is_foreign(b"not JSON"));
        assert!(!is_foreign(
            br#"{"connected":true,"producer":"firehose-worker 1.0 host 7"}"#
        ));
    }

    #[test]
    fn process_and_version_are_read_from_the_report() {
        let status = Status {
            producer: "firehose-worker 0.1.0 (70b018cb8d7c, modified) vm pid 21947".to_owned(),
            ..Status::default()
        };
        let (process, version) = status.program();
        assert_eq!(process, "vm pid 21947");
        assert_eq!(version, "0.1.0 (70b018cb8d7c, modified)");
        assert_eq!(Status::default().program().1, "unknown");
    }
}
