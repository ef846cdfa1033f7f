//! The newest dead letters.
//!
//! Owns when they are read: each may have a megabyte, so not whenever figures are gathered.

use std::time::{Duration, Instant};

use redis::RedisResult;
use serde::Serialize;

use super::kept::{Kept, Raw};
use super::text::LONGEST;
use crate::dead_letter::DEAD_LETTERS;
use crate::logging::shown::cut;
use crate::redis::link::Link;

/// How many are read.
const NEWEST: usize = 10;

/// How long they are taken to be the newest while their number stays the same: each addition may delete an older one.
const AGE: Duration = Duration::from_secs(60);

/// What people are told of a dead letter.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetter {
    pub id: String,
    pub time_ms: u64,
    #[serde(rename = "type")]
    pub kind: String,
    /// The path of the op; empty if it is the whole entry.
    pub op: String,
    pub error: String,
}

impl From<Kept> for DeadLetter {
    fn from(kept: Kept) -> DeadLetter {
        let text = |field| cut(&kept.text(field), LONGEST);
        DeadLetter {
            id: kept.id.to_string(),
            time_ms: kept.id.ms,
            kind: text("type"),
            op: text("op"),
            error: text("error"),
        }
    }
}

/// Those that were read last.
#[derive(Default)]
pub struct Letters(Option<Read>);

struct Read {
    at: Instant,
    number: Option<u64>,
    newest: Vec<DeadLetter>,
}

impl Letters {
    /// The newest of `number` dead letters.
    ///
    /// # Errors
    ///
    /// As for `Link::query`.
    pub fn newest(&mut self, link: &mut Link, number: Option<u64>) -> RedisResult<Vec<DeadLetter>> {
        if let Some(read) = &self.0
            && read.number == number
            && read.at.elapsed() < AGE
        {
            return Ok(read.newest.clone());
        }
        let mut range = redis::cmd("XREVRANGE");
        range.arg(DEAD_LETTERS).arg("+").arg("-").arg("COUNT").arg(NEWEST);
        let newest: Vec<Raw> = link.query(&range)?;
        let newest: Vec<DeadLetter> = newest
            .into_iter()
            .filter_map(|raw| Some(Kept::of(raw).ok()?.into()))
            .collect();
        self.0 = Some(Read {
            at: Instant::now(),
            number,
            newest: newest.clone(),
        });
        Ok(newest)
    }
}
