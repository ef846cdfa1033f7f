//! The command line: commands, and every setting with its variable and default.
//!
//! Owns their texts only. Values are taken as they are; `config` validates them and reports all faults at once.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Args, Parser, Subcommand};

use super::consumer_args::ConsumerSettings;
use crate::entry::EntryId;

/// The version, with the git revision that it was built from. The build script, which includes this file, has no
/// revision.
pub const VERSION: &str = match option_env!("FIREHOSE_WORKER_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Writes AT Protocol firehose events from a Redis stream to an AppView's PostgreSQL database.
///
/// Without a command, the worker runs until SIGTERM, SIGINT, SIGHUP or SIGQUIT. Settings come from the environment. A
/// flag overrides its variable, and an empty variable counts as unset.
#[derive(Debug, Parser)]
#[command(version = VERSION, max_term_width = 120, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Apply everything that is in the stream, then exit; fails if a process with this consumer name is running
    #[arg(long)]
    pub drain: bool,

    /// Read settings from a file in the format of systemd's EnvironmentFile=; flags and variables override it
    ///
    /// Without this flag, and without an address in the environment, all commands but the worker itself read
    /// /etc/default/firehose-worker if it is readable. If root calls them, they then continue as the user
    /// firehose-worker.
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,

    #[command(flatten)]
    pub settings: Settings,
}

const EXIT_CODES: &str = "Exit codes: 0 stopped, 1 failed, 2 unusable configuration.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read a relay's firehose and append its events to the Redis stream, each exactly once
    ///
    /// Takes the place of the AppView's own producer and understands its environment variables. Runs until SIGTERM,
    /// SIGINT or SIGQUIT; SIGHUP reads the files of FIREHOSE_COLLECTIONS and FIREHOSE_DIDS again.
    Consume(Box<ConsumerSettings>),

    /// Print the SQL that creates the AppView's tables where they are missing, for a database without an AppView
    Schema {
        /// Print the SQL of the worker's own tables instead, for a role that may not create them itself
        #[arg(long)]
        own: bool,
        /// Print the statements that the worker sends instead, each with its purpose, parameters and locks
        #[arg(long, conflicts_with = "own")]
        statements: bool,
    },

    /// Check whether worker and consumer can run: settings, servers, permissions, tables, relay; prints a remedy for
    /// each fault
    ///
    /// Changes nothing, and is safe beside running workers. Exits with 0 if nothing fails, otherwise with 1.
    Check {
        /// Report as JSON
        #[arg(long)]
        json: bool,
    },

    /// Show the consumer, backlog, throughput, losses and workers of the stream
    ///
    /// Reads Redis only, so it works on any machine that reaches Redis. Exits with 1 if Redis cannot be reached.
    Status {
        /// Refresh every second, or every SECONDS, until Ctrl-C
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
              value_parser = clap::value_parser!(u64).range(1..=3600))]
        watch: Option<u64>,
        /// Print JSON; with --watch, one object per line
        #[arg(long)]
        json: bool,
    },

    /// Recount counters, and correct rows that other workers or older versions left wrong; safe while workers run
    ///
    /// Walks through the tables in slices. After a stop or a kill, the next start continues where the last one ended.
    /// Prints to standard output what was wrong and by how much. Exits with 0 when it has finished or a signal stopped
    /// it, with 1 when it could not continue.
    Repair(Repair),

    /// Write the notifications and viewer states that accounts missed before they became local; safe while workers run
    ///
    /// Notifications are those of the last 30 days. A worker with WRITE_NOTIFICATIONS=local or WRITE_VIEWER_STATES=local
    /// does the same by itself for each account that becomes local. After a stop or a kill, the same command continues
    /// where the last one ended. Exits with 0 when it has finished or a signal stopped it, with 1 when it could not
    /// continue.
    Fill(Fill),

    /// Delete old posts with everything about them, and other old rows, unless they concern local accounts; safe while
    /// workers run
    ///
    /// Keeps the posts of local accounts and of those they follow, the posts that a local account has liked, reposted,
    /// bookmarked, quoted or answered, and the threads above them. Deletes in short transactions. After a stop or a
    /// kill, the next start continues where the last one ended. Prints to standard output what was deleted. Exits with 0
    /// when it has finished or a signal stopped it, with 1 when it could not continue.
    Prune(Prune),

    /// List what the consumer could not make part of an entry, with the reason
    SetAside {
        #[command(subcommand)]
        action: SetAside,
    },

    /// List dead letters, put them back on the stream, or delete them
    DeadLetters {
        #[command(subcommand)]
        action: DeadLetters,
    },
}

#[derive(Debug, Subcommand)]
pub enum SetAside {
    /// List them, newest first
    List {
        /// Print each as a JSON object with all its fields, one per line
        #[arg(long)]
        json: bool,
        /// Stop after this many
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Print everything about one
    Show {
        /// ID, as `list` prints it
        #[arg(value_parser = entry_id)]
        id: EntryId,
    },
}

#[derive(Debug, Args)]
pub struct Repair {
    /// Report what is wrong without changing anything
    #[arg(long)]
    pub dry_run: bool,

    /// Report as JSON
    #[arg(long)]
    pub json: bool,

    /// Rows per slice
    #[arg(long, value_name = "ROWS", default_value = "5000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub slice: u32,

    /// Milliseconds to pause after each slice
    #[arg(long, value_name = "MS", default_value = "0")]
    pub pause_ms: u64,
}

#[derive(Debug, Args)]
pub struct Fill {
    /// DIDs of the accounts, which become local
    #[arg(value_name = "DID", required_unless_present = "all", conflicts_with = "all")]
    pub dids: Vec<String>,

    /// All local accounts
    #[arg(long)]
    pub all: bool,

    /// Milliseconds to pause after each slice
    #[arg(long, value_name = "MS", default_value = "0")]
    pub pause_ms: u64,
}

#[derive(Debug, Args)]
pub struct Prune {
    /// Age from which rows go, in hours, days or weeks, such as 36h, 14d or 2w
    #[arg(long, env = "PRUNE_OLDER_THAN", hide_env_values = true, value_name = "AGE", value_parser = age)]
    pub older_than: Option<Duration>,

    /// Report what would go and how much space that frees, without deleting anything
    #[arg(long)]
    pub dry_run: bool,

    /// Report as JSON
    #[arg(long)]
    pub json: bool,

    /// Milliseconds to pause after each transaction [default: twice as long as it took]
    #[arg(long, value_name = "MS")]
    pub pause_ms: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List them, newest first
    List {
        /// Print each as a JSON object with all its fields, one per line
        #[arg(long)]
        json: bool,
        /// Stop after this many
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Print everything about one
    Show {
        /// ID of the dead letter, as `list` prints it
        #[arg(value_parser = entry_id)]
        id: EntryId,
    },
    /// Move them back to the stream, as new entries with their old seq
    Replay {
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Delete them
    Drop {
        #[command(flatten)]
        chosen: Chosen,
        /// Do not ask before dropping all
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead letters.
#[derive(Debug, Args)]
pub struct Chosen {
    /// IDs of dead letters, as `list` prints them
    #[arg(value_name = "ID", value_parser = entry_id, required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<EntryId>,

    /// All that exist when the command starts
    #[arg(long)]
    pub all: bool,
}

const HOUR: u64 = 60 * 60;

/// The ages that can be given: less would delete what has just arrived.
const AGES: RangeInclusive<u64> = HOUR..=10 * 365 * 24 * HOUR;

fn age(text: &str) -> Result<Duration, String> {
    let fault = || "an age is a number of hours, days or weeks from 1h to 3650d, as 36h, 14d or 2w".to_owned();
    let hours = match text.chars().last() {
        Some('h') => 1,
        Some('d') => 24,
        Some('w') => 7 * 24,
        _ => return Err(fault()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| fault())?;
    let seconds = number
        .checked_mul(hours * HOUR)
        .filter(|seconds| AGES.contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(fault)
}

fn entry_id(text: &str) -> Result<EntryId, String> {
    EntryId::parse(text.as_bytes()).ok_or_else(|| "an ID is two numbers, as 1767225600000-0".to_owned())
}

pub const DEFAULT_STREAM: &str = "firehose:events";

// Defaults of the worker that the consumer's page goes by.
pub const DEFAULT_METRICS_KEYS: &str = "firehose:metrics,cluster:metrics";
pub const DEFAULT_CLAIM_IDLE_MS: u64 = 30_000;
pub const DEFAULT_DEAD_LETTER_MAXLEN: u64 = 10_000;

// Not defaults of the command line: commands must know whether an address is set.
pub const DEFAULT_REDIS_URL: &str = "redis://localhost:6379";
pub const DEFAULT_DATABASE_URL: &str = "postgresql://postgres:password@localhost:5432/atproto";

/// Hides values of the environment from `--help`, since they may be passwords, and empty defaults.
pub fn without_values(argument: Arg) -> Arg {
    if argument.get_env().is_none() {
        return argument;
    }
    let is_unset = argument.get_default_values().iter().all(|value| value.is_empty());
    argument.hide_env_values(true).hide_default_value(is_unset)
}

/// How to reach Redis.
#[derive(Clone, Debug, Args)]
pub struct RedisSettings {
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
}

/// What a process that runs as a service serves, and how it stops.
#[derive(Clone, Debug, Args)]
pub struct ServiceSettings {
    /// host:port to serve a page for people, /metrics, /healthz and /readyz on; empty to serve nothing
    #[arg(long, env = "METRICS_ADDR", default_value = "")]
    pub metrics_addr: String,

    /// Maximum duration of a stop, in milliseconds
    #[arg(long, env = "STOP_TIMEOUT_MS", default_value = "25000")]
    pub stop_timeout_ms: String,
}

#[derive(Clone, Debug, Args)]
pub struct LogSettings {
    /// DEBUG, INFO, WARNING or WARN, ERROR, CRITICAL or FATAL, NOTSET; RUST_LOG refines it by module
    #[arg(long, env = "LOG_LEVEL", default_value = "INFO")]
    pub log_level: String,
}

/// Every setting of the worker, as text.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings", mut_args = without_values)]
pub struct Settings {
    #[command(flatten)]
    pub redis: RedisSettings,

    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "",
        help = format!(
            "postgresql:// URL or key=value pairs, as libpq takes them, TLS included \
             [default: {DEFAULT_DATABASE_URL}]"
        )
    )]
    pub database_url: String,

    /// File to read DATABASE_URL's value from
    #[arg(long, env = "DATABASE_URL_FILE", default_value = "")]
    pub database_url_file: String,

    /// Directory of the credentials redis_url and database_url, set by systemd
    #[arg(long, env = "CREDENTIALS_DIRECTORY", hide = true)]
    pub credentials: Option<PathBuf>,

    /// The stream to read
    #[arg(long, env = "REDIS_STREAM_KEY", default_value = DEFAULT_STREAM)]
    pub redis_stream_key: String,

    /// The consumer group
    #[arg(long, env = "REDIS_CONSUMER_GROUP", default_value = "firehose-processors")]
    pub redis_consumer_group: String,

    /// This process's consumer name in the group [default: firehose-worker-HOSTNAME]
    #[arg(long, env = "CONSUMER_ID", default_value = "")]
    pub consumer_id: String,

    /// Hashes to add counts to, separated by commas
    #[arg(long, env = "REDIS_METRICS_KEYS", default_value = DEFAULT_METRICS_KEYS)]
    pub redis_metrics_keys: String,

    /// Maximum number of PostgreSQL connections; the worker opens one per worker thread and one more
    #[arg(long, env = "DB_POOL_SIZE", default_value = "20")]
    pub db_pool_size: String,

    /// Worker threads, each with a PostgreSQL connection
    #[arg(long, env = "PARALLEL_CONSUMERS", default_value = "2")]
    pub parallel_consumers: String,

    /// Entries to read from Redis at a time; more while there is a backlog
    #[arg(long, env = "BATCH_SIZE", default_value = "100")]
    pub batch_size: String,

    /// Maximum number of entries per transaction
    #[arg(long, env = "MAX_BATCH_ENTRIES", default_value = "2000")]
    pub max_batch_entries: String,

    /// Maximum size of the entries that are read and not yet acknowledged, in MiB
    #[arg(long, env = "MAX_IN_FLIGHT_MIB", default_value = "4")]
    pub max_in_flight_mib: String,

    /// Milliseconds after which the worker takes over the pending entries of an idle consumer
    #[arg(long, env = "CLAIM_IDLE_MS", default_value_t = DEFAULT_CLAIM_IDLE_MS.to_string())]
    pub claim_idle_ms: String,

    /// Number of crashes while an entry is tried alone, after which it becomes a dead letter
    #[arg(long, env = "REDIS_MAX_DELIVERIES", default_value = "10")]
    pub redis_max_deliveries: String,

    /// Approximate number of dead letters to keep
    #[arg(long, env = "REDIS_DEAD_LETTER_MAXLEN", default_value_t = DEFAULT_DEAD_LETTER_MAXLEN.to_string())]
    pub redis_dead_letter_maxlen: String,

    /// Number of entries that the producer keeps in the stream; the worker warns before unread ones are trimmed
    #[arg(long, env = "REDIS_MAX_STREAM_LEN", default_value = "500000")]
    pub redis_max_stream_len: String,

    #[command(flatten)]
    pub service: ServiceSettings,

    /// Write notifications: true, false, or local for the accounts that this AppView serves
    #[arg(long, env = "WRITE_NOTIFICATIONS", default_value = "true")]
    pub write_notifications: String,

    /// Write post_viewer_states: true, false, or local for the accounts that this AppView serves
    #[arg(long, env = "WRITE_VIEWER_STATES", default_value = "true")]
    pub write_viewer_states: String,

    /// Write generic_records, the records of collections without a table of their own
    #[arg(long, env = "WRITE_GENERIC_RECORDS", default_value = "true")]
    pub write_generic_records: String,

    /// DIDs of further accounts that this AppView serves, separated by commas or white space; or @FILE
    #[arg(long, env = "LOCAL_DIDS", default_value = "")]
    pub local_dids: String,

    #[command(flatten)]
    pub log: LogSettings,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::settings::config::Config;

    /// The variable and default of each setting; empty if the default is derived from the machine's name.
    fn settings() -> Vec<(String, String)> {
        let command = Cli::command();
        let settings = command.get_arguments().filter_map(|argument| {
            let variable = argument.get_env()?.to_str()?.to_owned();
            let default = argument.get_default_values().first()?.to_str()?.to_owned();
            let default = match variable.as_str() {
                "REDIS_URL" => DEFAULT_REDIS_URL.to_owned(),
                "DATABASE_URL" => DEFAULT_DATABASE_URL.to_owned(),
                _ => default,
            };
            Some((variable, default))
        });
        settings.collect()
    }

    /// The allowed range of a number, taken from the error about a number outside it.
    fn allowed(variable: &str) -> Option<String> {
        let flag = variable.to_ascii_lowercase().replace('_', "-");
        let settings = Cli::parse_from(["firehose-worker", &format!("--{flag}=-1")]).settings;
        let faults = Config::new(&settings).err()?.to_string();
        let allowed = faults.split_once("a whole number from ")?.1;
        Some(allowed.replace(&format!("to {}", usize::MAX), "or more"))
    }

    #[test]
    fn an_age_has_a_unit_and_is_an_hour_or_more() {
        let hours = |text: &str| age(text).ok().map(|age| age.as_secs() / HOUR);
        assert_eq!(["1h", "36h", "14d", "2w"].map(hours), [1, 36, 336, 336].map(Some));
        for text in [
            "",
            "d",
            "14",
            "14 d",
            "0d",
            "0h",
            "-1d",
            "1.5d",
            "14D",
            "30m",
            "4000d",
            "99999999999999999999d",
            "14\u{e9}",
        ] {
            assert_eq!(hours(text), None, "{text:?}");
        }
    }

    #[test]
    fn help_shows_no_values_of_the_environment() {
        let worker = Cli::command();
        let consumer = worker.find_subcommand("consume").unwrap();
        for command in [&worker, consumer] {
            let settings: Vec<&Arg> = command.get_arguments().filter(|arg| arg.get_env().is_some()).collect();
            assert!(settings.len() > 15, "{}: {settings:?}", command.get_name());
            for setting in settings {
                let is_hidden = setting.is_hide_env_values_set() || setting.is_hide_set();
                assert!(is_hidden, "{}: {setting:?}", command.get_name());
            }
        }
    }

    #[test]
    fn the_manual_and_the_environment_file_have_every_setting_with_its_default() {
        let manual = include_str!("../../systemd/OPERATIONS.md");
        let file = include_str!("../../systemd/firehose-worker.default");
        let settings = settings();
        assert!(settings.len() > 15, "{settings:?}");
        for (variable, default) in settings {
            let default_in_manual = match (variable.as_str(), default.as_str()) {
                ("CONSUMER_ID", _) => "`firehose-worker-<hostname>`".to_owned(),
                (_, "") => String::new(),
                (_, default) => format!("`{default}`"),
            };
            let allowed = match allowed(&variable) {
                Some(allowed) => format!(" {allowed} |"),
                None => String::new(),
            };
            let row = format!("| `{variable}` | {default_in_manual} |{allowed}");
            assert!(manual.contains(&row), "OPERATIONS.md has no row {row}");
            let line = format!("\n#{variable}={default}\n");
            assert!(
                file.contains(&line),
                "the environment file has no line #{variable}={default}"
            );
        }
    }
}
