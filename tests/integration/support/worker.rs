//! The worker's binary as a child process.
//!
//! Its environment contains exactly what the test sets. Its stderr (the log) and stdout are files, so that a test can
//! read them while it runs, and a failure can show them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use super::process::{Process, tail};
use super::scratch;

const BINARY: &str = env!("CARGO_BIN_EXE_firehose-worker");

const NAME: &str = "firehose-worker";

/// How long a run that must end by itself may take.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// Lines of the log that a failing test shows.
const N_TAIL_LINES: usize = 60;

/// The SQL of the AppView's tables, as the worker prints it.
pub(crate) fn schema() -> String {
    let output = WorkerBuilder::new().arg("schema").run_to_exit();
    assert!(
        output.status.success(),
        "`schema` ends with {}:\n{}",
        output.status,
        output.log
    );
    output.stdout
}

/// A command line and an environment.
#[derive(Clone)]
pub(crate) struct WorkerBuilder {
    args: Vec<String>,
    env: Vec<(String, String)>,
}

/// What a run left behind.
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) log: String,
    pub(crate) stdout: String,
}

impl WorkerBuilder {
    /// No arguments; of the environment only the PATH.
    pub(crate) fn new() -> Self {
        let path = std::env::var_os("PATH")
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Self {
            args: Vec::new(),
            env: vec![("PATH".to_owned(), path)],
        }
    }

    /// Sets a variable; the last one of a name counts.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// The same environment for another command.
    pub(crate) fn without_args(mut self) -> Self {
        self.args.clear();
        self
    }

    pub(crate) fn spawn(self) -> Worker {
        self.spawn_with(|command, log| Process::spawn(NAME, command, log, libc::SIGKILL))
    }

    /// Starts it with another stderr than the file that `Worker::log` reads.
    pub(crate) fn spawn_with_stderr(self, stderr: impl Into<Stdio>) -> Worker {
        self.spawn_with(|command, log| Process::spawn_with_stderr(NAME, command, stderr.into(), log, libc::SIGKILL))
    }

    fn spawn_with(self, spawn: impl FnOnce(&mut Command, &Path) -> Process) -> Worker {
        let dir = scratch::directory("worker");
        let stdout = File::create(dir.join("stdout")).expect("a file for stdout");
        let mut command = Command::new(BINARY);
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env)
            .current_dir(&dir)
            .stdout(stdout);
        let process = spawn(&mut command, &dir.join("log"));
        Worker { process, dir }
    }

    /// Runs until the worker ends by itself; panics after two minutes.
    #[track_caller]
    pub(crate) fn run_to_exit(self) -> Output {
        let mut worker = self.spawn();
        let status = worker.wait_exit(RUN_LIMIT);
        Output {
            status,
            log: worker.log(),
            stdout: worker.stdout(),
        }
    }
}

/// A worker that runs, or has run; killed when it is dropped.
pub(crate) struct Worker {
    process: Process,
    dir: PathBuf,
}

impl Worker {
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Everything that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    pub(crate) fn stdout(&self) -> String {
        read(&self.dir.join("stdout"))
    }

    pub(crate) fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Kills the process with SIGKILL and waits until it has ended.
    pub(crate) fn kill(&mut self) {
        self.process.stop(libc::SIGKILL);
    }

    /// Whether it is still there.
    pub(crate) fn runs(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits for its end; panics with its log if that does not come within `limit`.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        match self.process.wait(limit) {
            Some(status) => status,
            None => panic!("the worker still runs after {limit:?}"), // Drop shows the log
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "--- log of worker {} ---\n{}\n---",
                self.pid(),
                tail(&self.log(), N_TAIL_LINES)
            );
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
