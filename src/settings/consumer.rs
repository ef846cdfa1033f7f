//! The firehose consumer's configuration.
//!
//! Owns the allowed values of each of its settings. Those that the worker has too are validated alike.

use std::time::Duration;

use log::LevelFilter;

use crate::firehose::filter::Filter;
use crate::firehose::frame::SEQ_MAX;
use crate::redis;
use crate::settings::consumer_args::ConsumerSettings;
use crate::settings::list::list;
use crate::settings::relay_url::RelayUrl;
use crate::settings::secret::Secret;
use crate::settings::validate::{Check, Faults};

/// The validated configuration. Has no `Debug`: it holds a password.
#[derive(Clone)]
pub struct ConsumerConfig {
    pub redis: redis::address::Address,
    /// Warnings about values that are accepted but have no effect. Logged at the start.
    pub warnings: Vec<String>,
    /// The relays, in the order of preference. Never empty.
    pub relays: Vec<RelayUrl>,
    pub stream: String,
    pub cursor_key: String,
    pub group: String,
    pub max_stream_len: u64,
    pub start: Start,
    pub on_future_cursor: OnFutureCursor,
    pub is_beside_others: bool,
    pub filters: Filters,
    pub relay_window: Duration,
    pub metrics_addr: Option<String>,
    pub stop_timeout: Duration,
    pub log_level: LevelFilter,
}

/// Where to begin if Redis holds no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Now,
    Oldest,
    /// The seq of the first event to read.
    Seq(u64),
}

/// What to do if the relay's events have smaller seqs than the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFutureCursor {
    Time,
    Oldest,
    Now,
    Stop,
}

/// The settings that select events: lists, or `@` and the name of a file with one.
#[derive(Clone)]
pub struct Filters {
    collections: String,
    dids: String,
}

impl Filters {
    /// Reads the lists, and the files as they are now.
    ///
    /// # Errors
    ///
    /// Names the setting, and what about it is unusable.
    pub fn read(&self) -> Result<Filter, String> {
        let collections = list("FIREHOSE_COLLECTIONS", &self.collections)?;
        let dids = list("FIREHOSE_DIDS", &self.dids)?;
        Filter::new(&collections, &dids)
            .map_err(|reason| format!("FIREHOSE_COLLECTIONS or FIREHOSE_DIDS is unusable: {reason}"))
    }
}

impl ConsumerConfig {
    /// Validates the settings.
    ///
    /// # Errors
    ///
    /// All faults of the settings.
    pub fn new(settings: &ConsumerSettings) -> Result<ConsumerConfig, Faults> {
        let mut check = Check::new::<ConsumerSettings>();
        let redis = check.redis_url(&Secret {
            variable: "REDIS_URL",
            value: &settings.redis.redis_url,
            file: &settings.redis.redis_url_file,
            credentials: settings.credentials.as_deref(),
        });
        let relays = relays(&mut check, settings);
        let filters = Filters {
            collections: settings.firehose_collections.trim().to_owned(),
            dids: settings.firehose_dids.trim().to_owned(),
        };
        if let Err(reason) = filters.read() {
            check.faults.push(reason);
        }
        let window = check.number(
            "FIREHOSE_RELAY_WINDOW_HOURS",
            &settings.firehose_relay_window_hours,
            1..=720,
        );
        let stop_timeout = check.number("STOP_TIMEOUT_MS", &settings.service.stop_timeout_ms, 100..=3_600_000);
        let config = ConsumerConfig {
            redis,
            relays,
            stream: check.text("REDIS_STREAM_KEY", &settings.redis_stream_key),
            cursor_key: check.text("REDIS_CURSOR_KEY", &settings.redis_cursor_key),
            group: check.text("REDIS_CONSUMER_GROUP", &settings.redis_consumer_group),
            max_stream_len: check.number("REDIS_MAX_STREAM_LEN", &settings.redis_max_stream_len, 1..=u64::MAX),
            start: start(&mut check, settings),
            on_future_cursor: on_future_cursor(&mut check, settings),
            is_beside_others: check.switch("FIREHOSE_BESIDE_OTHERS", &settings.firehose_beside_others),
            filters,
            relay_window: Duration::from_secs(3600 * window),
            metrics_addr: check.host_and_port("METRICS_ADDR", &settings.service.metrics_addr),
            stop_timeout: Duration::from_millis(stop_timeout),
            log_level: check.level("LOG_LEVEL", &settings.log.log_level),
            warnings: std::mem::take(&mut check.warnings),
        };
        check.finish(config)
    }
}

fn relays(check: &mut Check, settings: &ConsumerSettings) -> Vec<RelayUrl> {
    let mut relays = Vec::new();
    let more = settings.additional_relay_urls.trim();
    for (variable, value) in [
        ("RELAY_URL", check.text("RELAY_URL", &settings.relay_url)),
        ("ADDITIONAL_RELAY_URLS", more.to_owned()),
    ] {
        match RelayUrl::parse_list(&value) {
            Ok(parsed) => relays.extend(parsed),
            Err(reason) => check.fault(variable, &value, &reason),
        }
    }
    if !more.is_empty() {
        let warning = "ADDITIONAL_RELAY_URLS: relays are not merged; these are used in turn while RELAY_URL fails";
        check.warnings.push(warning.to_owned());
    }
    if relays.is_empty() && check.faults.is_empty() {
        check.fault("RELAY_URL", &settings.relay_url, "it names no relay");
    }
    relays
}

fn start(check: &mut Check, settings: &ConsumerSettings) -> Start {
    let value = check.text("FIREHOSE_START", &settings.firehose_start);
    match (value.as_str(), value.parse()) {
        ("now", _) => Start::Now,
        ("oldest", _) => Start::Oldest,
        (_, Ok(seq)) if (1..=SEQ_MAX).contains(&seq) => Start::Seq(seq),
        _ => {
            check.fault(
                "FIREHOSE_START",
                &value,
                "now, oldest, or a seq from 1 to 9007199254740991",
            );
            Start::Now
        }
    }
}

fn on_future_cursor(check: &mut Check, settings: &ConsumerSettings) -> OnFutureCursor {
    let value = check.text("FIREHOSE_ON_FUTURE_CURSOR", &settings.firehose_on_future_cursor);
    match value.as_str() {
        "time" => OnFutureCursor::Time,
        "oldest" => OnFutureCursor::Oldest,
        "now" => OnFutureCursor::Now,
        "stop" => OnFutureCursor::Stop,
        _ => {
            check.fault("FIREHOSE_ON_FUTURE_CURSOR", &value, "time, oldest, now or stop");
            OnFutureCursor::Time
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::settings::cli::{Cli, Command, DEFAULT_REDIS_URL};

    fn settings(arguments: &[&str]) -> ConsumerSettings {
        let cli = Cli::parse_from([&["firehose-worker", "consume"], arguments].concat());
        match cli.command {
            Some(Command::Consume(settings)) => *settings,
            _ => panic!("another command"),
        }
    }

    #[test]
    fn all_faults_come_at_once_and_no_password_is_shown() {
        let Err(faults) = ConsumerConfig::new(&settings(&[
            "--relay-url=ftp://relay",
            "--redis-url=redis://:hunter2@host:port",
            "--redis-max-stream-len=0",
            "--firehose-start=yesterday",
            "--firehose-on-future-cursor=never",
            "--firehose-collections=posts",
            "--firehose-relay-window-hours=0",
        ])) else {
            panic!("unusable settings were used");
        };
        let text = faults.to_string();
        for variable in [
            "RELAY_URL=ftp://relay",
            "REDIS_URL",
            "REDIS_MAX_STREAM_LEN=0",
            "FIREHOSE_START=yesterday",
            "FIREHOSE_ON_FUTURE_CURSOR=never",
            "FIREHOSE_COLLECTIONS",
            "FIREHOSE_RELAY_WINDOW_HOURS=0",
        ] {
            assert!(text.contains(variable), "{variable} is not in: {text}");
        }
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn further_relays_follow_those_of_relay_url() {
        let settings = settings(&["--relay-url=wss://one,wss://two", "--additional-relay-urls=wss://three"]);
        let config = ConsumerConfig::new(&settings)
            .map_err(|faults| faults.to_string())
            .unwrap();
        let hosts: Vec<&str> = config.relays.iter().map(|relay| relay.host.as_str()).collect();
        assert_eq!(hosts, ["one", "two", "three"]);
        assert_eq!(config.warnings.len(), 1);
    }

    #[test]
    fn the_manual_and_the_environment_file_have_every_setting_with_its_default() {
        let manual = include_str!("../../systemd/OPERATIONS.md");
        let manual = manual.split_once("\n## Firehose consumer\n").unwrap().1;
        let file = include_str!("../../systemd/firehose-consumer.default");
        let command = Cli::command();
        let consume = command.find_subcommand("consume").unwrap();
        let mut n_settings = 0;
        for argument in consume.get_arguments() {
            let Some(variable) = argument.get_env().and_then(|name| name.to_str()) else {
                continue;
            };
            let Some(default) = argument.get_default_values().first().and_then(|value| value.to_str()) else {
                continue;
            };
            let default = if variable == "REDIS_URL" {
                DEFAULT_REDIS_URL
            } else {
                default
            };
            let line = format!("\n#{variable}={default}\n");
            assert!(
                file.contains(&line),
                "the environment file has no line #{variable}={default}"
            );
            let default = if default.is_empty() {
                String::new()
            } else {
                format!("`{default}`")
            };
            let row = format!("\n| `{variable}` | {default} |");
            assert!(manual.contains(&row), "OPERATIONS.md has no row {row}");
            n_settings += 1;
        }
        assert!(n_settings > 15, "{n_settings}");
    }
}
