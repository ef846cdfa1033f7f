//! The program: reads the command line, runs what it asks for, and turns what came of it into an exit code.

use std::process::ExitCode;

use clap::Parser;
use firehose_worker::cli::{Cli, Command, DeadLetters};
use firehose_worker::config::Config;
use firehose_worker::{commands, logging, pipeline, repair, sql};

const FAILED: u8 = 1;
const UNUSABLE_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
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
        Some(Command::DeadLetters { action }) => dead_letters(&config, action),
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

/// What a person asks for: the answer on stdout, an error on stderr, no log.
fn dead_letters(config: &Config, action: &DeadLetters) -> ExitCode {
    match commands::dead_letters::run(config, action) {
        Ok(()) => ExitCode::SUCCESS,
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
