//! The mark of a process. It distinguishes the process from all others, and on the same machine it tells whether the
//! process still runs.

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::runtime::host;

/// Host and process ID of this process.
pub fn this_process() -> String {
    format!("{} pid {}", host::name(), std::process::id())
}

/// Host and process ID of a mark.
pub fn process(mark: &str) -> &str {
    mark.split_once(" boot ").map_or(mark, |(process, _)| process)
}

/// The mark of a process. It differs from the marks of earlier processes with the same ID, also before a reboot.
pub fn of(pid: u32) -> String {
    format!("{} start {}", place(pid), start_time(pid).unwrap_or_default())
}

/// The scope in which a process ID is unique: host, boot and PID namespace.
fn place(pid: u32) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!(
        "{} pid {pid} boot {} {}",
        host::name(),
        boot.trim(),
        namespace.display()
    )
}

/// When the process started, in ticks since boot; `None` if it does not run or is hidden from this user.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; the 22nd field is the 20th after it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

/// Whether the mark belongs to a process of this machine, boot and namespace that no longer runs.
pub fn is_gone(other: &str) -> bool {
    let pid = other.split_once(" pid ").and_then(|(_, rest)| rest.split(' ').next());
    let Some(pid) = pid.and_then(|pid| pid.parse().ok()) else {
        return false;
    };
    let Some(started) = other.strip_prefix(&format!("{} start ", place(pid))) else {
        return false;
    };
    !runs(pid) || start_time(pid).is_some_and(|now| now != started)
}

/// Whether a process has that ID, even if it belongs to another user and is hidden in /proc.
fn runs(pid: u32) -> bool {
    // Signal 0 is not delivered; the call only checks that the process exists.
    kill(Pid::from_raw(pid as i32), None) != Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_gone_only_if_it_ran_here_and_runs_no_more() {
        let pid = std::process::id();
        let me = of(pid);
        assert!(!is_gone(&me));
        let ended = format!("{} start 1", place(pid));
        assert!(is_gone(&ended));
        assert!(!is_gone(&ended.replace("boot ", "boot another ")));
        assert!(!is_gone("elsewhere pid 1 boot x y start 1"));
        assert!(!is_gone("nonsense"));
    }

    #[test]
    fn a_number_that_no_process_has_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let other = of(child.id());
        child.wait().unwrap();
        assert!(is_gone(&other));
    }
}
