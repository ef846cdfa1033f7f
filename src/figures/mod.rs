//! The figures of the stream and of its workers, as Redis answers them now. `status` and the page show them, and `check`
//! judges them.
//!
//! Owns the figures, and the sentences about them. `gather` asks for them, and `judge` says what is wrong and what to do.

pub mod finding;
pub mod gather;
pub mod judge;
pub mod kept;
pub mod letters;
pub mod producer;
pub mod target;
pub mod text;

use std::collections::BTreeMap;

use redis::RedisError;
use serde::Serialize;

use crate::report::status::Status;
use finding::Finding;
use letters::DeadLetter;
use producer::{Consumer, Producer};
use text::{duration, grouped};

/// What Redis is asked about, as far as `check` must know that it refused to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    Counters,
    Producer,
    Consumer,
    SetAside,
    DeadLetters,
    NewestDeadLetters,
    Losses,
    Stream,
    Holder,
    Status,
}

impl Question {
    pub fn name(self) -> &'static str {
        match self {
            Question::Counters => "the counters",
            Question::Producer => "the producer",
            Question::Consumer => "the consumer",
            Question::SetAside => "what was set aside",
            Question::DeadLetters => "the dead letters",
            Question::NewestDeadLetters => "the newest dead letters",
            Question::Losses => "losses",
            Question::Stream => "the stream",
            Question::Holder => "the processes of workers",
            Question::Status => "what workers report",
        }
    }
}

/// The figures of one moment. In JSON, what is unknown is `null`.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    /// When Redis answered, in milliseconds since 1970.
    pub time_ms: Option<u64>,
    pub stream: String,
    pub group: String,
    /// What `judge` finds.
    pub findings: Vec<Finding>,
    pub producer: Option<Producer>,
    /// `null` if no consumer of this program runs.
    pub consumer: Option<Consumer>,
    /// Age of the newest committed entry, in seconds.
    pub freshness_seconds: Option<f64>,
    pub events_per_second: f64,
    pub events_per_second_over_a_minute: f64,
    /// The dashboard's counters.
    pub counters: BTreeMap<String, u64>,
    /// Ops that the running workers have deliberately not applied, by reason.
    pub ignored: BTreeMap<String, u64>,
    pub length: Option<u64>,
    /// Entries that were not delivered to any consumer yet.
    pub backlog: Option<u64>,
    pub pending: Option<u64>,
    pub added_per_second: Option<f64>,
    /// How long all workers may stand still before the producer trims unread entries.
    pub trim_headroom_seconds: Option<f64>,
    /// Time until nothing is unread, at the current rate; `null` if the backlog does not shrink.
    pub catch_up_seconds: Option<f64>,
    pub dead_letters: Option<u64>,
    pub dead_letter_limit: u64,
    /// Those that the running workers have stored, by reason.
    pub dead_letters_by_reason: BTreeMap<String, u64>,
    /// The newest ones, newest first; `null` if this user may not read them.
    pub newest_dead_letters: Option<Vec<DeadLetter>>,
    pub losses: BTreeMap<String, u64>,
    pub workers: Vec<Worker>,
    /// How fast the backlog grows; negative if it shrinks. Known from the second time on.
    #[serde(skip)]
    pub backlog_growth: Option<f64>,
    /// Whether entries were trimmed before they were delivered to the group.
    #[serde(skip)]
    pub has_gap: bool,
    /// Why the producer's report is unreadable.
    #[serde(skip)]
    pub producer_fault: Option<String>,
    /// The questions that this user may not ask, or whose key has another type.
    #[serde(skip)]
    pub refusals: BTreeMap<Question, RedisError>,
}

/// A consumer of the group, and the worker that uses its name.
#[derive(Debug, Default, Serialize)]
pub struct Worker {
    pub consumer: String,
    pub pending: u64,
    /// `null` if the group has no such consumer.
    pub idle_ms: Option<u64>,
    /// Host and process ID of the worker that holds the name.
    pub held_by: Option<String>,
    /// `null` for a worker of another kind, and for one that has ended.
    pub status: Option<Status>,
}

/// The sentences about the figures.
impl Figures {
    pub fn describe_producer(&self) -> String {
        producer::describe(self.producer.as_ref(), self.consumer.as_ref())
    }

    pub fn describe_backlog(&self) -> String {
        let (Some(backlog), Some(pending)) = (self.backlog, self.pending) else {
            return "the group does not exist, or this user may not ask about it".to_owned();
        };
        let when = match self.catch_up_seconds {
            Some(seconds) if backlog > 0 => format!(", caught up in {}", duration(seconds.ceil() as u64)),
            None => ", not shrinking".to_owned(),
            Some(_) => String::new(),
        };
        format!("{} unread, {} pending{when}", grouped(backlog), grouped(pending))
    }

    pub fn describe_headroom(&self) -> String {
        match (self.added_per_second, self.trim_headroom_seconds) {
            (Some(added), Some(seconds)) => format!(
                "{added:.0} entries/s are added; a standstill of {} loses none",
                duration(seconds as u64)
            ),
            (Some(_), None) => "no entries are added".to_owned(),
            (None, _) => "unknown".to_owned(),
        }
    }

    pub fn describe_dead_letters(&self) -> String {
        match self.dead_letters {
            Some(number) => format!("{} of about {} kept", grouped(number), grouped(self.dead_letter_limit)),
            None => "unknown".to_owned(),
        }
    }
}

impl Worker {
    /// What the consumer holds, and since when it has not asked for more.
    pub fn describe_consumer(&self) -> Option<String> {
        let idle_ms = self.idle_ms?;
        Some(format!(
            "{} pending, idle {}",
            grouped(self.pending),
            duration(idle_ms / 1000)
        ))
    }
}
