//! What a command that has the worker's settings can know of the consumer's.
//!
//! Owns where they come from, and whether they show that a consumer of this program is in use. If the worker's settings
//! are those of its unit, the consumer's are those of the other unit. Otherwise both share one environment, in which
//! the variables of another producer may be meant for that one.

use clap::{Args, Command, FromArgMatches};

use super::cli::Settings;
use super::consumer_args::ConsumerSettings;
use super::env_file::EnvFile;

/// What shows that a consumer of this program is in use, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    Nothing,
    /// A variable that other producers' settings have too.
    Shared,
    /// A variable that only this program knows, or any in the file of the consumer's unit.
    Own,
}

/// The consumer's settings.
#[derive(Debug)]
pub struct KnownConsumer {
    pub settings: ConsumerSettings,
    pub evidence: Evidence,
    /// The file of the consumer's unit, if they come from there.
    pub file: EnvFile,
}

impl KnownConsumer {
    /// The settings of the consumer's unit, of which this is the file.
    ///
    /// # Errors
    ///
    /// As for `read`.
    pub fn of_unit(file: EnvFile) -> clap::error::Result<KnownConsumer> {
        let evidence = match variables().any(|variable| file.variables.contains_key(&variable)) {
            true => Evidence::Own,
            false => evidence(&EnvFile::default()),
        };
        Ok(KnownConsumer {
            settings: read(&file)?,
            evidence,
            file,
        })
    }

    /// The settings in the environment and the file that the worker's come from. `None` if there is none of the
    /// consumer's among them.
    ///
    /// # Errors
    ///
    /// As for `read`.
    pub fn beside(worker: &Settings, file: &EnvFile) -> clap::error::Result<Option<KnownConsumer>> {
        let evidence = evidence(file);
        if evidence == Evidence::Nothing {
            return Ok(None);
        }
        // The worker's may have come from flags.
        let settings = ConsumerSettings {
            redis: worker.redis.clone(),
            credentials: worker.credentials.clone(),
            redis_stream_key: worker.redis_stream_key.clone(),
            redis_consumer_group: worker.redis_consumer_group.clone(),
            redis_max_stream_len: worker.redis_max_stream_len.clone(),
            ..read(file)?
        };
        Ok(Some(KnownConsumer {
            settings,
            evidence,
            file: EnvFile::default(),
        }))
    }
}

fn command() -> Command {
    ConsumerSettings::augment_args(Command::new("consume"))
}

/// The variables of all settings.
fn variables() -> impl Iterator<Item = String> {
    let command = command();
    let variables: Vec<String> = command
        .get_arguments()
        .filter_map(|setting| Some(setting.get_env()?.to_str()?.to_owned()))
        .collect();
    variables.into_iter()
}

/// The settings of the environment and the file.
///
/// # Errors
///
/// Fails if clap rejects a value.
fn read(file: &EnvFile) -> clap::error::Result<ConsumerSettings> {
    let matches = file.with_defaults(command()).try_get_matches_from(["consume"])?;
    ConsumerSettings::from_arg_matches(&matches)
}

fn evidence(file: &EnvFile) -> Evidence {
    let of = |variable: String| match variable.as_str() {
        _ if !file.sets(&variable) => Evidence::Nothing,
        "RELAY_URL" | "ADDITIONAL_RELAY_URLS" | "REDIS_CURSOR_KEY" => Evidence::Shared,
        name if name.starts_with("FIREHOSE_") => Evidence::Own,
        _ => Evidence::Nothing,
    };
    variables().map(of).max().unwrap_or(Evidence::Nothing)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use clap::Parser;

    use super::*;
    use crate::settings::cli::Cli;

    fn file(variables: &[(&str, &str)]) -> EnvFile {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        EnvFile {
            variables: variables.collect::<HashMap<_, _>>(),
            ..EnvFile::default()
        }
    }

    #[test]
    fn a_shared_file_shows_a_consumer_by_its_own_variables_and_less_by_those_of_other_producers() {
        let worker = Cli::parse_from(["firehose-worker", "--redis-url=redis://flag"]).settings;
        let beside = |variables| KnownConsumer::beside(&worker, &file(variables)).unwrap();
        // The AppView has a FIREHOSE_ENABLED.
        let of_the_appview = [
            ("REDIS_URL", "redis://h"),
            ("FIREHOSE_ENABLED", "true"),
            ("RELAY_URL", ""),
        ];
        assert!(beside(&of_the_appview[..]).is_none());
        let shared = beside(&[("RELAY_URL", "wss://relay")][..]).unwrap();
        assert_eq!(shared.evidence, Evidence::Shared);
        assert_eq!(shared.settings.relay_url, "wss://relay");
        assert_eq!(shared.settings.redis.redis_url, "redis://flag");
        let own = beside(&[("RELAY_URL", "wss://relay"), ("FIREHOSE_START", "oldest")][..]).unwrap();
        assert_eq!(own.evidence, Evidence::Own);
    }

    #[test]
    fn the_units_file_shows_a_consumer_by_any_variable() {
        let unit = |variables| KnownConsumer::of_unit(file(variables)).unwrap();
        assert_eq!(unit(&[("REDIS_URL", "redis://h")][..]).evidence, Evidence::Own);
        let empty = unit(&[][..]);
        assert_eq!(empty.evidence, Evidence::Nothing);
        assert_eq!(empty.settings.relay_url, "wss://bsky.network");
    }
}
