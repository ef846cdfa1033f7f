//! Addresses with passwords: their sources, and that no password reaches the log.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::postgres::Database;
use crate::support::stack::shown;
use crate::support::{Output, PostgresServer, RedisServer, Stack, scratch};

/// Servers with passwords (PostgreSQL takes any), and files with their addresses.
struct Secrets {
    stack: Stack,
    dir: PathBuf,
}

impl Secrets {
    fn new(name: &str) -> Self {
        let redis = RedisServer::start_with(&["--requirepass", "hunter2redis"]);
        let stack = Stack::of(redis, Database::new(PostgresServer::shared(), name));
        let dir = scratch::directory("secrets");
        // As programs that write files do: with a newline at the end.
        fs::write(dir.join("redis_url"), format!("{}\n", redis_url(&stack))).expect("a file");
        fs::write(dir.join("database_url"), format!("{}\n", database_url(&stack))).expect("a file");
        Self { stack, dir }
    }

    fn path(&self, name: &str) -> String {
        text(&self.dir.join(name))
    }

    /// Runs with the harness's addresses taken away and these variables set, at the most talkative level.
    fn run(&self, variables: &[(&str, &str)]) -> Output {
        let worker = self.stack.worker().env("REDIS_URL", "").env("DATABASE_URL", "");
        let worker = worker
            .env("LOG_LEVEL", "NOTSET")
            .env("RUST_LOG", "trace")
            .arg("--drain");
        let worker = variables
            .iter()
            .fold(worker, |worker, (name, value)| worker.env(name, value));
        let output = worker.run_to_exit();
        let text = format!("{}{}", output.log, output.stdout);
        assert!(!text.contains("hunter2"), "a password is in the output:\n{text}");
        output
    }

    #[track_caller]
    fn assert_runs(&self, variables: &[(&str, &str)]) {
        let output = self.run(variables);
        assert_eq!(output.status.code(), Some(0), "{}", shown(&output.log));
    }

    #[track_caller]
    fn assert_unusable(&self, variables: &[(&str, &str)], words: &[&str]) {
        let output = self.run(variables);
        assert_eq!(output.status.code(), Some(2), "{}", shown(&output.log));
        let lines: Vec<&str> = output.log.lines().collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            words.iter().all(|word| lines[0].contains(word)),
            "{} has not all of {words:?}",
            lines[0]
        );
    }
}

fn redis_url(stack: &Stack) -> String {
    stack.redis_url().replace("redis://", "redis://:hunter2redis@")
}

fn database_url(stack: &Stack) -> String {
    stack.database_url().replace("postgres@", "postgres:hunter2postgres@")
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn addresses_come_from_files_and_from_credentials() {
    let secrets = Secrets::new("secret_files");
    let (redis, database) = (secrets.path("redis_url"), secrets.path("database_url"));
    secrets.assert_runs(&[("REDIS_URL_FILE", &redis), ("DATABASE_URL_FILE", &database)]);
    let credentials = text(&secrets.dir);
    secrets.assert_runs(&[("CREDENTIALS_DIRECTORY", &credentials)]);
    // One of each, and a variable before the credential.
    let url = redis_url(&secrets.stack);
    secrets.assert_runs(&[("CREDENTIALS_DIRECTORY", &credentials), ("REDIS_URL", &url)]);
}

#[test]
fn a_file_beside_its_variable_or_a_file_that_cannot_be_read_is_unusable() {
    let secrets = Secrets::new("secret_faults");
    let (redis, database) = (secrets.path("redis_url"), secrets.path("database_url"));
    let (redis_url, database_url) = (redis_url(&secrets.stack), database_url(&secrets.stack));
    let good = ("DATABASE_URL_FILE", database.as_str());
    for (variables, words) in [
        (
            vec![("REDIS_URL", redis_url.as_str()), ("REDIS_URL_FILE", &redis), good],
            vec!["REDIS_URL and REDIS_URL_FILE"],
        ),
        (
            vec![("DATABASE_URL", database_url.as_str()), good],
            vec!["DATABASE_URL and DATABASE_URL_FILE"],
        ),
        (
            vec![("REDIS_URL_FILE", "/not/there"), good],
            vec!["REDIS_URL", "/not/there", "No such file"],
        ),
        (vec![("REDIS_URL_FILE", "/dev/null"), good], vec!["REDIS_URL", "empty"]),
    ] {
        secrets.assert_unusable(&variables, &words);
    }
}

#[test]
fn passwords_in_parameters_and_in_key_value_pairs_are_in_no_log() {
    let secrets = Secrets::new("secret_forms");
    let redis = format!("{}?password=hunter2redis&socket_timeout=5", secrets.stack.redis_url());
    let database = format!(
        "host=127.0.0.1 port={} user=postgres dbname={} password='hunter2 postgres' gssencmode=disable",
        secrets.stack.database.server().port(),
        secrets.stack.database.name()
    );
    secrets.assert_runs(&[("REDIS_URL", &redis), ("DATABASE_URL", &database)]);
    // A text that is not an address may be a misplaced password.
    secrets.assert_unusable(&[("REDIS_URL", "hunter2"), ("DATABASE_URL", &database)], &["REDIS_URL"]);
    secrets.assert_unusable(
        &[
            ("REDIS_URL", &redis),
            ("DATABASE_URL", "postgresql://me:12/hunter2@h/db"),
        ],
        &["DATABASE_URL", "%2F"],
    );
}
