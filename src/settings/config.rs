//! The worker's configuration.
//!
//! Owns the allowed values of each of its settings. All faults are reported at once, before any server is contacted.

use std::time::Duration;

use log::LevelFilter;

use crate::postgres::address::Database;
use crate::redis;
use crate::runtime::host;
use crate::settings::cli::Settings;
use crate::settings::local::LocalSetting;
use crate::settings::secret::Secret;
use crate::settings::validate::{Check, Faults, or_default};

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
    /// The accounts that count as local in addition to those in the AppView's tables.
    pub local_dids: LocalSetting,
    pub log_level: LevelFilter,
}

/// Which side effects are written. Deletes remove existing ones in any case.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    /// By recipient.
    pub notifications: Accounts,
    /// By viewer.
    pub viewer_states: Accounts,
    pub generic_records: bool,
}

/// The accounts for which a side effect is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accounts {
    All,
    /// Those that this AppView serves (`local`).
    Local,
    None,
}

impl Switches {
    /// Whether any side effect depends on which accounts are local.
    pub fn use_local(self) -> bool {
        [self.notifications, self.viewer_states].contains(&Accounts::Local)
    }
}

impl Config {
    /// Validates the settings.
    ///
    /// # Errors
    ///
    /// All faults of the settings.
    pub fn new(settings: &Settings) -> Result<Config, Faults> {
        let mut check = Check::new::<Settings>();
        let secret = |variable, value, file| Secret {
            variable,
            value,
            file,
            credentials: settings.credentials.as_deref(),
        };
        let postgres = check.database_url(&secret(
            "DATABASE_URL",
            &settings.database_url,
            &settings.database_url_file,
        ));
        let redis = check.redis_url(&secret(
            "REDIS_URL",
            &settings.redis.redis_url,
            &settings.redis.redis_url_file,
        ));
        let workers = check.number("PARALLEL_CONSUMERS", &settings.parallel_consumers, 1..=64);
        let pool = check.number("DB_POOL_SIZE", &settings.db_pool_size, 1..=1000);
        if pool < workers {
            check.warnings.push(format!(
                "DB_POOL_SIZE={pool} allows only {pool} of the {workers} workers that PARALLEL_CONSUMERS asks for"
            ));
        }
        let millis = |number: usize| Duration::from_millis(number as u64);
        let switches = Switches {
            notifications: check.accounts("WRITE_NOTIFICATIONS", &settings.write_notifications),
            viewer_states: check.accounts("WRITE_VIEWER_STATES", &settings.write_viewer_states),
            generic_records: check.switch("WRITE_GENERIC_RECORDS", &settings.write_generic_records),
        };
        let config = Config {
            stream: check.text("REDIS_STREAM_KEY", &settings.redis_stream_key),
            group: check.text("REDIS_CONSUMER_GROUP", &settings.redis_consumer_group),
            consumer: or_default(&settings.consumer_id, &format!("firehose-worker-{}", host::name())),
            metrics_keys: keys(&check.text("REDIS_METRICS_KEYS", &settings.redis_metrics_keys)),
            workers: workers.min(pool),
            // One for each worker, one for the thread that checks for other processes, and one to fill local accounts.
            connections: (workers + 1 + usize::from(switches.use_local())).min(pool),
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
            metrics_addr: check.host_and_port("METRICS_ADDR", &settings.service.metrics_addr),
            stop_timeout: millis(check.number("STOP_TIMEOUT_MS", &settings.service.stop_timeout_ms, 100..=3_600_000)),
            switches,
            local_dids: LocalSetting::new(&mut check, &settings.local_dids),
            log_level: check.level("LOG_LEVEL", &settings.log.log_level),
            redis,
            postgres,
            warnings: std::mem::take(&mut check.warnings),
        };
        check.finish(config)
    }
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
        assert_eq!(config.switches.notifications, Accounts::All);
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
