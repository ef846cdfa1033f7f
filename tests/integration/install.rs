//! The systemd units, and the script that installs without the package.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::scratch;
use crate::support::skip::skip;

const BINARY: &str = env!("CARGO_BIN_EXE_firehose-worker");

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

const UNITS: [&str; 4] = [
    "firehose-worker.service",
    "firehose-worker@.service",
    "firehose-consumer.service",
    "firehose-worker-prune.service",
];

const TIMER: &str = "firehose-worker-prune.timer";

fn unit(name: &str) -> String {
    fs::read_to_string(Path::new(PROJECT).join("systemd").join(name)).expect("a unit file")
}

/// The lines that systemd interprets.
fn settings(unit: &str) -> Vec<&str> {
    unit.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[track_caller]
fn install(arguments: &[&str]) {
    let output = run("bash", &[&["systemd/install.sh"], arguments].concat()).expect("bash runs");
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
}

/// Runs a program in the project's folder; `None` where there is no such program.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    Command::new(program).args(arguments).current_dir(PROJECT).output().ok()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("a folder's entry").path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

#[test]
fn the_template_unit_differs_from_the_plain_one_by_its_instance_alone() {
    let (plain, template) = (unit(UNITS[0]), unit(UNITS[1]));
    let of_instance = |line: &&str| line.contains("%i");
    let plain = settings(&plain);
    let template = settings(&template);
    let common: Vec<&&str> = template.iter().filter(|line| !of_instance(line)).collect();
    let expected: Vec<&&str> = plain
        .iter()
        .filter(|line| !line.starts_with("Description=") && !line.starts_with("ExecStart="))
        .collect();
    assert_eq!(common, expected);
    let instance: Vec<&str> = template.into_iter().filter(of_instance).collect();
    assert!(
        instance.contains(&"ExecStart=/usr/bin/firehose-worker --consumer-id=%i"),
        "{instance:?}"
    );
    assert_eq!(instance.len(), 3, "{instance:?}");
}

#[test]
fn systemd_finds_no_fault_with_the_units_and_little_exposed() {
    if run("systemd-analyze", &["--version"]).is_none() {
        return skip("systemd's own checks of the units", "systemd-analyze is not installed");
    }
    let folder = scratch::directory("units");
    fs::write(folder.join(TIMER), unit(TIMER)).expect("a unit file");
    for name in UNITS {
        let path = folder.join(name);
        let here = unit(name).replace("ExecStart=/usr/bin/firehose-worker", &format!("ExecStart={BINARY}"));
        fs::write(&path, here).expect("a unit file");
        let path = path.to_str().expect("a path of ASCII");
        let verified = run("systemd-analyze", &["verify", "--man=no", path]).expect("systemd-analyze runs");
        // Units of this machine may have faults of their own.
        assert!(!text(&verified).contains("firehose-"), "{}", text(&verified));
        // Tenths: 1.5.
        let arguments = ["security", "--offline=true", "--threshold=15", "--no-pager", path];
        let exposed = run("systemd-analyze", &arguments).expect("systemd-analyze runs");
        assert!(exposed.status.success(), "{}", text(&exposed));
    }
}

#[test]
fn the_pruning_unit_is_as_confined_as_the_worker_and_nothing_starts_it_by_itself() {
    let confined = |name| {
        let unit = unit(name);
        let from = unit.find("LimitCORE=").expect("the first of these settings");
        let to = unit.find("\n[Install]").unwrap_or(unit.len());
        settings(&unit[from..to])
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(confined(UNITS[3]), confined(UNITS[0]));
    assert!(!unit(UNITS[3]).contains("[Install]"), "the timer alone can be enabled");
    let timer = unit(TIMER);
    let of_timer = settings(&timer);
    for setting in ["OnCalendar=daily", "Persistent=true", "WantedBy=timers.target"] {
        assert!(of_timer.contains(&setting), "{timer}");
    }
}

#[test]
fn the_script_installs_keeps_settings_and_takes_all_away_again() {
    let root = scratch::directory("root");
    let to = ["--root", root.to_str().expect("a path of ASCII")];
    install(&[&to[..], &["--binary", BINARY]].concat());
    let [settings, consumer_settings] =
        ["firehose-worker", "firehose-consumer"].map(|name| root.join("etc/default").join(name));
    for settings in [&settings, &consumer_settings] {
        let mode = fs::metadata(settings).expect("the settings").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    for unit in UNITS {
        let unit = fs::read_to_string(root.join("etc/systemd/system").join(unit)).expect("a unit");
        assert!(unit.contains("\nExecStart=/usr/local/bin/firehose-worker"), "{unit}");
        assert!(
            unit.contains(" file:/usr/local/share/doc/firehose-worker/OPERATIONS.md\n"),
            "{unit}"
        );
    }
    assert!(
        root.join("etc/systemd/system").join(TIMER).exists(),
        "{:?}",
        files(&root)
    );
    for name in [
        "man/man1/firehose-worker.1.gz",
        "bash-completion/completions/firehose-worker",
        "doc/firehose-worker/OPERATIONS.md",
        "doc/firehose-worker/grafana-dashboard.json",
    ] {
        assert!(root.join("usr/local/share").join(name).exists(), "{:?}", files(&root));
    }

    fs::write(&settings, "LOG_LEVEL=DEBUG\n").expect("the settings");
    install(&[&to[..], &["--binary", BINARY]].concat());
    let kept = fs::read_to_string(&settings).expect("the settings");
    assert_eq!(kept, "LOG_LEVEL=DEBUG\n", "an upgrade keeps the settings");

    install(&[&to[..], &["--uninstall"]].concat());
    let mut left = files(&root);
    left.sort();
    assert_eq!(left, [consumer_settings, settings]);
    install(&[&to[..], &["--uninstall", "--purge"]].concat());
    assert_eq!(files(&root), Vec::<PathBuf>::new());
}

#[test]
fn the_version_names_the_revision_or_its_absence() {
    let output = run(BINARY, &["--version"]).expect("the worker runs");
    let version = text(&output);
    let (name, revision) = version.trim_end().split_once(" (").expect("a revision in parentheses");
    assert_eq!(name, concat!("firehose-worker ", env!("CARGO_PKG_VERSION")));
    let revision = revision.strip_suffix(')').expect("a closing parenthesis");
    let commit = revision.strip_suffix(", modified").unwrap_or(revision);
    let is_commit = commit.len() >= 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_commit || revision == "not built in its git repository", "{version}");
}

#[test]
fn the_packages_changelog_has_the_version() {
    let changelog = fs::read_to_string(Path::new(PROJECT).join("systemd/deb/changelog")).expect("the changelog");
    let first = changelog.lines().next().unwrap_or_default();
    let version = concat!("firehose-worker (", env!("CARGO_PKG_VERSION"), "-1) ");
    assert!(first.starts_with(version), "{first}");
}
