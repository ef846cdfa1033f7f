//! The program: parses the command line, runs the command, and maps its result to an exit code.

#![warn(clippy::print_stdout, clippy::print_stderr)] // they panic if the reader has closed, and block if it stalls

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use firehose_worker::commands::{self, prune, repair, unit_user};
use firehose_worker::consumer;
use firehose_worker::consumer::position::Unusable;
use firehose_worker::logging;
use firehose_worker::logging::{shown, stderr};
use firehose_worker::pipeline;
use firehose_worker::postgres::sql;
use firehose_worker::runtime::heap;
use firehose_worker::settings::cli::{Cli, Command};
use firehose_worker::settings::config::Config;
use firehose_worker::settings::consumer::ConsumerConfig;
use firehose_worker::settings::env_file::{self, EnvFile};
use firehose_worker::settings::known_consumer::KnownConsumer;
use firehose_worker::settings::validate::Faults;
use log::LevelFilter;

const FAILED: u8 = 1;
const UNUSABLE_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    heap::return_freed();
    let settings = read_settings();
    // Not earlier: the user and the environment may change only while there is no other thread.
    let _flushed = stderr::start();
    let Read { cli, file, consumer } = match settings {
        Ok(read) => read,
        Err(fault) => return unusable(&fault),
    };
    let config = match &cli.command {
        Some(Command::Consume(settings)) => return consume(ConsumerConfig::new(settings)),
        Some(Command::Schema { statements: true, .. }) => return print(&sql::describe()),
        Some(Command::Schema { own: false, .. }) => return print(sql::SCHEMA),
        Some(Command::Schema { own: true, .. }) => return print(sql::OWN_SCHEMA),
        _ => Config::new(&cli.settings),
    };
    let config = match config {
        Ok(config) => config,
        Err(faults) => return unusable(&faults.to_string()),
    };
    match &cli.command {
        Some(Command::DeadLetters { action }) => exit_code(commands::dead_letters::run(&config, action).map(|()| true)),
        Some(Command::SetAside { action }) => exit_code(commands::set_aside::run(&config, action).map(|()| true)),
        Some(Command::Status { watch, json }) => {
            let interval = watch.map(Duration::from_secs);
            exit_code(commands::status::run(&config, consumer.as_ref(), interval, *json).map(|()| true))
        }
        Some(Command::Check { json }) => {
            exit_code(commands::check::run(&config, &cli.settings, &file, consumer, *json))
        }
        Some(Command::Repair(options)) => logged(
            config.log_level,
            || repair::run(config, options),
            |report| print(&report),
        ),
        Some(Command::Fill(options)) => logged(
            config.log_level,
            || commands::fill::run(config, options),
            |summary| print(&summary),
        ),
        Some(Command::Prune(options)) => match options.older_than {
            None => unusable("--older-than, or PRUNE_OLDER_THAN, is missing: give an age, such as 14d"),
            Some(age) => logged(
                config.log_level,
                || prune::run(config, options, age),
                |report| print(&report),
            ),
        },
        _ => logged(config.log_level, || pipeline::run(config, cli.drain), stopped),
    }
}

/// The settings, and where they come from.
struct Read {
    cli: Cli,
    file: EnvFile,
    /// For the commands that look at the consumer too.
    consumer: Option<KnownConsumer>,
}

/// Parses the command line together with the settings file, if there is one. A command that reads the units' settings
/// continues as the units' user.
fn read_settings() -> Result<Read, String> {
    let cli = Cli::try_parse().map_err(refused)?;
    let file = match (&cli.env_file, &cli.command) {
        (_, Some(Command::Schema { .. })) | (None, None | Some(Command::Consume(_))) => {
            return Ok(Read {
                cli,
                file: EnvFile::default(),
                consumer: None,
            });
        }
        (Some(path), _) => {
            EnvFile::read(path).map_err(|error| shown::one_line(&format!("--env-file is unusable: {error}")))?
        }
        (None, Some(_)) => env_file::of_the_unit(),
    };
    warn_of(&file);
    let sees_consumer = matches!(cli.command, Some(Command::Check { .. } | Command::Status { .. }));
    let is_of_units = cli.env_file.is_none() && !env_file::names_servers();
    let consumers_file = match sees_consumer && is_of_units {
        true => env_file::of_the_consumers_unit(),
        false => None,
    };
    consumers_file.iter().for_each(warn_of);
    if file.is_of_unit() && cli.command.is_some() {
        unit_user::become_it().map_err(|error| format!("failed to become the unit's user: {error}; try --env-file"))?;
    }
    let matches = file.matches(Cli::command()).map_err(refused)?;
    let cli = Cli::from_arg_matches(&matches).map_err(refused)?;
    let consumer = match consumers_file {
        Some(consumers_file) => Some(KnownConsumer::of_unit(consumers_file).map_err(refused)?),
        None if sees_consumer && !is_of_units => KnownConsumer::beside(&cli.settings, &file).map_err(refused)?,
        None => None,
    };
    Ok(Read { cli, file, consumer })
}

fn warn_of(file: &EnvFile) {
    for warning in &file.warnings {
        stderr::print(&format!("warning: settings file: {warning}"));
    }
}

/// The error text for an unusable command line. Prints help or version and exits if the command line requests that.
fn refused(error: clap::Error) -> String {
    if !error.use_stderr() {
        error.exit();
    }
    // A line feed in an argument must not forge a line of clap's message.
    let has_lines = std::env::args_os().any(|argument| argument.to_string_lossy().contains('\n'));
    match has_lines {
        true => shown::one_line(&error.to_string()),
        false => error.to_string(),
    }
}

fn unusable(fault: &str) -> ExitCode {
    stderr::print(fault);
    ExitCode::from(UNUSABLE_CONFIGURATION)
}

/// The exit code of a command that prints to stdout and does not log: 1 after an error, which it prints to stderr, or
/// if the result is `false`.
fn exit_code(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            stderr::print(&shown::one_line(&format!("{error:#}")));
            ExitCode::from(FAILED)
        }
    }
}

/// Runs a command that logs, and logs its failure.
fn logged<T>(
    level: LevelFilter,
    run: impl FnOnce() -> anyhow::Result<T>,
    finish: impl FnOnce(T) -> ExitCode,
) -> ExitCode {
    logging::start(level);
    match run() {
        Ok(value) => finish(value),
        Err(error) => {
            log::error!("failed: {error:#}");
            ExitCode::from(match error.is::<Unusable>() {
                true => UNUSABLE_CONFIGURATION,
                false => FAILED,
            })
        }
    }
}

/// Runs the firehose consumer.
fn consume(config: Result<ConsumerConfig, Faults>) -> ExitCode {
    match config {
        Ok(config) => logged(config.log_level, || consumer::run(config), stopped),
        Err(faults) => unusable(&faults.to_string()),
    }
}

fn stopped((): ()) -> ExitCode {
    log::info!("stopped");
    ExitCode::SUCCESS
}

/// Prints lines on stdout.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    let lines: String = text.lines().map(|line| shown::harmless(line) + "\n").collect();
    // Fails if the reader has closed the pipe, as `head` does.
    match std::io::stdout().write_all(lines.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}
