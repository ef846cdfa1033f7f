//! Where the consumer is in a relay's stream, and how Redis remembers it.
//!
//! Owns the cursor key, which other producers use as well, and the state hash beside it. Both are written in the
//! transaction that appends the entries, so that after any crash they say exactly what the stream contains.

use std::collections::HashMap;

use redis::RedisResult;

use crate::firehose::frame::SEQ_MAX;
use crate::keys::{SET_ASIDE, cursor_holder};
use crate::redis::link::Link;
use crate::settings::consumer::ConsumerConfig;

/// The last event of a relay that the consumer is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The relay's authority, as `RelayUrl::authority` returns it.
    pub relay: String,
    /// `None` before the first event, if the consumer begins with the present.
    pub seq: Option<u64>,
    /// The time of the newest event so far, in milliseconds since 1970; 0 if unknown.
    pub time_ms: u64,
}

/// The consumer's keys.
#[derive(Clone)]
pub struct Keys {
    pub stream: String,
    pub cursor: String,
    pub state: String,
    pub holder: String,
}

impl Keys {
    pub fn new(config: &ConsumerConfig) -> Keys {
        Keys {
            stream: config.stream.clone(),
            cursor: config.cursor_key.clone(),
            state: format!("firehose:consumer:state:{}", config.cursor_key),
            holder: cursor_holder(&config.cursor_key),
        }
    }
}

/// A key whose content another program must have written, so that the consumer cannot start.
#[derive(Debug, thiserror::Error)]
#[error("{found}: {remedy}")]
pub struct Unusable {
    pub found: String,
    pub remedy: &'static str,
}

/// What Redis remembers.
#[derive(Debug, Default)]
pub struct Remembered {
    /// The cursor, which may be another producer's.
    pub cursor: Option<u64>,
    /// The relay that the consumer read last.
    pub relay: Option<String>,
    /// Seq and time of the last event by relay.
    pub relays: HashMap<String, (u64, u64)>,
    /// The greatest seq of the stream's newest entries.
    pub newest_seq: Option<u64>,
    /// When the newest entry was added, in milliseconds since 1970.
    pub newest_ms: Option<u64>,
}

/// How many of the newest entries are searched for the greatest seq: entries without one, which other programs add,
/// may be among them.
const NEWEST: usize = 200;

/// Reads what Redis remembers.
///
/// # Errors
///
/// As for `Link::query`. The inner error reports a key that is unusable.
pub fn read(link: &mut Link, keys: &Keys) -> RedisResult<Result<Remembered, Unusable>> {
    let expected = [
        (&keys.cursor[..], "string"),
        (&keys.stream, "stream"),
        (&keys.state, "hash"),
        (SET_ASIDE, "stream"),
    ];
    for (key, kind) in expected {
        let found: String = link.query(redis::cmd("TYPE").arg(key))?;
        if found != "none" && found != kind {
            return Ok(Err(Unusable {
                found: format!("the key {key} is a {found}, not a {kind}"),
                remedy: "another program made it; delete or rename it",
            }));
        }
    }
    let cursor: Option<Vec<u8>> = link.query(redis::cmd("GET").arg(&keys.cursor))?;
    let cursor = match cursor.as_deref().map(parse_cursor).transpose() {
        Ok(cursor) => cursor,
        Err(text) => {
            return Ok(Err(Unusable {
                found: format!("the cursor {} is {text:?}, not a seq", keys.cursor),
                remedy: "set it to the seq of the last event in the stream, or delete it",
            }));
        }
    };
    let mut state: HashMap<String, String> = link.query(redis::cmd("HGETALL").arg(&keys.state))?;
    let (newest_seq, newest_ms) = newest(link, keys)?;
    Ok(Ok(Remembered {
        cursor,
        relay: state.remove("relay"),
        relays: state
            .into_iter()
            .filter_map(|(relay, text)| Some((relay, parse_state(&text)?)))
            .collect(),
        newest_seq,
        newest_ms,
    }))
}

type Fields = Vec<(String, Vec<u8>)>;

/// The greatest seq of the stream's newest entries, and when the newest was added.
fn newest(link: &mut Link, keys: &Keys) -> RedisResult<(Option<u64>, Option<u64>)> {
    let mut range = redis::cmd("XREVRANGE");
    range.arg(&keys.stream).arg("+").arg("-").arg("COUNT").arg(NEWEST);
    let entries: Vec<(String, Fields)> = link.query(&range)?;
    let newest_ms = entries.first().and_then(|(id, _)| id.split('-').next()?.parse().ok());
    let fields = entries.iter().flat_map(|(_, fields)| fields);
    let seqs = fields
        .filter(|(name, _)| name == "seq")
        .filter_map(|(_, seq)| parse_cursor(seq).ok());
    Ok((seqs.max(), newest_ms))
}

/// Reads a seq as producers write it.
///
/// # Errors
///
/// Returns the beginning of the text if it is not a seq.
pub fn parse_cursor(text: &[u8]) -> Result<u64, String> {
    let shown = || String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned();
    let number = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
    number.filter(|seq| *seq <= SEQ_MAX).ok_or_else(shown)
}

fn parse_state(text: &str) -> Option<(u64, u64)> {
    let (seq, time) = text.split_once(' ')?;
    Some((seq.parse().ok()?, time.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_seq_is_a_cursor() {
        assert_eq!(parse_cursor(b"0"), Ok(0));
        assert_eq!(parse_cursor(b"9007199254740991"), Ok(SEQ_MAX));
        for text in ["", "abc", "-5", "1.0", "9007199254740992", "12 13"] {
            assert_eq!(parse_cursor(text.as_bytes()), Err(text.to_owned()));
        }
    }
}
