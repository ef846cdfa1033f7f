//! The program: reads the command line, runs the worker, and turns what came of it into an exit code.

use std::process::ExitCode;

use clap::Parser;
use firehose_worker::cli::{Cli, Command};
use firehose_worker::config::Config;
use firehose_worker::{logging, pipeline, sql};

const FAILED: u8 = 1;
const UNUSABLE_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Schema { own: false }) => print(sql::SCHEMA),
        Some(Command::Schema { own: true }) => print(sql::OWN_SCHEMA),
        None => run(&cli),
    }
}

fn run(cli: &Cli) -> ExitCode {
    let config = match Config::new(&cli.settings) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(UNUSABLE_CONFIGURATION);
        }
    };
    logging::start(config.log_level);
    match pipeline::run(config, cli.drain) {
        Ok(()) => {
            log::info!("stopped");
            ExitCode::SUCCESS
        }
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
