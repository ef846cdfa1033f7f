//! Validates the settings.
//!
//! Owns the allowed values of each setting. All faults are reported at once, before any server is contacted. Each names
//! the variable, its value (never a password), and what is allowed.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Command};
use log::LevelFilter;

use crate::postgres::address::Database;
use crate::runtime::host;
use crate::settings::cli::{DEFAULT_DATABASE_URL, DEFAULT_REDIS_URL, Settings};
use crate::settings::secret::Secret;
use crate::{postgres, redis};

/// The validated configuration. Has no `Debug`: it holds passwords.
#[derive(Clone)]
pub struct Config {
    pub redis: redis::address::Address,
    pub postgres: Database,
    /// Warnings about values that are accepted but have no effect. Logged at the start.
    pub warnings: Vec<String>,
    pub stream: String,
    pub group: String,
    pub consumer: String,
    pub metrics_keys: Vec<String>,
    pub workers: usize,
    /// The maximum number of PostgreSQL connections.
    pub connections: usize,
    pub read_count: usize,
    pub max_batch_entries: usize,
    /// In bytes.
    pub max_in_flight: usize,
    pub claim_idle: Duration,
    /// How often an entry that crashes the process is tried alone before it becomes a dead letter.
    pub max_deliveries: u64,
    pub dead_letter_maxlen: usize,
    /// The number of entries that the producer keeps in the stream.
    pub max_stream_len: usize,
    /// `host:port` for Prometheus.
    pub metrics_addr: Option<String>,
    pub stop_timeout: Duration,
    pub switches: Switches,
    pub log_level: LevelFilter,
}

/// Which side effects are written. Deletes remove existing ones in any case.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    pub notifications: bool,
    pub viewer_states: bool,
    pub generic_records: bool,
}

/// The faults of a configuration, one per line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Faults(pub Vec<String>);

impl Config {
    /// Validates the settings.
    ///
    /// # Errors
    ///
    /// All faults of the settings.
    pub fn new(settings: &Settings) -> Result<Config, Faults> {
        let mut check = Check::new();
        let postgres = check.database_url(settings);
        let redis = check.redis_url(settings);
        let workers = check.number("PARALLEL_CONSUMERS", &settings.parallel_consumers, 1..=64);
        let pool = check.number("DB_POOL_SIZE", &settings.db_pool_size, 1..=1000);
        if pool < workers {
            check.warnings.push(format!(
                "DB_POOL_SIZE={pool} allows only {pool} of the {workers} workers that PARALLEL_CONSUMERS asks for"
            ));
        }
        let millis = |number: usize| Duration::from_millis(number as u64);
        let config = Config {
            stream: check.text("REDIS_STREAM_KEY", &settings.redis_stream_key),
            group: check.text("REDIS_CONSUMER_GROUP", &settings.redis_consumer_group),
            consumer: or_default(&settings.consumer_id, &format!("firehose-worker-{}", host::name())),
            metrics_keys: keys(&check.text("REDIS_METRICS_KEYS", &settings.redis_metrics_keys)),
            workers: workers.min(pool),
            // One for each worker, and one for the thread that checks for other processes.
            connections: (workers + 1).min(pool),
            read_count: check.number("BATCH_SIZE", &settings.batch_size, 1..=100_000),
            max_batch_entries: check.number("MAX_BATCH_ENTRIES", &settings.max_batch_entries, 1..=10_000),
            max_in_flight: check.number("MAX_IN_FLIGHT_MIB", &settings.max_in_flight_mib, 1..=4096) << 20,
            claim_idle: millis(check.number("CLAIM_IDLE_MS", &settings.claim_idle_ms, 100..=86_400_000)),
            max_deliveries: check.number("REDIS_MAX_DELIVERIES", &settings.redis_max_deliveries, 1..=1_000_000),
            dead_letter_maxlen: check.number(
                "REDIS_DEAD_LETTER_MAXLEN",
                &settings.redis_dead_letter_maxlen,
                1..=usize::MAX,
            ),
            max_stream_len: check.number("REDIS_MAX_STREAM_LEN", &settings.redis_max_stream_len, 1..=usize::MAX),
            metrics_addr: check.host_and_port("METRICS_ADDR", &settings.metrics_addr),
            stop_timeout: millis(check.number("STOP_TIMEOUT_MS", &settings.stop_timeout_ms, 100..=3_600_000)),
            switches: Switches {
                notifications: check.switch("WRITE_NOTIFICATIONS", &settings.write_notifications),
                viewer_states: check.switch("WRITE_VIEWER_STATES", &settings.write_viewer_states),
                generic_records: check.switch("WRITE_GENERIC_RECORDS", &settings.write_generic_records),
            },
            log_level: check.level("LOG_LEVEL", &settings.log_level),
            redis,
            postgres,
            warnings: check.warnings,
        };
        if check.faults.is_empty() {
            Ok(config)
        } else {
            Err(Faults(check.faults))
        }
    }
}

/// Validates settings and collects their faults.
struct Check {
    /// The defaults of all settings.
    cli: Command,
    faults: Vec<String>,
    warnings: Vec<String>,
}

impl Check {
    fn new() -> Check {
        Check {
            cli: Settings::augment_args(Command::new("settings")),
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The value, or the setting's default if it is empty: an empty variable counts as unset.
    fn text(&self, variable: &str, value: &str) -> String {
        let mut settings = self.cli.get_arguments();
        let setting = settings.find(|setting| setting.get_env().is_some_and(|name| name == variable));
        let default = setting.and_then(|setting| setting.get_default_values().first()?.to_str());
        or_default(value, default.unwrap_or_default())
    }

    fn fault(&mut self, variable: &str, value: &str, allowed: &str) {
        let mut line = format!("{variable}=");
        // A value from a file may contain anything, but the message must stay on one line.
        for character in value.chars().take(100) {
            let _ = write!(line, "{}", character.escape_debug());
        }
        self.faults.push(format!("{line} is unusable: {allowed}"));
    }

    fn number<T>(&mut self, variable: &str, value: &str, allowed: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let value = self.text(variable, value);
        match value.parse() {
            Ok(number) if allowed.contains(&number) => number,
            _ => {
                let (first, last) = allowed.into_inner();
                self.fault(variable, &value, &format!("a whole number from {first} to {last}"));
                last
            }
        }
    }

    fn switch(&mut self, variable: &str, value: &str) -> bool {
        let value = self.text(variable, value);
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => {
                self.fault(variable, &value, "true or false");
                true
            }
        }
    }

    fn level(&mut self, variable: &str, value: &str) -> LevelFilter {
        let value = self.text(variable, value);
        match value.to_ascii_uppercase().as_str() {
            "INFO" => LevelFilter::Info,
            "DEBUG" => LevelFilter::Debug,
            "WARNING" | "WARN" => LevelFilter::Warn,
            "ERROR" | "CRITICAL" | "FATAL" => LevelFilter::Error,
            "NOTSET" => LevelFilter::Trace,
            _ => {
                self.fault(
                    variable,
                    &value,
                    "DEBUG, INFO, WARNING, WARN, ERROR, CRITICAL, FATAL or NOTSET",
                );
                LevelFilter::Info
            }
        }
    }

    fn host_and_port(&mut self, variable: &str, value: &str) -> Option<String> {
        let value = value.trim();
        if value.is_empty() {
            return None;
        }
        let is_address = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
        if !value.rsplit_once(':').is_some_and(is_address) {
            self.fault(variable, value, "host:port, such as 127.0.0.1:9188");
        }
        Some(value.to_owned())
    }

    fn redis_url(&mut self, settings: &Settings) -> redis::address::Address {
        let secret = Secret {
            variable: "REDIS_URL",
            value: &settings.redis_url,
            file: &settings.redis_url_file,
            credentials: settings.credentials.as_deref(),
        };
        self.address(&secret, DEFAULT_REDIS_URL, "redis://unused", redis::address::parse)
    }

    fn database_url(&mut self, settings: &Settings) -> Database {
        let secret = Secret {
            variable: "DATABASE_URL",
            value: &settings.database_url,
            file: &settings.database_url_file,
            credentials: settings.credentials.as_deref(),
        };
        self.address(
            &secret,
            DEFAULT_DATABASE_URL,
            "sslmode=disable",
            postgres::address::parse,
        )
    }

    /// Parses an address. After a fault returns `stand_in` parsed, which is never used to connect.
    fn address<T>(&mut self, secret: &Secret, default: &str, stand_in: &str, parse: Parse<T>) -> T {
        let parsed = secret.read().and_then(|value| {
            parse(value.as_deref().unwrap_or(default)).map_err(|reason| {
                format!(
                    "{} is unusable (its value is not shown, it may hold a password): {reason}",
                    secret.variable
                )
            })
        });
        let (address, warnings) = parsed.unwrap_or_else(|fault| {
            self.faults.push(fault);
            parse(stand_in).expect("a stand-in is an address")
        });
        self.warnings.extend(warnings);
        address
    }
}

type Parse<T> = fn(&str) -> Result<(T, Vec<String>), String>;

fn or_default(value: &str, default: &str) -> String {
    let value = value.trim();
    if value.is_empty() { default } else { value }.to_owned()
}

fn keys(list: &str) -> Vec<String> {
    let keys = list.split(',').map(str::trim).filter(|key| !key.is_empty());
    keys.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::settings::cli::Cli;

    fn settings(arguments: &[&str]) -> Settings {
        Cli::parse_from([&["firehose-worker"], arguments].concat()).settings
    }

    #[test]
    fn empty_counts_as_unset() {
        let config = Config::new(&settings(&[
            "--parallel-consumers=",
            "--write-notifications=",
            "--redis-url=",
        ]));
        let config = config.map_err(|faults| faults.to_string()).unwrap();
        assert_eq!(config.workers, 2);
        assert!(config.switches.notifications);
        assert_eq!(config.metrics_keys, ["firehose:metrics", "cluster:metrics"]);
    }

    #[test]
    fn all_faults_come_at_once_and_no_password_is_shown() {
        let Err(faults) = Config::new(&settings(&[
            "--parallel-consumers=0",
            "--batch-size=ten",
            "--write-viewer-states=maybe",
            "--log-level=LOUD",
            "--metrics-addr=9188",
            "--redis-url=redis://:hunter2@host:port",
            "--database-url=postgresql://me:hunter2@host:port/db",
        ])) else {
            panic!("unusable settings were used");
        };
        let text = faults.to_string();
        for variable in [
            "PARALLEL_CONSUMERS=0",
            "BATCH_SIZE=ten",
            "WRITE_VIEWER_STATES=maybe",
            "LOG_LEVEL=LOUD",
            "METRICS_ADDR=9188",
            "REDIS_URL",
            "DATABASE_URL",
        ] {
            assert!(text.contains(variable), "{variable} is not in: {text}");
        }
        assert_eq!(text.lines().count(), 7);
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn fewer_connections_than_workers_mean_fewer_workers() {
        let config = Config::new(&settings(&["--db-pool-size=3", "--parallel-consumers=5"]));
        let config = config.map_err(|faults| faults.to_string()).unwrap();
        assert_eq!(config.workers, 3);
        assert_eq!(config.warnings.len(), 1);
    }
}
