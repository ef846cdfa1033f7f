//! The settings of the firehose consumer, and its configuration.
//!
//! Owns their variables, defaults and allowed values. Those that the worker has too mean the same, and are validated
//! alike; a producer's environment file works as it is.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use log::LevelFilter;

use crate::firehose::filter::Filter;
use crate::redis;
use crate::settings::cli::{DEFAULT_REDIS_URL, DEFAULT_STREAM, without_values};
use crate::settings::relay_url::RelayUrl;
use crate::settings::secret::Secret;
use crate::settings::validate::{Check, Faults};

/// Every setting of the consumer, as text.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Settings", mut_args = without_values)]
pub struct ConsumerSettings {
    /// wss:// or ws:// address of the relay; further ones, separated by commas, are used in turn while it fails
    #[arg(long, env = "RELAY_URL", default_value = "wss://bsky.network")]
    pub relay_url: String,

    /// More addresses, as if they were at the end of RELAY_URL
    #[arg(long, env = "ADDITIONAL_RELAY_URLS", default_value = "")]
    pub additional_relay_urls: String,

    #[arg(
        long,
        env = "REDIS_URL",
        default_value = "",
        help = format!(
            "redis://, rediss:// (TLS) or unix:// URL with user, password and database number \
             [default: {DEFAULT_REDIS_URL}]"
        )
    )]
    pub redis_url: String,

    /// File to read REDIS_URL's value from
    #[arg(long, env = "REDIS_URL_FILE", default_value = "")]
    pub redis_url_file: String,

    /// Directory of the credential redis_url, set by systemd
    #[arg(long, env = "CREDENTIALS_DIRECTORY", hide = true)]
    pub credentials: Option<PathBuf>,

    /// The stream to append to
    #[arg(long, env = "REDIS_STREAM_KEY", default_value = DEFAULT_STREAM)]
    pub redis_stream_key: String,

    /// The key that holds the seq of the last event in the stream
    #[arg(long, env = "REDIS_CURSOR_KEY", default_value = "firehose:python_cursor")]
    pub redis_cursor_key: String,

    /// Number of entries to keep in the stream; the consumer pauses while the group has not read 80% of as many
    #[arg(long, env = "REDIS_MAX_STREAM_LEN", default_value = "500000")]
    pub redis_max_stream_len: String,

    /// The consumer group whose backlog pauses the consumer
    #[arg(long, env = "REDIS_CONSUMER_GROUP", default_value = "firehose-processors")]
    pub redis_consumer_group: String,

    /// Where to begin if Redis holds no position: now, oldest, or the seq of the first event to read
    #[arg(long, env = "FIREHOSE_START", default_value = "now")]
    pub firehose_start: String,

    /// What to do if the relay does not know the cursor yet: resume by time, or begin with the oldest event or now, or
    /// stop
    #[arg(long, env = "FIREHOSE_ON_FUTURE_CURSOR", default_value = "time")]
    pub firehose_on_future_cursor: String,

    /// Write although another producer writes to the stream
    #[arg(long, env = "FIREHOSE_BESIDE_OTHERS", default_value = "false")]
    pub firehose_beside_others: String,

    /// Collections to pass on, such as app.bsky.feed.post,app.bsky.graph.*, or @FILE; empty for all
    #[arg(long, env = "FIREHOSE_COLLECTIONS", default_value = "")]
    pub firehose_collections: String,

    /// DIDs whose events are passed on, or @FILE, which SIGHUP reads again; empty for all
    #[arg(long, env = "FIREHOSE_DIDS", default_value = "")]
    pub firehose_dids: String,

    /// Hours of events that the relay keeps; the log warns when a pause takes half of it
    #[arg(long, env = "FIREHOSE_RELAY_WINDOW_HOURS", default_value = "24")]
    pub firehose_relay_window_hours: String,

    /// host:port to serve /metrics, /healthz and /readyz on; empty to serve nothing
    #[arg(long, env = "METRICS_ADDR", default_value = "")]
    pub metrics_addr: String,

    /// Maximum duration of a stop, in milliseconds
    #[arg(long, env = "STOP_TIMEOUT_MS", default_value = "25000")]
    pub stop_timeout_ms: String,

    /// DEBUG, INFO, WARNING or WARN, ERROR, CRITICAL or FATAL, NOTSET; RUST_LOG refines it by module
    #[arg(long, env = "LOG_LEVEL", default_value = "INFO")]
    pub log_level: String,
}

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

/// A list, or the content of the file that `value` names after an `@`.
fn list(variable: &str, value: &str) -> Result<String, String> {
    let Some(path) = value.strip_prefix('@') else {
        return Ok(value.to_owned());
    };
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{variable} cannot be read from {path}: {error}"))?;
    match text.trim().is_empty() {
        // An empty list would admit everything.
        true => Err(format!("{variable} cannot be read from {path}: the file is empty")),
        false => Ok(text),
    }
}

/// The greatest seq: relays send seqs to programs whose integers are exact up to 2⁵³.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

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
            value: &settings.redis_url,
            file: &settings.redis_url_file,
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
        let stop_timeout = check.number("STOP_TIMEOUT_MS", &settings.stop_timeout_ms, 100..=3_600_000);
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
            metrics_addr: check.host_and_port("METRICS_ADDR", &settings.metrics_addr),
            stop_timeout: Duration::from_millis(stop_timeout),
            log_level: check.level("LOG_LEVEL", &settings.log_level),
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
        (_, Ok(seq)) if (1..=MAX_SEQ).contains(&seq) => Start::Seq(seq),
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
