//! The settings of the firehose consumer on the command line, each with its variable and default.
//!
//! Those that the worker has too mean the same, and a producer's environment file works as it is.

use std::path::PathBuf;

use clap::Args;

use super::cli::{DEFAULT_STREAM, LogSettings, RedisSettings, ServiceSettings, without_values};

/// The key that the AppView's Python producer uses.
pub const DEFAULT_CURSOR: &str = "firehose:python_cursor";

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

    #[command(flatten)]
    pub redis: RedisSettings,

    /// Directory of the credential redis_url, set by systemd
    #[arg(long, env = "CREDENTIALS_DIRECTORY", hide = true)]
    pub credentials: Option<PathBuf>,

    /// The stream to append to
    #[arg(long, env = "REDIS_STREAM_KEY", default_value = DEFAULT_STREAM)]
    pub redis_stream_key: String,

    /// The key that holds the seq of the last event in the stream
    #[arg(long, env = "REDIS_CURSOR_KEY", default_value = DEFAULT_CURSOR)]
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

    #[command(flatten)]
    pub service: ServiceSettings,

    #[command(flatten)]
    pub log: LogSettings,
}
