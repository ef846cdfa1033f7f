//! The program: reads the command line, runs what it asks for, and turns what came of it into an exit code.

use std::process::ExitCode;

use clap::Parser;
use firehose_worker::cli::{Cli, Command};
use firehose_worker::config::Config;
use firehose_worker::{logging, pipeline, repair, sql};

const FAILED: u8 = 1;
const UNUSABLE_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Schema { own: false }) => print(sql::SCHEMA),
        Some(Command::Schema { own: true }) => print(sql::OWN_SCHEMA),
        Some(Command::Repair(ref options)) => {
            with_config(&cli, |config| repair::run(config, options), |report| print(&report))
        }
        None => with_config(
            &cli,
            |config| pipeline::run(config, cli.drain),
            |()| {
                log::info!("stopped");
                ExitCode::SUCCESS
            },
        ),
    }
}

fn with_config<T>(
    cli: &Cli,
    run: impl FnOnce(Config) -> anyhow::Result<T>,
    finish: impl FnOnce(T) -> ExitCode,
) -> ExitCode {
    let config = match Config::new(&cli.settings) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(UNUSABLE_CONFIGURATION);
        }
    };
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
