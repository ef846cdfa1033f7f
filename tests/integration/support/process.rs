//! One child process: started with its output in a file, watched by the guard, ended by its own id.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::scratch;

/// How often an awaited condition is polled.
pub(crate) const POLL: Duration = Duration::from_millis(5);

pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// The signal that ends this process, sent at the drop or by the guard.
    last_signal: i32,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts the command. The caller has set its stdout; its stderr is appended to `log`.
    pub(crate) fn spawn(name: &str, command: &mut Command, log: &Path, last_signal: i32) -> Self {
        let stderr = File::options().create(true).append(true).open(log).expect("a log file");
        Self::spawn_with_stderr(name, command, stderr.into(), log, last_signal)
    }

    /// The same with its stderr elsewhere, so that there is no log.
    pub(crate) fn spawn_with_stderr(
        name: &str,
        command: &mut Command,
        stderr: Stdio,
        log: &Path,
        last_signal: i32,
    ) -> Self {
        // SAFETY: the function only makes system calls that a child may make after fork.
        unsafe { command.pre_exec(heed_signals) };
        let child = command
            .stdin(Stdio::null())
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error} ({command:?})"));
        scratch::watch(child.id(), last_signal);
        Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            last_signal,
            status: None,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids fit")
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal, unless the process has been seen to end.
    pub(crate) fn signal(&self, signal: i32) {
        if self.status.is_none() {
            // SAFETY: kill takes no pointers; the child is not reaped yet, so the id is still its own.
            let result = unsafe { libc::kill(self.pid(), signal) };
            assert_eq!(result, 0, "signal {signal} to {} ({})", self.name, self.pid());
        }
    }

    /// The exit status, if the process has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() && self.is_zombie() {
            scratch::forget(self.child.id(), self.last_signal);
            self.status = Some(self.child.wait().expect("waiting for a child"));
        }
        self.status
    }

    /// Waits for the end, for at most `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while self.ended().is_none() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        self.status
    }

    /// Sends the signal and waits for the end; SIGKILL after 20 seconds.
    pub(crate) fn stop(&mut self, signal: i32) -> ExitStatus {
        self.signal(signal);
        if let Some(status) = self.wait(Duration::from_secs(20)) {
            return status;
        }
        self.signal(libc::SIGKILL);
        self.wait(Duration::from_secs(20))
            .unwrap_or_else(|| panic!("{} survives SIGKILL", self.name))
    }

    /// Whether the child has ended, without reaping it: until it is reaped, its id is not reused.
    fn is_zombie(&self) -> bool {
        // SAFETY: siginfo_t is plain data for which zeros are valid, and waitid writes into it only.
        let (result, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            (libc::waitid(libc::P_PID, self.child.id(), &raw mut info, flags), info)
        };
        assert_eq!(
            result,
            0,
            "waitid for {}: {}",
            self.name,
            std::io::Error::last_os_error()
        );
        // SAFETY: waitid has filled the structure; the pid stays 0 while the child lives.
        unsafe { info.si_pid() != 0 }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.stop(self.last_signal);
        }
    }
}

/// The end of a log, for a failure message.
pub(crate) fn tail(log: &str, n_lines: usize) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(n_lines)..].join("\n")
}

/// A port of 127.0.0.1 that nobody listens on. Taken from below the range of outgoing connections, so that none of
/// those can sit on it while a server is being restarted.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 15_000;
    const COUNT: u32 = 17_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97); // test processes side by side start far apart
    (0..COUNT)
        .map(|_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .map(|port| u16::try_from(port).expect("below 32000"))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port on 127.0.0.1")
}

/// What started the tests may ignore signals, as shells do with what they run in the background, and processes inherit
/// that.
fn heed_signals() -> io::Result<()> {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: signal takes no pointers here, and the default is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    Ok(())
}
