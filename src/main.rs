//! The program: reads the command line, runs what it asks for, and turns what came of it into an exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use firehose_worker::commands::{self, repair, unit_user};
use firehose_worker::pipeline;
use firehose_worker::report::logging;
use firehose_worker::servers::sql;
use firehose_worker::settings::cli::{Cli, Command};
use firehose_worker::settings::config::Config;
use firehose_worker::settings::env_file::{self, EnvFile};

const FAILED: u8 = 1;
const UNUSABLE_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let (cli, file) = match read_settings(Cli::parse()) {
        Ok(read) => read,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(UNUSABLE_CONFIGURATION);
        }
    };
    let config = match &cli.command {
        Some(Command::Schema { own: false }) => return print(sql::SCHEMA),
        Some(Command::Schema { own: true }) => return print(sql::OWN_SCHEMA),
        _ => Config::new(&cli.settings),
    };
    let config = match config {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(UNUSABLE_CONFIGURATION);
        }
    };
    match &cli.command {
        Some(Command::DeadLetters { action }) => told(commands::dead_letters::run(&config, action).map(|()| true)),
        Some(Command::Status { watch, json }) => {
            let interval = watch.map(Duration::from_secs);
            told(commands::status::run(&config, interval, *json).map(|()| true))
        }
        Some(Command::Check { json }) => told(commands::check::run(&config, &cli.settings, &file, *json)),
        Some(Command::Repair(options)) => {
            logged(config, |config| repair::run(config, options), |report| print(&report))
        }
        _ => logged(
            config,
            |config| pipeline::run(config, cli.drain),
            |()| {
                log::info!("stopped");
                ExitCode::SUCCESS
            },
        ),
    }
}

/// The command line again, with the values of a settings file, if there is one, and that file. Who asks with the unit's
/// settings asks as the unit's user.
fn read_settings(cli: Cli) -> Result<(Cli, EnvFile), String> {
    let file = match (&cli.env_file, &cli.command) {
        (_, Some(Command::Schema { .. })) | (None, None) => return Ok((cli, EnvFile::default())),
        (Some(path), _) => EnvFile::read(path).map_err(|error| format!("--env-file is unusable: {error}"))?,
        (None, Some(_)) => env_file::of_the_unit(),
    };
    for warning in &file.warnings {
        eprintln!("warning: settings file: {warning}");
    }
    if file.is_of_unit && cli.command.is_some() {
        unit_user::become_it().map_err(|error| format!("failed to become the unit's user: {error}; try --env-file"))?;
    }
    let cli = Cli::from_arg_matches(&file.matches(Cli::command())).map_err(|error| error.to_string())?;
    Ok((cli, file))
}

/// What a person asks for: the answer on stdout, an error on stderr, no log. Whether all is well is the exit code.
fn told(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// What runs for long: it and its failure are in the log.
fn logged<T>(
    config: Config,
    run: impl FnOnce(Config) -> anyhow::Result<T>,
    finish: impl FnOnce(T) -> ExitCode,
) -> ExitCode {
    logging::start(config.log_level);
    match run(config) {
        Ok(value) => finish(value),
        Err(error) => {
            log::error!("failed: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    // A reader that has gone, as `head` does, wants no more of it.
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}
