//! Validates values of settings.
//!
//! Owns the forms of numbers, switches, levels and addresses, and collects the faults, so that all are reported at once.
//! Each names the variable, its value (never a password), and what is allowed.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::{Args, Command};
use log::LevelFilter;

use crate::postgres::address::Database;
use crate::settings::cli::{DEFAULT_DATABASE_URL, DEFAULT_REDIS_URL};
use crate::settings::config::Accounts;
use crate::settings::secret::Secret;
use crate::{postgres, redis};

/// The faults of a configuration, one per line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Faults(pub Vec<String>);

/// Validates settings and collects their faults.
pub struct Check {
    /// The defaults of all settings.
    cli: Command,
    pub faults: Vec<String>,
    pub warnings: Vec<String>,
}

impl Check {
    /// `Settings` defines the defaults.
    pub fn new<S: Args>() -> Check {
        Check {
            cli: S::augment_args(Command::new("settings")),
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The value, or the setting's default if it is empty: an empty variable counts as unset.
    pub fn text(&self, variable: &str, value: &str) -> String {
        let mut settings = self.cli.get_arguments();
        let setting = settings.find(|setting| setting.get_env().is_some_and(|name| name == variable));
        let default = setting.and_then(|setting| setting.get_default_values().first()?.to_str());
        or_default(value, default.unwrap_or_default())
    }

    pub fn fault(&mut self, variable: &str, value: &str, allowed: &str) {
        let mut line = format!("{variable}=");
        // A value from a file may contain anything, but the message must stay on one line.
        for character in value.chars().take(100) {
            let _ = write!(line, "{}", character.escape_debug());
        }
        self.faults.push(format!("{line} is unusable: {allowed}"));
    }

    pub fn number<T>(&mut self, variable: &str, value: &str, allowed: RangeInclusive<T>) -> T
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

    pub fn switch(&mut self, variable: &str, value: &str) -> bool {
        let value = self.text(variable, value);
        switch(&value).unwrap_or_else(|| {
            self.fault(variable, &value, "true or false");
            true
        })
    }

    pub fn accounts(&mut self, variable: &str, value: &str) -> Accounts {
        let value = self.text(variable, value);
        match (value.to_ascii_lowercase().as_str(), switch(&value)) {
            ("local", _) => Accounts::Local,
            (_, Some(true)) => Accounts::All,
            (_, Some(false)) => Accounts::None,
            _ => {
                self.fault(variable, &value, "true, local or false");
                Accounts::All
            }
        }
    }

    pub fn level(&mut self, variable: &str, value: &str) -> LevelFilter {
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

    pub fn host_and_port(&mut self, variable: &str, value: &str) -> Option<String> {
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

    pub fn redis_url(&mut self, secret: &Secret) -> redis::address::Address {
        self.address(secret, DEFAULT_REDIS_URL, "redis://unused", redis::address::parse)
    }

    pub fn database_url(&mut self, secret: &Secret) -> Database {
        self.address(
            secret,
            DEFAULT_DATABASE_URL,
            "sslmode=disable",
            postgres::address::parse,
        )
    }

    /// The configuration, unless there are faults.
    pub fn finish<T>(self, config: T) -> Result<T, Faults> {
        match self.faults.is_empty() {
            true => Ok(config),
            false => Err(Faults(self.faults)),
        }
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

fn switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

pub fn or_default(value: &str, default: &str) -> String {
    let value = value.trim();
    if value.is_empty() { default } else { value }.to_owned()
}
