//! PostgreSQL clusters and databases for the tests.
//!
//! Most tests share one throw-away cluster per test process and have a database each, cloned from a template that the
//! worker's own `schema` command made. A test that stops or restarts the server starts one of its own.
//!
//! PostgreSQL refuses to run as root; where the tests are root, its programs run as `postgres` or `nobody`.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;

use postgres::{Client, NoTls};

use super::process::{Process, free_port, tail};
use super::scratch;
use super::wait::wait_until;
use super::worker;

const TEMPLATE: &str = "app_template";

/// How often to start: another process may take the port between the check and the start.
const N_PORTS_TRIED: usize = 5;

/// A time zone in which nothing is stored, so that a worker that relies on the server's zone fails the tests.
const SETTINGS: [(&str, &str); 7] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "300"),
    ("shared_buffers", "64MB"),
    ("max_wal_size", "512MB"),
    ("timezone", "Asia/Kolkata"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] %d "),
];

/// How a cluster is to run.
#[derive(Default)]
pub(crate) struct PostgresOptions {
    /// Whether what was committed survives the machine; only tests of that need it.
    pub(crate) fsync: bool,
    /// More server settings, which override the harness's.
    pub(crate) settings: Vec<(&'static str, String)>,
}

pub(crate) struct PostgresServer {
    dir: PathBuf,
    port: u16,
    /// Settings from the start on, and those of `configure`.
    settings: Mutex<Vec<(String, String)>>,
    process: Mutex<Option<Process>>,
    has_template: OnceLock<()>,
}

impl PostgresServer {
    /// The cluster that the tests of this process share; started by the first that asks.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<PostgresServer>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| Self::start(PostgresOptions::default())))
    }

    /// A new cluster for one test, which may stop and restart it.
    pub(crate) fn start(options: PostgresOptions) -> Arc<Self> {
        let mut server = Self::init(options);
        for _ in 0..N_PORTS_TRIED {
            if server.try_start() {
                return Arc::new(server);
            }
            server.port = free_port();
        }
        panic!("postgres does not start; see above");
    }

    /// A standby that asynchronously follows this server, which it reaches by that port. This one restarts for it.
    pub(crate) fn standby(&self, port: u16) -> Arc<Self> {
        let connection = ("primary_conninfo", format!("host=127.0.0.1 port={port} user=postgres"));
        let mut standby = Self::new(PostgresOptions {
            fsync: false,
            settings: vec![connection],
        });
        self.stop();
        let copy = Command::new("cp")
            .arg("-a")
            .arg(self.dir.join("data"))
            .arg(&standby.dir)
            .status();
        assert!(copy.is_ok_and(|status| status.success()), "cp -a of a cluster");
        fs::write(standby.dir.join("data/standby.signal"), "").expect("the mark of a standby");
        self.restart();
        for _ in 0..N_PORTS_TRIED {
            if standby.try_start() {
                return Arc::new(standby);
            }
            standby.port = free_port();
        }
        panic!("the standby does not start; see above");
    }

    /// Makes a standby a primary.
    pub(crate) fn promote(&self) {
        self.client("postgres")
            .batch_execute("select pg_promote()")
            .expect("a standby is promoted");
    }

    fn init(options: PostgresOptions) -> Self {
        let server = Self::new(options);
        let output = program("initdb", &server.dir)
            .args([
                "-D",
                "data",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--auth=trust",
                "--no-sync",
            ])
            .output()
            .expect("initdb runs");
        assert!(
            output.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        server
    }

    /// One without data yet.
    fn new(options: PostgresOptions) -> Self {
        let dir = scratch::directory("postgres");
        if let Some((uid, gid)) = lesser_user() {
            chown(&dir, Some(uid), Some(gid)).expect("root may give its directory away");
        }
        let mut settings: Vec<(String, String)> = SETTINGS
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if !options.fsync {
            settings.push(("fsync".to_owned(), "off".to_owned()));
        }
        settings.extend(
            options
                .settings
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        Self {
            dir,
            port: free_port(),
            settings: Mutex::new(settings),
            process: Mutex::new(None),
            has_template: OnceLock::new(),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The directory of the Unix socket.
    pub(crate) fn socket_dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn pid(&self) -> i32 {
        lock(&self.process).as_ref().expect("postgres is stopped").pid()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// A new session as superuser, with its times in UTC.
    pub(crate) fn client(&self, database: &str) -> Client {
        self.try_client(database)
            .unwrap_or_else(|error| panic!("no connection to {}: {error}", self.url(database)))
    }

    pub(crate) fn try_client(&self, database: &str) -> Result<Client, postgres::Error> {
        postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user("postgres")
            .dbname(database)
            .application_name("test harness")
            .options("-c timezone=UTC")
            .connect_timeout(std::time::Duration::from_secs(10))
            .connect(NoTls)
    }

    /// Sends a signal to the server's every process: SIGSTOP makes it hang, SIGCONT go on.
    pub(crate) fn signal_all(&self, signal: i32) {
        let server = self.pid();
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
        for pid in std::iter::once(server).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())) {
            // SAFETY: kill takes no pointers; the children are the server's, which has not ended and reaps them itself.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Stops as `pg_ctl stop -m fast`: sessions are ended, everything is written.
    pub(crate) fn stop(&self) {
        self.end(libc::SIGINT);
    }

    /// Stops as `pg_ctl stop -m immediate`, which is a crash: the next start recovers from the log.
    pub(crate) fn stop_immediate(&self) {
        self.end(libc::SIGQUIT);
    }

    /// Starts the server again on the same port and data; stops it before if it runs.
    pub(crate) fn restart(&self) {
        self.end(libc::SIGINT);
        assert!(self.try_start(), "postgres does not start again; see above");
    }

    /// Changes a setting from the next start on.
    pub(crate) fn configure(&self, name: &str, value: &str) {
        lock(&self.settings).push((name.to_owned(), value.to_owned()));
    }

    fn end(&self, signal: i32) {
        if let Some(mut process) = lock(&self.process).take() {
            process.stop(signal);
        }
    }

    /// Whether the server started; if not, its log is printed.
    fn try_start(&self) -> bool {
        let log = self.dir.join("log");
        // SIGQUIT stops at once, but unlike SIGKILL leaves no shared memory behind.
        let mut process = Process::spawn("postgres", &mut self.command(), &log, libc::SIGQUIT);
        let mut runs = false;
        wait_until("postgres answers", || {
            runs = self.try_client("postgres").is_ok();
            runs || process.ended().is_some()
        });
        if runs {
            *lock(&self.process) = Some(process);
        } else {
            eprintln!("postgres ended at start:\n{}", tail(&process.log(), 20));
        }
        runs
    }

    fn command(&self) -> Command {
        let mut command = program("postgres", &self.dir);
        command
            .args(["-D", "data", "-p", &self.port.to_string(), "-k"])
            .arg(&self.dir);
        for (name, value) in lock(&self.settings).iter() {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.stdout(Stdio::null());
        command
    }

    fn ensure_template(&self) {
        self.has_template.get_or_init(|| {
            self.client("postgres")
                .batch_execute(&format!("create database {TEMPLATE}"))
                .expect("a template database");
            self.client(TEMPLATE)
                .batch_execute(&worker::schema())
                .expect("the output of `schema` is SQL that runs");
        });
    }
}

/// A database of a test's own; dropped with it, unless the test fails.
pub(crate) struct Database {
    server: Arc<PostgresServer>,
    name: String,
}

impl Database {
    /// A database with the AppView's tables.
    pub(crate) fn new(server: Arc<PostgresServer>, name: &str) -> Self {
        server.ensure_template();
        Self::make(server, name, &format!("template {TEMPLATE}"))
    }

    /// A database with nothing in it.
    pub(crate) fn empty(server: Arc<PostgresServer>, name: &str) -> Self {
        Self::make(server, name, "")
    }

    fn make(server: Arc<PostgresServer>, name: &str, how: &str) -> Self {
        static N_DATABASES: AtomicU32 = AtomicU32::new(0);
        let n = N_DATABASES.fetch_add(1, Ordering::Relaxed);
        let plain: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .take(40)
            .collect();
        let name = format!("t{n}_{}", plain.to_ascii_lowercase());
        server
            .client("postgres")
            .batch_execute(&format!("create database {name} {how}"))
            .expect("a database");
        Self { server, name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes the copy of the database on another server for it from now on.
    pub(crate) fn move_to(&mut self, server: Arc<PostgresServer>) {
        self.server = server;
    }

    pub(crate) fn server(&self) -> &Arc<PostgresServer> {
        &self.server
    }

    pub(crate) fn url(&self) -> String {
        self.server.url(&self.name)
    }

    pub(crate) fn client(&self) -> Client {
        self.server.client(&self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        // The test may have stopped the server; then the whole cluster is removed anyway.
        if let Ok(mut client) = self.server.try_client("postgres") {
            let _ = client.batch_execute(&format!("drop database {} with (force)", self.name));
        }
    }
}

/// One of PostgreSQL's programs, to be run in `dir` as a user that it accepts.
fn program(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(bin_dir().join(name));
    command.current_dir(dir).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    if let Some((uid, gid)) = lesser_user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Where PostgreSQL's server programs are: in the PATH, or the newest that Debian's layout has.
pub(crate) fn bin_dir() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has_both = |dir: &PathBuf| dir.join("initdb").exists() && dir.join("postgres").exists();
    if let Some(dir) = std::env::split_paths(&path).find(has_both) {
        return dir;
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|dir| Some((dir.file_name()?.to_str()?.parse().ok()?, dir.join("bin"))))
        .filter(|(_, dir)| has_both(dir))
        .collect();
    versions.sort();
    versions
        .pop()
        .expect("initdb and postgres, in PATH or /usr/lib/postgresql/*/bin")
        .1
}

/// The ids of `postgres` or `nobody` if the tests run as root; `None` if they do not.
pub(crate) fn lesser_user() -> Option<(u32, u32)> {
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("the list of users");
    let ids_of = |name: &str| {
        let fields: Vec<&str> = users
            .lines()
            .map(|line| line.split(':').collect())
            .find(|f: &Vec<&str>| f[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    Some(
        ids_of("postgres")
            .or_else(|| ids_of("nobody"))
            .expect("a user postgres or nobody"),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
