//! What the figures are about, and the limits by which they are judged.

use std::time::Duration;

use super::Figures;
use crate::keys::Group;
use crate::settings::cli::{DEFAULT_CLAIM_IDLE_MS, DEFAULT_DEAD_LETTER_MAXLEN, DEFAULT_METRICS_KEYS};
use crate::settings::config::Config;
use crate::settings::consumer::ConsumerConfig;

#[derive(Clone)]
pub struct Target {
    pub stream: String,
    pub group: String,
    /// The consumer name of these settings in the group. The firehose consumer has none.
    pub consumer: Option<String>,
    /// The hash with the dashboard's counters.
    pub counters: String,
    pub cursor_key: String,
    /// The number of entries that the producer keeps in the stream.
    pub max_stream_len: u64,
    pub dead_letter_maxlen: u64,
    pub claim_idle: Duration,
}

impl Target {
    /// The target of a worker with these settings, beside a consumer with this cursor.
    pub fn of_worker(config: &Config, cursor_key: &str) -> Target {
        Target {
            stream: config.stream.clone(),
            group: config.group.clone(),
            consumer: Some(config.consumer.clone()),
            counters: config.metrics_keys.first().cloned().unwrap_or_default(),
            cursor_key: cursor_key.to_owned(),
            max_stream_len: config.max_stream_len as u64,
            dead_letter_maxlen: config.dead_letter_maxlen as u64,
            claim_idle: config.claim_idle,
        }
    }

    /// The target of the firehose consumer, which takes the workers' settings to be the default ones.
    pub fn of_consumer(config: &ConsumerConfig) -> Target {
        Target {
            stream: config.stream.clone(),
            group: config.group.clone(),
            consumer: None,
            counters: DEFAULT_METRICS_KEYS.split(',').next().unwrap_or_default().to_owned(),
            cursor_key: config.cursor_key.clone(),
            max_stream_len: config.max_stream_len,
            dead_letter_maxlen: DEFAULT_DEAD_LETTER_MAXLEN,
            claim_idle: Duration::from_millis(DEFAULT_CLAIM_IDLE_MS),
        }
    }

    /// The figures before Redis has answered.
    pub fn unknown(&self) -> Figures {
        Figures {
            stream: self.stream.clone(),
            group: self.group.clone(),
            dead_letter_limit: self.dead_letter_maxlen,
            ..Figures::default()
        }
    }
}

impl<'a> From<&'a Target> for Group<'a> {
    fn from(target: &'a Target) -> Group<'a> {
        Group {
            stream: &target.stream,
            name: &target.group,
        }
    }
}
