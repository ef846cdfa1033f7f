//! A test's private PgBouncer, in front of one of its PostgreSQL servers.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::postgres::{Database, lesser_user};
use super::process::{Process, free_port, tail};
use super::scratch;
use super::wait::wait_until;

/// How often to start: another process may take the port between the check and the start.
const N_PORTS_TRIED: usize = 5;

pub(crate) struct PgBouncer {
    port: u16,
    /// Keeps the server running.
    _process: Process,
}

impl PgBouncer {
    /// Shares `n_connections` to the database's server among all clients.
    pub(crate) fn start(database: &Database, pool_mode: &str, n_connections: usize) -> Self {
        (0..N_PORTS_TRIED)
            .find_map(|_| Self::try_start(database, pool_mode, n_connections))
            .expect("pgbouncer does not start; see above")
    }

    pub(crate) fn url(&self, database: &Database) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{}", self.port, database.name())
    }

    fn try_start(database: &Database, pool_mode: &str, n_connections: usize) -> Option<Self> {
        let dir = scratch::directory("pgbouncer");
        let port = free_port();
        let server = database.server();
        let settings = format!(
            "[databases]\n* = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {pool_mode}\n\
             default_pool_size = {n_connections}\n",
            server.socket_dir().display(),
            server.port()
        );
        fs::write(dir.join("pgbouncer.ini"), settings).expect("pgbouncer.ini");
        let mut command = Command::new(program());
        command
            .arg(dir.join("pgbouncer.ini"))
            .current_dir(&dir)
            .stdout(Stdio::null());
        // It refuses to be root.
        if let Some((uid, gid)) = lesser_user() {
            chown(&dir, Some(uid), Some(gid)).expect("root may give its directory away");
            command.uid(uid).gid(gid);
        }
        let mut process = Process::spawn("pgbouncer", &mut command, &dir.join("log"), libc::SIGKILL);
        let bouncer = format!("host=127.0.0.1 port={port} user=postgres dbname={}", database.name());
        let mut runs = false;
        wait_until("pgbouncer answers", || {
            runs = postgres::Client::connect(&bouncer, postgres::NoTls).is_ok();
            runs || process.ended().is_some()
        });
        if !runs {
            eprintln!("pgbouncer ended at start:\n{}", tail(&process.log(), 20));
            return None;
        }
        Some(Self {
            port,
            _process: process,
        })
    }
}

/// Debian has it where only root's PATH leads.
fn program() -> &'static str {
    let debian = "/usr/sbin/pgbouncer";
    if fs::exists(debian).unwrap_or(false) {
        debian
    } else {
        "pgbouncer"
    }
}
