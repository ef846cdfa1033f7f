//! The documentation agrees with the program: log lines, settings, metrics, keys, paths, links and commands.

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use redis::cmd;
use serde_json::Value;

use self::source::{Literal, SHORTEST, literals, pieces};
use crate::generator::Events;
use crate::prometheus::get;
use crate::support::consumer::Line;
use crate::support::process::free_port;
use crate::support::snapshot::tables_in;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::worker::Worker;
use crate::support::{Stack, scratch, wait_until};

static README: LazyLock<String> = LazyLock::new(|| read("README.md"));

static MANUAL: LazyLock<String> = LazyLock::new(|| read("systemd/OPERATIONS.md"));

const DOCUMENTS: [&str; 5] = [
    "README.md",
    "CHANGELOG.md",
    "systemd/OPERATIONS.md",
    "tests/README.md",
    "tests/integration/index.md",
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text below a heading, up to the next one of the same or a higher level.
#[track_caller]
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let start = text
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("there is no heading {heading}"));
    let rest = &text[start + heading.len() + 2..];
    let level = heading.bytes().take_while(|byte| *byte == b'#').count();
    let ends = (1..=level).filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level))));
    &rest[..ends.min().unwrap_or(rest.len())]
}

/// The cells of each row of the tables in a text, without the rows of their heads.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_head = |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with("|---"));
    let rows = lines
        .iter()
        .enumerate()
        .filter(|(at, line)| line.starts_with("| ") && !is_head(*at));
    let cells = |line: &str| {
        let line = line.replace("\\|", "\u{1}");
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('\u{1}', "|")).collect()
    };
    rows.map(|(_, line)| cells(line)).collect()
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The messages that the manual explains.
fn messages() -> Vec<String> {
    let rows = rows(section(&MANUAL, "## Log messages"));
    assert!(rows.len() > 20, "the table is not read: {rows:?}");
    let messages = rows.iter().flat_map(|row| quoted(&row[0]));
    messages.map(str::to_owned).collect()
}

#[test]
fn the_program_has_every_message_that_the_manual_explains() {
    let literals = literals();
    let is_literal = |pieces: &[&str]| literals.iter().any(|literal| literal.has(pieces));
    for message in messages() {
        let pieces = pieces(&message);
        assert!(
            is_literal(&pieces),
            "OPERATIONS.md explains {message:?}, and no string of src/ has {pieces:?} in this order"
        );
    }
}

#[test]
fn the_manual_explains_every_warning_of_the_program() {
    let messages = messages();
    let is_explained = |literal: &Literal| messages.iter().any(|message| literal.has(&pieces(message)));
    let literals = literals();
    let warnings: Vec<&Literal> = literals
        .iter()
        .filter(|literal| literal.is_warning)
        .filter(|literal| pieces(&literal.text).concat().len() >= SHORTEST)
        .collect();
    assert!(warnings.len() > 30, "the warnings are not found");
    let missing: Vec<&str> = warnings
        .into_iter()
        .filter(|literal| !is_explained(literal))
        .map(|literal| &literal.text[..])
        .collect();
    assert!(missing.is_empty(), "not in OPERATIONS.md: {missing:#?}");
}

#[test]
fn check_has_the_findings_that_the_manual_shows() {
    let sample = section(&MANUAL, "## Check")
        .split("```\n")
        .find(|block| block.starts_with("ok "))
        .expect("a sample");
    let mut findings: Vec<String> = Vec::new();
    for line in sample.lines().take_while(|line| !line.is_empty()) {
        match (line.starts_with(' '), findings.last_mut(), line.split_once(": ")) {
            (true, Some(finding), _) => *finding += &format!(" {}", line.trim()),
            (_, _, Some((_, found))) => findings.push(found.trim().to_owned()),
            _ => panic!("neither a finding nor its next line: {line}"),
        }
    }
    assert!(findings.len() >= 4, "{findings:?}");
    let literals = literals();
    for finding in findings {
        assert!(
            literals.iter().any(|literal| literal.may_make(&finding)),
            "no string of src/ makes {finding:?}, which OPERATIONS.md shows"
        );
    }
}

#[test]
fn every_file_that_the_documentation_names_exists() {
    let mut n_found = 0;
    for document in DOCUMENTS.iter().chain(&["src/lib.rs"]) {
        let text = read(document);
        let is_path = |text: &&str| {
            let folders = ["src/", "sql/", "tests/", "systemd/"];
            folders.iter().any(|folder| text.starts_with(folder)) && !text.contains(['*', ' ', '('])
        };
        for name in quoted(&text).filter(is_path) {
            assert!(path(name).exists(), "{document} names {name}, which does not exist");
            n_found += 1;
        }
    }
    assert!(n_found > 60, "only {n_found} paths are found");
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_of_the_documentation_leads_to_a_file_and_a_heading() {
    let mut n_found = 0;
    for document in DOCUMENTS {
        let text = read(document);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("https://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => path(document),
                file => path(document).parent().expect("a folder").join(file),
            };
            assert!(file.exists(), "{document} links to {target}, which does not exist");
            let linked = fs::read_to_string(&file).expect("a linked text");
            let has_heading = linked
                .lines()
                .any(|line| line.starts_with('#') && anchor(line) == heading);
            assert!(
                heading.is_empty() || has_heading,
                "{document} links to {target}: no such heading"
            );
            n_found += 1;
        }
    }
    assert!(n_found > 30, "only {n_found} links are found");
}

#[test]
fn the_readme_fits_250_lines_and_begins_with_the_demo_and_the_tests() {
    assert!(README.lines().count() <= 250, "{} lines", README.lines().count());
    let commands: Vec<&str> = README.lines().filter(|line| line.starts_with("bash ")).collect();
    assert_eq!(commands, ["bash tests/demo.sh", "bash tests/run.sh"]);
}

#[test]
fn the_readme_shows_settings_with_the_defaults_of_the_manual() {
    let manual = rows(section(&MANUAL, "## Settings"));
    let readme = rows(section(&README, "## Settings"));
    assert!(readme.len() >= 8, "the table is not read: {readme:?}");
    for row in readme {
        let is_same = |setting: &&Vec<String>| setting[..2] == row[..2];
        assert!(
            manual.iter().any(|setting| is_same(&setting)),
            "OPERATIONS.md has another {row:?}"
        );
    }
}

#[test]
fn the_readmes_command_takes_over_the_addresses_of_an_old_settings_file() {
    let command = README
        .lines()
        .find_map(|line| line.trim().strip_prefix("sudo sh -c \"")?.strip_suffix('"'))
        .expect("the command");
    let folder = scratch::directory("move");
    let (old, new) = (folder.join("env"), folder.join("default"));
    fs::write(
        &old,
        "# Redis\nexport REDIS_URL=redis://h:1\nSESSION_SECRET=s\n DATABASE_URL=postgresql://u:p@h/d\nBATCH_SIZE=10\n",
    )
    .expect("the old settings");
    fs::write(&new, read("systemd/firehose-worker.default")).expect("the new settings");
    let command = command
        .replace("/PATH/OF/THE/OLD/.env", &old.to_string_lossy())
        .replace("/etc/default/firehose-worker", &new.to_string_lossy());
    // As the shell hands it on from between the double quotes.
    let status = Command::new("sh").arg("-c").arg(&command).status().expect("a shell");
    assert!(status.success(), "{command}");
    let taken = fs::read_to_string(&new).expect("the new settings");
    let set: Vec<&str> = taken
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert_eq!(set, ["REDIS_URL=redis://h:1", "DATABASE_URL=postgresql://u:p@h/d"]);
}

/// The crate docs list every thread of a worker.
#[track_caller]
fn assert_lists_threads(worker: &Worker) {
    let docs = read("src/lib.rs").replace("//! ", "");
    let rows = rows(section(&docs, "# Threads"));
    let listed: BTreeSet<&str> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    let tasks = fs::read_dir(format!("/proc/{}/task", worker.pid())).expect("the threads");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    // Of those with a number the first is listed.
    let first_of = |name: String| match name.trim_end().rsplit_once("worker-") {
        Some((before, number)) if number.parse::<u32>().is_ok() => format!("{before}worker-0"),
        _ => name.trim_end().to_owned(),
    };
    let running: BTreeSet<String> = names.map(first_of).filter(|name| name != "firehose-worker").collect();
    assert!(running.len() > 10, "the threads are not found: {running:?}");
    let missing: Vec<&String> = running.iter().filter(|name| !listed.contains(&name[..])).collect();
    assert!(missing.is_empty(), "src/lib.rs does not list {missing:?}");
}

/// The metrics that a section of the manual lists.
fn metrics_in(heading: &str, prefix: &str) -> BTreeSet<String> {
    rows(section(&MANUAL, heading))
        .iter()
        .filter_map(|row| quoted(&row[0]).next()?.split('{').next())
        .filter(|name| name.starts_with(prefix))
        .map(|name| name.trim_end_matches("_total").to_owned())
        .collect()
}

/// The metrics that a process serves.
fn metrics_of(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(|name| name.trim_end_matches("_total").to_owned())
        .collect()
}

#[test]
fn the_documentation_lists_every_thread_every_metric_and_every_key_of_a_worker() {
    let stack = Stack::new("docs");
    let address = format!("127.0.0.1:{}", free_port());
    stack.push_events(Events::new(1, 5));
    stack.push("commit", serde_json::json!([]));
    let worker = stack.worker().env("METRICS_ADDR", &address).spawn();
    wait_until("the bad entry is counted", || {
        equal(stack.metric("cluster:metrics", "errors"), 1)
    });
    let (_, text) = get(&address, "/metrics").unwrap_or_else(|| panic!("no answer; {}", shown(&worker.log())));
    assert_lists_threads(&worker);
    let listed = metrics_in("## Prometheus", "firehose_worker_");
    assert_eq!(listed, metrics_of(&text), "{text}");

    // Those that a crash or a command makes, and those that are never made.
    let rare = ["tries", "check", "prune"];
    let kind = |key: &str| {
        key.strip_prefix("firehose:worker:")
            .and_then(|rest| Some(rest.split(':').next()?.to_owned()))
    };
    let rows_of_keys = rows(section(&MANUAL, "## Redis keys"));
    let listed: BTreeSet<String> = rows_of_keys
        .iter()
        .flat_map(|row| quoted(&row[0]))
        .filter_map(kind)
        .collect();
    let listed: BTreeSet<&str> = listed
        .iter()
        .map(|kind| &kind[..])
        .filter(|kind| !rare.contains(kind))
        .collect();
    wait_until("the worker has made its keys", || {
        let keys: Vec<String> = cmd("KEYS").arg("*").query(&mut stack.redis()).expect("the keys");
        let foreign = keys.iter().filter(|key| kind(key).is_none());
        let is_listed = |key: &&String| rows_of_keys.iter().any(|row| quoted(&row[0]).any(|name| name == *key));
        let unlisted: Vec<&String> = foreign.filter(|key| !is_listed(key)).collect();
        assert!(unlisted.is_empty(), "not in OPERATIONS.md: {unlisted:?}");
        let made: BTreeSet<String> = keys.iter().filter_map(|key| kind(key)).collect();
        equal(made.iter().map(|kind| &kind[..]).collect(), listed.clone())
    });
}

#[test]
fn the_documentation_lists_every_metric_of_the_consumer() {
    let line = Line::new();
    line.append(1, 5);
    let address = format!("127.0.0.1:{}", free_port());
    let consumer = line.consumer().env("METRICS_ADDR", &address).spawn();
    line.wait_until_read();
    let mut text = String::new();
    // It comes with the first event.
    wait_until("the lag is served", || {
        text = get(&address, "/metrics").map_or_else(String::new, |(_, text)| text);
        text.contains("\nfirehose_consumer_lag_seconds ")
    });
    let listed = metrics_in("## Firehose consumer", "firehose_consumer_");
    assert_eq!(listed, metrics_of(&text), "{}", shown(&consumer.log()));
}

#[test]
fn the_manual_lists_the_workers_own_tables() {
    let rows = rows(section(&MANUAL, "## Own tables"));
    let listed: BTreeSet<&str> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    let made: BTreeSet<&str> = tables_in(firehose_worker::postgres::sql::OWN_SCHEMA).collect();
    assert_eq!(listed, made);
}

#[test]
fn a_worker_does_all_it_has_to_as_the_postgresql_role_of_the_manual() {
    let stack = Stack::new("docs_role");
    let role = format!("role_{}", stack.database.name());
    let statements = MANUAL
        .split_once("### A role of its own")
        .and_then(|(_, rest)| rest.split("```").nth(1)?.strip_prefix("sql\n"))
        .expect("the statements")
        .replace("\"firehose-worker\"", &role)
        .replace("DATABASE atproto", &format!("DATABASE {}", stack.database.name()));
    stack.sql(&statements);
    let sent = stack.push_events(Events::new(2, 300));
    let url = stack.database_url().replace("postgres@", &format!("{role}@"));
    stack.drain_with(&[("DATABASE_URL", &url)]);
    stack.assert_counted(sent);
    stack.assert_counters_equal_rows();
    stack.sql(&format!("drop owned by {role}; drop role {role}"));
}

#[test]
fn the_redis_users_of_the_manual_may_do_all_that_the_worker_and_the_consumer_do() {
    let stack = Stack::new("docs_acl");
    stack.create_group();
    for (user, what) in [
        ("firehose-worker", "redis rights"),
        ("firehose-consumer", "consumer rights"),
    ] {
        let rule = section(&MANUAL, "## Check")
            .split("```\n")
            .find(|block| block.starts_with(&format!("ACL SETUSER {user} ")))
            .expect("the rule");
        let mut command = cmd("ACL");
        rule.split_whitespace().skip(1).for_each(|word| {
            command.arg(word);
        });
        command.exec(&mut stack.redis()).expect("ACL SETUSER");
        let url = stack
            .redis_url()
            .replace("redis://", &format!("redis://{user}:PASSWORD@"));
        let checked = stack
            .worker()
            .env("REDIS_URL", &url)
            .env("RELAY_URL", "ws://127.0.0.1:1")
            .arg("check")
            .arg("--json")
            .run_to_exit();
        let report: Value = serde_json::from_str(&checked.stdout).expect("a report");
        let findings = report["findings"].as_array().expect("findings");
        let rights = findings.iter().find(|finding| finding["what"] == what);
        assert_eq!(
            rights.map(|rights| &rights["level"]),
            Some(&Value::from("ok")),
            "{report:#}"
        );
    }
}
