//! The looks at where the settings come from, and at what they come to.

use super::{Finding, Level, quoted};
use crate::commands::unit_user;
use crate::settings::cli::Settings;
use crate::settings::config::Config;
use crate::settings::env_file::{DEFAULT, EnvFile};

/// Looks at the file of settings, at the user, and at the configuration.
pub fn look(file: &EnvFile, settings: &Settings, config: &Config) -> Vec<Finding> {
    let asked = [exports(file), user(unit_user::is_another()), addresses(settings)];
    asked.into_iter().flatten().chain(servers(config)).collect()
}

/// Values that are used here, and that the unit does not see.
fn exports(file: &EnvFile) -> Option<Finding> {
    let lines: Vec<String> = file.exports.iter().map(usize::to_string).collect();
    let what = "settings file";
    if lines.is_empty() {
        return None;
    }
    let found = format!(
        "begins with export, which systemd leaves out: line {}",
        lines.join(", ")
    );
    let path = file.path.to_string_lossy();
    let remedy = format!(
        "take the word away: sed -i -E 's/^[[:space:]]*export +//' {}",
        quoted(&path)
    );
    Some(match file.is_of_unit() {
        true => finding(
            Level::Fail,
            what,
            format!("{found}; the unit does without these values"),
            remedy,
        ),
        false => finding(Level::Warn, what, format!("{found}, if a unit reads it"), remedy),
    })
}

fn user(is_another: bool) -> Option<Finding> {
    is_another.then(|| {
        finding(
            Level::Warn,
            "user",
            "this is not the unit's user, firehose-worker: peer authentication and files may answer that one otherwise",
            "sudo firehose-worker check, with the settings in /etc/default/firehose-worker and no address in the environment",
        )
    })
}

/// Whether any server is named. The unit may be given the addresses as credentials, which only it sees.
fn addresses(settings: &Settings) -> Option<Finding> {
    let is_named = [
        &settings.redis_url,
        &settings.redis_url_file,
        &settings.database_url,
        &settings.database_url_file,
    ]
    .iter()
    .any(|value| !value.trim().is_empty());
    (!is_named && settings.credentials.is_none()).then(|| {
        finding(
            Level::Warn,
            "addresses",
            "neither REDIS_URL nor DATABASE_URL is set: the defaults are looked at",
            format!(
                "set them in {DEFAULT}; if the unit has LoadCredential, name its files in REDIS_URL_FILE and DATABASE_URL_FILE \
                 for this command"
            ),
        )
    })
}

/// What the worker would run with.
fn servers(config: &Config) -> Vec<Finding> {
    let what = "configuration";
    let ok = |found| finding(Level::Ok, what, found, "");
    let servers: Vec<String> = config.postgres.servers.iter().map(ToString::to_string).collect();
    let database = config.postgres.config.get_dbname().unwrap_or("the user's own");
    let user = config.postgres.config.get_user().unwrap_or("the system's");
    let mut findings = vec![
        ok(format!("redis {}, user {}", config.redis, config.redis.user())),
        ok(format!(
            "postgresql {}, database {database}, user {user}",
            servers.join(", ")
        )),
        ok(format!(
            "consumer {} of group {} on {}; {} workers, up to {} entries a transaction",
            config.consumer, config.group, config.stream, config.workers, config.max_batch_entries
        )),
    ];
    let switches = [
        ("notifications", config.switches.notifications),
        ("post_viewer_states", config.switches.viewer_states),
        ("generic_records", config.switches.generic_records),
    ];
    let off = switches.iter().filter(|(_, is_on)| !is_on).map(|(name, _)| *name);
    let off: Vec<&str> = off.collect();
    if !off.is_empty() {
        findings.push(ok(format!("not written: {}", off.join(", "))));
    }
    for warning in &config.warnings {
        findings.push(finding(
            Level::Warn,
            what,
            warning.clone(),
            "mend it in the settings, or take it out",
        ));
    }
    findings
}

fn finding(level: Level, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding {
        level,
        what,
        found: found.into(),
        remedy: remedy.into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::settings::cli::Cli;

    #[test]
    fn exports_fail_in_the_units_file_and_warn_in_another() {
        let file = |path: &str| EnvFile {
            exports: vec![2, 7],
            path: path.into(),
            ..EnvFile::default()
        };
        for (path, level) in [(DEFAULT, Level::Fail), ("/etc/my settings", Level::Warn)] {
            let finding = exports(&file(path)).unwrap();
            assert_eq!(finding.level, level);
            assert!(finding.found.contains("line 2, 7"), "{}", finding.found);
            let ends_with_path = finding.remedy.trim_end_matches('\'').ends_with(path);
            assert!(ends_with_path, "{}", finding.remedy);
        }
        assert_eq!(exports(&EnvFile::default()), None);
    }

    #[test]
    fn another_user_than_the_units_is_told() {
        assert_eq!(user(true).map(|finding| finding.level), Some(Level::Warn));
        assert_eq!(user(false), None);
    }

    #[test]
    fn settings_that_name_no_server_are_told() {
        let settings = |arguments: &[&str]| Cli::parse_from([&["firehose-worker"], arguments].concat()).settings;
        let level = |arguments: &[&str]| addresses(&settings(arguments)).map(|finding| finding.level);
        assert_eq!(level(&["--redis-url=", "--database-url="]), Some(Level::Warn));
        assert_eq!(level(&["--redis-url=redis://h"]), None);
        assert_eq!(level(&["--database-url-file=/a/file"]), None);
        assert_eq!(level(&["--credentials=/run/credentials"]), None);
    }
}
