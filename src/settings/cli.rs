//! The command line: what to do, and every setting with its variable and default, for `--help`.
//!
//! Owns the texts only, the defaults among them. Values are read as they are and judged by `config`, which reports all faults
//! at once.

use std::path::PathBuf;

use clap::{Arg, Args, Parser, Subcommand};

use crate::entry::EntryId;

/// The version with the git revision it was built from; without where the build script itself uses this file.
pub const VERSION: &str = match option_env!("FIREHOSE_WORKER_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Feeds an AT Protocol AppView's PostgreSQL from a Redis stream of firehose events.
///
/// Without a command the worker runs until SIGTERM, SIGINT, SIGHUP or SIGQUIT. Settings come from the environment; a flag goes before its
/// variable, and an empty variable counts as unset.
#[derive(Debug, Parser)]
#[command(version = VERSION, max_term_width = 120, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Apply all that is in the stream, then exit; an error where a process with this consumer name runs
    #[arg(long)]
    pub drain: bool,

    /// A file of settings in the form of systemd's EnvironmentFile=; flags and variables go before it
    ///
    /// Without it, and without an address in the environment, all commands but the worker itself read
    /// /etc/default/firehose-worker if they may, and go on as the user firehose-worker if root has called them.
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,

    #[command(flatten)]
    pub settings: Settings,
}

const EXIT_CODES: &str = "Exit codes: 0 stopped, 1 failed, 2 unusable configuration.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the SQL that makes the AppView's tables, for a database without an AppView; changes nothing where they are
    Schema {
        /// Print the SQL of the worker's own tables instead, for a role that may not make them itself
        #[arg(long)]
        own: bool,
        /// Print the statements that the worker sends instead, each with its purpose, parameters and locks
        #[arg(long, conflicts_with = "own")]
        statements: bool,
    },

    /// Look whether the worker can run: settings, servers, rights, tables; a line each, with what to do
    ///
    /// Changes nothing, and may be run beside workers. Exits with 0 if nothing fails, with 1 if anything does.
    Check {
        /// Report as JSON
        #[arg(long)]
        json: bool,
    },

    /// Show how the stream and its workers fare
    ///
    /// Asks Redis alone, so it works wherever the workers run. Exits with 1 if Redis cannot be reached.
    Status {
        /// Show it over and over, every second or every SECONDS, until Ctrl-C
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
              value_parser = clap::value_parser!(u64).range(1..=3600))]
        watch: Option<u64>,
        /// Print it as JSON; with --watch an object a line
        #[arg(long)]
        json: bool,
    },

    /// Make counters, viewer states and quotes right that other workers have left wrong; safe while workers run
    ///
    /// Goes over the tables in slices, and goes on where it was when it is started again after a stop or a kill. Prints on
    /// standard output what was wrong and by how much. Exits with 0 when it has finished or was stopped by one of the
    /// signals that stop the worker, with 1 when it could not go on.
    Repair(Repair),

    /// Look at dead letters, put them back on the stream, or drop them
    DeadLetters {
        #[command(subcommand)]
        action: DeadLetters,
    },
}

#[derive(Debug, Args)]
pub struct Repair {
    /// Report what is wrong and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Report as JSON
    #[arg(long)]
    pub json: bool,

    /// Rows of a table to look at in one go
    #[arg(long, value_name = "ROWS", default_value = "5000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub slice: u32,

    /// Milliseconds to leave the server alone after each slice
    #[arg(long, value_name = "MS", default_value = "0")]
    pub pause_ms: u64,
}

#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List them, newest first
    List {
        /// Print each as a JSON object on a line of its own, with all its fields
        #[arg(long)]
        json: bool,
        /// Stop after this many
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Print all there is about one
    Show {
        /// ID of the dead letter, as `list` prints it
        #[arg(value_parser = entry_id)]
        id: EntryId,
    },
    /// Put them back on the stream, as new events under their old seq, and out of the dead letters
    Replay {
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Delete them for good
    Drop {
        #[command(flatten)]
        chosen: Chosen,
        /// Do not ask before all are dropped
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

    /// All that there are when the command begins
    #[arg(long)]
    pub all: bool,
}

fn entry_id(text: &str) -> Result<EntryId, String> {
    EntryId::parse(text.as_bytes()).ok_or_else(|| "an ID is two numbers, as 1767225600000-0".to_owned())
}

/// Where the servers are unless it is said. The command line must not have these as defaults: then it would not be known
/// whether an address is set.
/// The stream, unless REDIS_STREAM_KEY names another.
pub const DEFAULT_STREAM: &str = "firehose:events";
pub const DEFAULT_REDIS_URL: &str = "redis://localhost:6379";
pub const DEFAULT_DATABASE_URL: &str = "postgresql://postgres:password@localhost:5432/atproto";

/// Keeps from `--help` what the environment holds, which may be a password, and defaults that are empty.
fn without_values(argument: Arg) -> Arg {
    if argument.get_env().is_none() {
        return argument;
    }
    let is_unset = argument.get_default_values().iter().all(|value| value.is_empty());
    argument.hide_env_values(true).hide_default_value(is_unset)
}

/// Every setting, as text, with its only default.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings", mut_args = without_values)]
pub struct Settings {
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

    /// A file that holds REDIS_URL's value, instead of it
    #[arg(long, env = "REDIS_URL_FILE", default_value = "")]
    pub redis_url_file: String,

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

    /// A file that holds DATABASE_URL's value, instead of it
    #[arg(long, env = "DATABASE_URL_FILE", default_value = "")]
    pub database_url_file: String,

    /// Where systemd puts the files redis_url and database_url, if the unit loads them as credentials
    #[arg(long, env = "CREDENTIALS_DIRECTORY", hide = true)]
    pub credentials: Option<PathBuf>,

    /// The stream to read
    #[arg(long, env = "REDIS_STREAM_KEY", default_value = DEFAULT_STREAM)]
    pub redis_stream_key: String,

    /// The consumer group to read it in
    #[arg(long, env = "REDIS_CONSUMER_GROUP", default_value = "firehose-processors")]
    pub redis_consumer_group: String,

    /// This process's consumer name in the group [default: firehose-worker-<hostname>]
    #[arg(long, env = "CONSUMER_ID", default_value = "")]
    pub consumer_id: String,

    /// Hashes that the counters are added to, with commas between them
    #[arg(long, env = "REDIS_METRICS_KEYS", default_value = "firehose:metrics,cluster:metrics")]
    pub redis_metrics_keys: String,

    /// Upper bound of PostgreSQL connections; one for each worker thread is opened, and one more
    #[arg(long, env = "DB_POOL_SIZE", default_value = "20")]
    pub db_pool_size: String,

    /// Worker threads, each with a PostgreSQL connection
    #[arg(long, env = "PARALLEL_CONSUMERS", default_value = "2")]
    pub parallel_consumers: String,

    /// Entries to ask Redis for at a time; more are asked for while there is a backlog
    #[arg(long, env = "BATCH_SIZE", default_value = "100")]
    pub batch_size: String,

    /// Entries that share a transaction at most
    #[arg(long, env = "MAX_BATCH_ENTRIES", default_value = "2000")]
    pub max_batch_entries: String,

    /// MiB of entries read and not yet acknowledged, at most
    #[arg(long, env = "MAX_IN_FLIGHT_MIB", default_value = "8")]
    pub max_in_flight_mib: String,

    /// Milliseconds after which another consumer's pending entries are taken over
    #[arg(long, env = "CLAIM_IDLE_MS", default_value = "30000")]
    pub claim_idle_ms: String,

    /// How often an entry that ends the process each time is tried alone before it is set apart
    #[arg(long, env = "REDIS_MAX_DELIVERIES", default_value = "10")]
    pub redis_max_deliveries: String,

    /// Dead letters that are kept, about
    #[arg(long, env = "REDIS_DEAD_LETTER_MAXLEN", default_value = "10000")]
    pub redis_dead_letter_maxlen: String,

    /// Entries that the producer keeps in the stream; the log warns before it trims unread ones
    #[arg(long, env = "REDIS_MAX_STREAM_LEN", default_value = "500000")]
    pub redis_max_stream_len: String,

    /// host:port to answer /metrics, /healthz and /readyz on; nothing is answered while it is empty
    #[arg(long, env = "METRICS_ADDR", default_value = "")]
    pub metrics_addr: String,

    /// Milliseconds that a stop may take
    #[arg(long, env = "STOP_TIMEOUT_MS", default_value = "25000")]
    pub stop_timeout_ms: String,

    /// Write notifications
    #[arg(long, env = "WRITE_NOTIFICATIONS", default_value = "true")]
    pub write_notifications: String,

    /// Write post_viewer_states
    #[arg(long, env = "WRITE_VIEWER_STATES", default_value = "true")]
    pub write_viewer_states: String,

    /// Write generic_records, the records of collections without a table of their own
    #[arg(long, env = "WRITE_GENERIC_RECORDS", default_value = "true")]
    pub write_generic_records: String,

    /// DEBUG, INFO, WARNING or WARN, ERROR, CRITICAL or FATAL, NOTSET; RUST_LOG refines it by module
    #[arg(long, env = "LOG_LEVEL", default_value = "INFO")]
    pub log_level: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::settings::config::Config;

    /// Variable and default of each setting; no default where it is made from the machine's name.
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

    /// What a number may be, in the words of the error about one that it may not be.
    fn allowed(variable: &str) -> Option<String> {
        let flag = variable.to_ascii_lowercase().replace('_', "-");
        let settings = Cli::parse_from(["firehose-worker", &format!("--{flag}=-1")]).settings;
        let faults = Config::new(&settings).err()?.to_string();
        let allowed = faults.split_once("a whole number from ")?.1;
        Some(allowed.replace(&format!("to {}", usize::MAX), "or more"))
    }

    #[test]
    fn help_shows_no_values_of_the_environment() {
        for argument in Cli::command()
            .get_arguments()
            .filter(|argument| argument.get_env().is_some())
        {
            let is_hidden = argument.is_hide_env_values_set() || argument.is_hide_set();
            assert!(is_hidden, "{argument:?}");
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
