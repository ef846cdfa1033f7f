//! What is checked with: settings of the environment and of a file.

use std::fs;

use super::{check, check_with};
use crate::support::worker::WorkerBuilder;
use crate::support::{Stack, scratch};

#[test]
fn a_good_stack_is_told_to_be_one_line_by_line() {
    let stack = Stack::new("check_good");
    stack.create_group();
    let checked = check(&stack, &[]);
    checked.assert_nothing_fails();
    for what in [
        "configuration",
        "redis",
        "redis role",
        "redis rights",
        "redis clock",
        "stream",
        "group",
        "backlog",
        "pending",
        "dead letters",
        "losses",
        "postgresql",
        "postgresql clock",
        "writing",
        "connections",
        "pooler",
        "tables",
        "keys",
        "rights",
        "statements",
    ] {
        checked.assert_finds("ok", what, &[]);
    }
    checked.assert_finds("warn", "redis persistence", &["appendonly yes"]);
    checked.assert_finds("warn", "worker", &["no process runs"]);
    checked.assert_finds("warn", "producer", &["start the firehose consumer"]);

    let output = stack.worker().arg("check").run_to_exit();
    assert_eq!(output.status.code(), Some(0), "{}", output.stdout);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines.len() > 20, "{}", output.stdout);
    assert!(
        lines[0].starts_with("ok    configuration:       redis 127.0.0.1:"),
        "{}",
        lines[0]
    );
    assert!(
        !output.stdout.contains('\x1b'),
        "colours without a terminal: {}",
        output.stdout
    );
}

#[test]
fn a_check_changes_nothing() {
    let stack = Stack::new("check_harmless");
    stack.create_group();
    stack.read_and_abandon("gone", 1);
    let keys = || -> Vec<String> {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut stack.redis()).expect("KEYS");
        keys.sort();
        keys
    };
    let (before, groups) = (keys(), stack.groups());
    let schemas = "select nspname from pg_namespace order by 1";
    let schemas_before = stack.query(schemas);
    check(&stack, &[]).assert_nothing_fails();
    assert_eq!(keys(), before);
    assert_eq!(stack.groups(), groups);
    assert_eq!(stack.query(schemas), schemas_before);
}

#[test]
fn settings_come_from_a_file_below_flags_and_the_environment() {
    let stack = Stack::new("check_env_file");
    let file = scratch::directory("settings").join("settings");
    let text = format!(
        "# settings\nexport REDIS_URL='{}'\nDATABASE_URL=\"{}\"\nCONSUMER_ID=of-the-file\nREDIS_CONSUMER_GROUP=of-the-file\n\
         PARALLEL_CONSUMERS=3\n",
        stack.redis_url(),
        stack.database_url()
    );
    fs::write(&file, text).expect("a file");
    let checked = check_with(
        WorkerBuilder::new()
            .env("REDIS_CONSUMER_GROUP", "of-the-environment")
            .env("CONSUMER_ID", "")
            .arg("--parallel-consumers=1")
            .arg("--env-file")
            .arg(file.to_str().expect("UTF-8")),
    );
    checked.assert_nothing_fails();
    checked.assert_finds(
        "ok",
        "configuration",
        &["of-the-file of group of-the-environment", "1 workers"],
    );
    checked.assert_finds("warn", "settings file", &["line 2", "sed"]);
    assert!(
        checked.output.log.contains("line 2 begins with export"),
        "{}",
        checked.output.log
    );
}

#[test]
fn settings_without_effect_are_told() {
    let stack = Stack::new("check_warnings");
    let url = format!("{}?socket_timeout=5", stack.redis_url());
    let settings = [("REDIS_URL", url.as_str()), ("DB_POOL_SIZE", "1")];
    let checked = check(&stack, &settings);
    checked.assert_finds(
        "warn",
        "configuration",
        &["DB_POOL_SIZE=1 allows only 1 of the 2 workers"],
    );
    checked.assert_finds("warn", "configuration", &["socket_timeout has no effect"]);
    checked.assert_nothing_fails();
}

#[test]
fn unusable_settings_exit_with_2() {
    for arguments in [
        vec!["--env-file", "/not/there", "check"],
        vec!["--parallel-consumers=0", "check"],
    ] {
        let worker = arguments
            .iter()
            .fold(WorkerBuilder::new(), |worker, argument| worker.arg(argument));
        let output = worker
            .env("REDIS_URL", "redis://127.0.0.1:1")
            .env("DATABASE_URL", "postgresql://127.0.0.1:1/db")
            .run_to_exit();
        assert_eq!(output.status.code(), Some(2), "{}{}", output.stdout, output.log);
        assert!(output.log.contains("unusable"), "{}", output.log);
    }
}

#[test]
fn passwords_are_in_no_line() {
    let stack = Stack::new("check_secrets");
    let database = stack.database_url().replace("postgres@", "postgres:hunter2@");
    let checked = check(
        &stack,
        &[
            ("DATABASE_URL", &database),
            ("REDIS_URL", "redis://me:hunter2@127.0.0.1:1"),
        ],
    );
    let said = format!("{}{}", checked.output.stdout, checked.output.log);
    assert!(!said.contains("hunter2"), "{said}");
    checked.assert_finds("fail", "redis", &["refused", "REDIS_URL"]);
}
