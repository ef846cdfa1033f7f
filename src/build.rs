//! Build script: what goes beside the code.
//!
//! Owns the git revision in the version, and the man pages and shell completions, which are made from `cli` into
//! `assets` beside the binary (target/release/assets), where the package takes them from.

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
#[allow(dead_code, reason = "the program uses the rest")]
#[path = "entry.rs"]
mod entry;

/// What the binary is built from: a change of these is looked for in git.
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

/// The folder of the binary: cargo gives a build script `<there>/build/<package>/out`.
fn assets() -> Result<PathBuf, Box<dyn Error>> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
    let profile = out.ancestors().nth(3).ok_or("OUT_DIR is not below a build folder")?;
    Ok(profile.join("assets"))
}

/// The commit that is checked out, and whether the sources differ from it; `None` outside the project's own repository.
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

/// The files that change with a commit or a checkout. One that is not there would have cargo run this each time.
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

/// What git answers; `None` where there is no git or it says no.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = output.status.success().then_some(output.stdout)?;
    Some(String::from_utf8(text).ok()?.trim_end().to_owned())
}

/// A page for each command, that of the program itself with what its options do not tell.
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

/// Writes a page as packages carry it: compressed, and the same bytes for the same page.
fn write_compressed(path: &Path, page: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut compressed = GzBuilder::new().write(fs::File::create(path)?, Compression::best());
    compressed.write_all(page)?;
    compressed.finish()?;
    Ok(())
}

/// The environment: the variable of each setting, and those that no setting stands for.
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
            "Set by systemd. Readiness, status and signs of life are sent there.",
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
                "Stop: what has been read is applied, acknowledged and counted, within STOP_TIMEOUT_MS. What does not \
                 finish stays pending for the next start.",
            ),
            (
                "a second one",
                "Exit at once with 143; what is unfinished stays pending.",
            ),
        ],
    );
    section(
        "EXIT STATUS",
        &[
            ("0", "Stopped, or all is drained."),
            ("1", "Failed; systemd starts it again."),
            ("2", "The configuration is unusable; systemd does not start it again."),
        ],
    );
    let variables = variables();
    let variables: Vec<_> = variables.iter().map(|(name, text)| (&name[..], &text[..])).collect();
    section("ENVIRONMENT", &variables);
    section(
        "FILES",
        &[(
            "/etc/default/firehose-worker",
            "The variables for the systemd units. Lines are NAME=value; systemd takes no export. Readable by root \
             alone, since it may hold passwords.",
        )],
    );
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("systemctl(1), journalctl(1), redis-cli(1), psql(1)")]);
    roff
}
