//! Checks where the settings come from, and what they amount to.

use super::report::Report;
use crate::commands::unit_user;
use crate::figures::finding::Level;
use crate::figures::text::quoted;
use crate::settings::cli::Settings;
use crate::settings::config::{Accounts, Config};
use crate::settings::env_file::{DEFAULT, EnvFile};

pub fn check(report: &Report, file: &EnvFile, settings: &Settings, config: &Config) {
    check_exports(report, file);
    check_user(report, unit_user::is_another());
    check_addresses(report, settings);
    check_config(report, config);
}

/// Values that this command uses, but the unit does not.
pub fn check_exports(report: &Report, file: &EnvFile) {
    let lines: Vec<String> = file.exports.iter().map(usize::to_string).collect();
    if lines.is_empty() {
        return;
    }
    report.about("settings file");
    let lines = lines.join(", ");
    let (level, consequence) = match file.is_of_unit() {
        true => (Level::Fail, "so the unit runs without these values"),
        false => (Level::Warn, "if a unit reads the file"),
    };
    let path = quoted(&file.path.to_string_lossy());
    report.add(
        level,
        format!("line {lines} begins with export, and systemd ignores such lines, {consequence}"),
        format!("remove the word: sed -i -E 's/^[[:space:]]*export +//' {path}"),
    );
}

fn check_user(report: &Report, is_another: bool) {
    if is_another {
        report.about("user");
        report.warn(
            "this is not the unit's user, firehose-worker: peer authentication and file permissions may treat it differently",
            "sudo firehose-worker check, with the settings in /etc/default/firehose-worker and no address in the environment",
        );
    }
}

/// Whether any server is named. If the unit gets the addresses as credentials, only the unit sees them.
fn check_addresses(report: &Report, settings: &Settings) {
    let addresses = [
        &settings.redis.redis_url,
        &settings.redis.redis_url_file,
        &settings.database_url,
        &settings.database_url_file,
    ];
    if settings.credentials.is_none() && addresses.iter().all(|value| value.trim().is_empty()) {
        report.about("addresses");
        report.warn(
            "neither REDIS_URL nor DATABASE_URL is set: the default servers are checked",
            format!(
                "set them in {DEFAULT}; if the unit has LoadCredential, name its files in REDIS_URL_FILE and DATABASE_URL_FILE \
                 for this command"
            ),
        );
    }
}

/// What the worker would run with.
fn check_config(report: &Report, config: &Config) {
    report.about("configuration");
    let servers: Vec<String> = config.postgres.servers.iter().map(ToString::to_string).collect();
    let servers = servers.join(", ");
    let database = config.postgres.config.get_dbname().unwrap_or("named as the user");
    let user = config.postgres.config.get_user().unwrap_or("as in the system");
    report.ok(format!("redis {}, user {}", config.redis, config.redis.user()));
    report.ok(format!("postgresql {servers}, database {database}, user {user}"));
    report.ok(format!(
        "consumer {} of group {} on {}; {} workers, up to {} entries per transaction",
        config.consumer, config.group, config.stream, config.workers, config.max_batch_entries
    ));
    let generic_records = match config.switches.generic_records {
        true => Accounts::All,
        false => Accounts::None,
    };
    let tables = [
        ("notifications", config.switches.notifications),
        ("post_viewer_states", config.switches.viewer_states),
        ("generic_records", generic_records),
    ];
    for (accounts, what) in [
        (Accounts::None, "not written"),
        (Accounts::Local, "written for local accounts only"),
    ] {
        let tables = tables.iter().filter(|(_, of)| *of == accounts);
        let names: Vec<&str> = tables.map(|(name, _)| *name).collect();
        if !names.is_empty() {
            report.ok(format!("{what}: {}", names.join(", ")));
        }
    }
    for warning in &config.warnings {
        report.warn(warning, "correct or remove the setting");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::commands::check::report::Event;
    use crate::figures::finding::Finding;
    use crate::settings::cli::Cli;

    /// What a check reports.
    fn found(check: impl FnOnce(&Report)) -> Option<Finding> {
        let (report, events) = Report::new("test");
        check(&report);
        events.try_iter().find_map(|event| match event {
            Event::Found(finding) => Some(finding),
            Event::Checking(..) => None,
        })
    }

    #[test]
    fn exports_fail_in_the_units_file_and_warn_in_another() {
        for (path, level) in [(DEFAULT, Level::Fail), ("/etc/my settings", Level::Warn)] {
            let file = EnvFile {
                exports: vec![2, 7],
                path: path.into(),
                ..EnvFile::default()
            };
            let finding = found(|report| check_exports(report, &file)).unwrap();
            assert_eq!(finding.level, level);
            assert!(finding.found.contains("line 2, 7"), "{}", finding.found);
            let ends_with_path = finding.remedy.trim_end_matches('\'').ends_with(path);
            assert!(ends_with_path, "{}", finding.remedy);
        }
        assert_eq!(found(|report| check_exports(report, &EnvFile::default())), None);
    }

    #[test]
    fn another_user_than_the_units_is_reported() {
        let level = |is_another| found(|report| check_user(report, is_another)).map(|finding| finding.level);
        assert_eq!(level(true), Some(Level::Warn));
        assert_eq!(level(false), None);
    }

    #[test]
    fn settings_that_name_no_server_are_reported() {
        let level = |arguments: &[&str]| {
            let settings = Cli::parse_from([&["firehose-worker"], arguments].concat()).settings;
            found(|report| check_addresses(report, &settings)).map(|finding| finding.level)
        };
        assert_eq!(level(&["--redis-url=", "--database-url="]), Some(Level::Warn));
        assert_eq!(level(&["--redis-url=redis://h"]), None);
        assert_eq!(level(&["--database-url-file=/a/file"]), None);
        assert_eq!(level(&["--credentials=/run/credentials"]), None);
    }
}
