//! The test process's temporary directory, and the guard that cleans up behind it.
//!
//! Everything that the tests start uses one directory and is registered with one guard: a `sh` in a separate process
//! group that reads from a pipe. When this process ends in any way (normally, by a panic or SIGKILL), the pipe closes.
//! The guard then ends exactly the registered processes, by their ids, and removes the directory.
//!
//! Invariant: an id is deregistered before it is reaped, so the guard never signals an unrelated process.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// `$1` is the directory. A watched process is `SIGNAL:PID`, both numbers. They have ten seconds together, then comes
/// SIGKILL.
const GUARD: &str = r#"
trap '' INT TERM HUP
watched=
while read -r verb arg; do
  case $verb in
    watch) watched="$watched $arg" ;;
    forget) kept=
      for w in $watched; do [ "$w" = "$arg" ] || kept="$kept $w"; done
      watched=$kept ;;
  esac
done
for w in $watched; do kill -"${w%:*}" "${w#*:}"; done
n=0
for w in $watched; do
  while kill -0 "${w#*:}" && [ "$n" -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
  kill -KILL "${w#*:}"
done
rm -rf "$1"
"#;

struct Scratch {
    root: PathBuf,
    guard: Mutex<ChildStdin>,
    n_directories: AtomicU32,
}

/// A new, empty directory, which is removed when this process ends, if not earlier.
pub(crate) fn directory(name: &str) -> PathBuf {
    let scratch = scratch();
    let n = scratch.n_directories.fetch_add(1, Ordering::Relaxed);
    let path = scratch.root.join(format!("{n}-{name}"));
    fs::create_dir(&path).expect("a directory for the test");
    path
}

/// Has the guard end this process, by this signal, should we not come to it.
pub(crate) fn watch(pid: u32, signal: i32) {
    tell(&format!("watch {signal}:{pid}"));
}

/// To be called when the process is about to be reaped: from then on its id may be another's.
pub(crate) fn forget(pid: u32, signal: i32) {
    tell(&format!("forget {signal}:{pid}"));
}

fn tell(line: &str) {
    let mut guard = scratch().guard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    writeln!(guard, "{line}").expect("the guard of the test process has ended");
}

fn scratch() -> &'static Scratch {
    static SCRATCH: OnceLock<Scratch> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let root = tempfile::Builder::new()
            .prefix("firehose-worker-test-")
            .tempdir_in(base())
            .expect("a temporary directory")
            .keep();
        // A server that has dropped root's rights must get through to its own directory.
        fs::set_permissions(&root, Permissions::from_mode(0o711)).expect("permissions of the temporary directory");
        Scratch {
            guard: Mutex::new(start_guard(&root)),
            root,
            n_directories: AtomicU32::new(0),
        }
    })
}

/// The usual directory for temporary files, unless other users cannot reach it, as with root's private one.
fn base() -> PathBuf {
    let usual = std::env::temp_dir();
    let reachable = |dir: &Path| fs::metadata(dir).is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
    if usual.is_absolute() && usual.ancestors().all(reachable) {
        usual
    } else {
        PathBuf::from("/tmp")
    }
}

/// A guard over a directory; it acts when what this returns is dropped, by us or by the end of us.
#[allow(clippy::zombie_processes, reason = "the guard outlives us")]
pub(crate) fn start_guard(root: &Path) -> ChildStdin {
    let mut guard = Command::new("sh")
        .args(["-c", GUARD, "guard"])
        .arg(root)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0) // a Ctrl-C is for us; the guard acts when we are gone
        .spawn()
        .expect("sh, to guard the servers of the tests");
    guard.stdin.take().expect("stdin is a pipe")
}
