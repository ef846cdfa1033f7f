//! The settings of the firehose consumer on the command line, each with its variable and default.
//!
//! Those that the worker has too mean the same, and a producer's environment file works as it is.

use std::path::PathBuf;

use clap::Args;

use super::cli::{DEFAULT_REDIS_URL, DEFAULT_STREAM, without_values};

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
