//! The build script.
//!
//! Owns the git revision in the version, and the man pages and shell completions. Those are generated from `cli` into
//! `assets` beside the binary (target/release/assets), from where they are packaged.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use flate2::{Compression, GzBuilder};

#[allow(dead_code, reason = "the program uses the rest")]
#[path = "settings/cli.rs"]
mod cli;
#[path = "settings/consumer_args.rs"]
mod consumer_args;
#[allow(dead_code, reason = "the program uses the rest")]
#[path = "entry.rs"]
mod entry;

/// The sources of the binary. Uncommitted changes to them mark the revision as modified.
const SOURCES: [&str; 4] = ["src", "sql", "Cargo.toml", "Cargo.lock"];

const NAME: &str = "firehose-worker";

fn main() -> Result<(), Box<dyn Error>> {
    for path in SOURCES {
        println!("cargo::rerun-if-changed={path}");
    }
    println!(
        "cargo::rustc-env=FIREHOSE_WORKER_VERSION={} ({})",
        env!("CARGO_PKG_VERSION"),
        revision().as_deref().unwrap_or("not built in its git repository")
    );
    let assets = assets()?;
    fs::create_dir_all(&assets)?;
    write_man_pages(&assets)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut cli::Cli::command(), NAME, &assets)?;
    }
    Ok(())
}

/// The directory of the binary. OUT_DIR is `build/<package>/out` below it.
fn assets() -> Result<PathBuf, Box<dyn Error>> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
    let profile = out.ancestors().nth(3).ok_or("OUT_DIR is not below a build folder")?;
    Ok(profile.join("assets"))
}

/// The commit that is checked out, with a mark if the sources differ from it. `None` outside the project's own
/// repository.
fn revision() -> Option<String> {
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?)
        .canonicalize()
        .ok()?;
    if top != Path::new(".").canonicalize().ok()? {
        return None;
    }
    watch_git();
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(commit + if changed.is_empty() { "" } else { ", modified" })
}

/// The files that change with a commit or a checkout. A file that does not exist is left out: cargo would run this
/// script at every build.
fn watch_git() {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let names = ["HEAD", "logs/HEAD", "packed-refs"]
        .into_iter()
        .chain(branch.as_deref());
    let paths = names.filter_map(|name| git(&["rev-parse", "--git-path", name]));
    for path in paths.filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// The output of git; `None` if git is not installed or fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = output.status.success().then_some(output.stdout)?;
    Some(String::from_utf8(text).ok()?.trim_end().to_owned())
}

/// Writes a man page for each command. That of the program itself also documents signals, exit codes and variables.
fn write_man_pages(assets: &Path) -> Result<(), Box<dyn Error>> {
    let command = cli::Cli::command().disable_help_subcommand(true);
    for subcommand in command.get_subcommands() {
        let name = format!("{NAME}-{}", subcommand.get_name());
        let mut page = Vec::new();
        Man::new(subcommand.clone().display_name(&name))
            .title(&name)
            .render(&mut page)?;
        write_compressed(&assets.join(name + ".1.gz"), &page)?;
    }
    let man = Man::new(command).manual("AT Protocol AppView");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    more_sections().to_writer(&mut page)?;
    write_compressed(&assets.join(format!("{NAME}.1.gz")), &page)
}

/// Writes a page compressed, as packages require it. The same page always gives the same bytes.
fn write_compressed(path: &Path, page: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut compressed = GzBuilder::new().write(fs::File::create(path)?, Compression::best());
    compressed.write_all(page)?;
    compressed.finish()?;
    Ok(())
}

/// The section on the environment: the variables of the settings, and those without a setting.
fn variables() -> Vec<(String, String)> {
    let command = cli::Cli::command();
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let settings = shown.filter_map(|argument| {
        let name = argument.get_env()?.to_str()?.to_owned();
        Some((name, format!("As --{}.", argument.get_long()?)))
    });
    let others = [
        (
            "RUST_LOG",
            "Refines LOG_LEVEL by module, as in firehose_worker::reader=debug.",
        ),
        (
            "NOTIFY_SOCKET, WATCHDOG_USEC",
            "Set by systemd. The worker sends its readiness, status and heartbeats there.",
        ),
    ];
    let others = others.map(|(name, text)| (name.to_owned(), text.to_owned()));
    settings.chain(others).collect()
}

fn more_sections() -> Roff {
    let mut roff = Roff::new();
    let mut section = |title: &str, items: &[(&str, &str)]| {
        roff.control("SH", [title]);
        for (name, text) in items {
            roff.control("TP", []);
            roff.text([bold(*name)]);
            roff.text([roman(*text)]);
        }
    };
    section(
        "SIGNALS",
        &[
            (
                "SIGTERM, SIGINT",
                "Stop: entries that have been read are applied, acknowledged and counted, within STOP_TIMEOUT_MS. Those \
                 that are not finished by then stay pending for the next start.",
            ),
            (
                "a second stop signal",
                "Exit at once with 143; unfinished entries stay pending.",
            ),
        ],
    );
    section(
        "EXIT STATUS",
        &[
            ("0", "Stopped, or drained the stream."),
            ("1", "Failed; systemd restarts the worker."),
            (
                "2",
                "The configuration is unusable; systemd does not restart the worker.",
            ),
        ],
    );
    let variables = variables();
    let variables: Vec<_> = variables.iter().map(|(name, text)| (&name[..], &text[..])).collect();
    section("ENVIRONMENT", &variables);
    section(
        "FILES",
        &[(
            "/etc/default/firehose-worker",
            "The variables of the systemd units, as lines of NAME=value; systemd ignores lines with export. Readable by \
             root only, because it may contain passwords.",
        )],
    );
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(
        "The operations manual, OPERATIONS.md in /usr/share/doc/firehose-worker (the package) or \
         /usr/local/share/doc/firehose-worker (install.sh). systemctl(1), journalctl(1), redis-cli(1), psql(1)",
    )]);
    roff
}
