//! A test's private Redis server.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::process::{Process, free_port, tail};
use super::scratch;
use super::wait::wait_until;

/// How often to start: another process may take the port between the check and the start.
const N_PORTS_TRIED: usize = 5;

pub(crate) struct RedisServer {
    port: u16,
    dir: PathBuf,
    args: Vec<String>,
    /// Bytes that a file of the server may have.
    file_limit: Option<u64>,
    process: Mutex<Option<Process>>,
}

impl RedisServer {
    /// Starts a server that keeps nothing on disk.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments, which come after (so override) `--save "" --appendonly no`.
    pub(crate) fn start_with(args: &[&str]) -> Self {
        for _ in 0..N_PORTS_TRIED {
            let server = Self::not_started(args);
            if server.try_start() {
                return server;
            }
        }
        panic!("redis-server does not start; see above");
    }

    /// A server with its port and directory that `restart` is yet to start.
    pub(crate) fn not_started(args: &[&str]) -> Self {
        Self {
            port: free_port(),
            dir: scratch::directory("redis"),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            file_limit: None,
            process: Mutex::new(None),
        }
    }

    /// The same for one whose disk takes no file beyond so many bytes; `restart` is yet to start it.
    pub(crate) fn with_file_limit(bytes: u64, args: &[&str]) -> Self {
        Self {
            file_limit: Some(bytes),
            ..Self::not_started(args)
        }
    }

    /// Starts the server again without the arguments that rename these commands.
    pub(crate) fn know_again(&mut self, commands: &[&str]) {
        for command in commands {
            let is_of_it = |words: &[String]| words[0] == "--rename-command" && words[1] == *command;
            let at = self
                .args
                .windows(2)
                .position(is_of_it)
                .expect("a command that was renamed");
            // The option, the command, and its new name.
            self.args.drain(at..at + 3);
        }
        self.restart();
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.with_process(|process| process.pid())
    }

    /// A new connection; panics where the server does not answer.
    pub(crate) fn connection(&self) -> redis::Connection {
        self.try_connection()
            .unwrap_or_else(|error| panic!("no connection to {}: {error}", self.url()))
    }

    pub(crate) fn try_connection(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url())?.get_connection()
    }

    /// Sends the server a signal: SIGSTOP makes it hang, SIGCONT go on.
    pub(crate) fn signal(&self, signal: i32) {
        self.with_process(|process| process.signal(signal));
    }

    /// Changes a setting of the running server.
    pub(crate) fn configure(&self, name: &str, value: &str) {
        redis::cmd("CONFIG")
            .arg(&["SET", name, value])
            .exec(&mut self.connection())
            .unwrap_or_else(|error| panic!("CONFIG SET {name}: {error}"));
    }

    /// Stops the server as `SHUTDOWN` does: what it keeps on disk is complete.
    pub(crate) fn stop(&self) {
        self.end(libc::SIGTERM);
    }

    /// Kills the server.
    pub(crate) fn kill(&self) {
        self.end(libc::SIGKILL);
    }

    /// Starts the server again, on the same port and directory; stops it before if it runs.
    pub(crate) fn restart(&self) {
        self.end(libc::SIGTERM);
        assert!(self.try_start(), "redis-server does not start again; see above");
    }

    /// Keeps what the server holds now, for `go_back`.
    pub(crate) fn keep(&self) {
        redis::cmd("SAVE").exec(&mut self.connection()).expect("SAVE");
        self.copy("dump.rdb", "kept.rdb");
    }

    /// Has the server crash, and come back with what it held at the last `keep`.
    pub(crate) fn go_back(&self) {
        self.kill();
        self.copy("kept.rdb", "dump.rdb");
        assert!(self.try_start(), "redis-server does not start again; see above");
    }

    /// Bytes in the append-only file, for `cut_log`.
    pub(crate) fn log_length(&self) -> u64 {
        std::fs::metadata(self.append_only_file())
            .expect("an append-only file")
            .len()
    }

    /// Has the server crash, and come back with so much of its append-only file.
    pub(crate) fn cut_log(&self, length: u64) {
        self.kill();
        let file = std::fs::OpenOptions::new().write(true).open(self.append_only_file());
        file.and_then(|file| file.set_len(length))
            .expect("a shorter append-only file");
        assert!(self.try_start(), "redis-server does not start again; see above");
    }

    /// The one that Redis writes to: each rewrite begins another.
    fn append_only_file(&self) -> PathBuf {
        let files = std::fs::read_dir(self.dir.join("appendonlydir")).expect("append-only files");
        let paths = files.map(|file| file.expect("an append-only file").path());
        let number = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix("appendonly.aof.")?
                .strip_suffix(".incr.aof")?
                .parse()
                .ok()
        };
        let newest = paths.max_by_key(|path| number(path).unwrap_or(0_u64));
        newest.expect("an append-only file")
    }

    fn copy(&self, from: &str, to: &str) {
        std::fs::copy(self.dir.join(from), self.dir.join(to)).expect("a copy of the snapshot");
    }

    fn end(&self, signal: i32) {
        if let Some(mut process) = self.lock().take() {
            process.stop(signal);
        }
    }

    /// Whether the server started; if not, its log is printed.
    fn try_start(&self) -> bool {
        let log = self.dir.join("log");
        let mut process = Process::spawn("redis-server", &mut self.command(), &log, libc::SIGKILL);
        let mut runs = false;
        wait_until("redis-server answers", || {
            runs = self.answers();
            runs || process.ended().is_some()
        });
        if runs {
            *self.lock() = Some(process);
        } else {
            let output = std::fs::read_to_string(self.dir.join("stdout")).unwrap_or_default();
            eprintln!(
                "redis-server ended at start:\n{}{}",
                tail(&output, 20),
                tail(&process.log(), 20)
            );
        }
        runs
    }

    fn command(&self) -> Command {
        let stdout = std::fs::File::create(self.dir.join("stdout")).expect("a log file");
        let mut command = Command::new("redis-server");
        command
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--daemonize",
                "no",
            ])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(&self.dir)
            .args(&self.args)
            .stdout(Stdio::from(stdout));
        if let Some(bytes) = self.file_limit {
            // SAFETY: between fork and exec, and these calls only change the child: a write beyond the limit is an
            // error to it, and no signal.
            unsafe { command.pre_exec(move || limit_files(bytes)) };
        }
        command
    }

    /// A refusal for want of a password is an answer, too; one while it loads is not.
    fn answers(&self) -> bool {
        match self
            .try_connection()
            .and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection))
        {
            Ok(_) => true,
            Err(error) => error.code() == Some("NOAUTH"),
        }
    }

    fn with_process<T>(&self, act: impl FnOnce(&Process) -> T) -> T {
        act(self.lock().as_ref().expect("redis-server is stopped"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn limit_files(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: setrlimit reads the structure that it is given, signal takes no pointers.
    let is_done = unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) == 0
    };
    if is_done {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
