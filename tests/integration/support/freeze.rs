//! Freezes one thread of a process from outside, while its other threads continue.
//!
//! Signals stop whole processes; ptrace stops a thread. All calls about a thread must come from the same one.

use std::fs;
use std::io;
use std::marker::PhantomData;

/// A thread that hangs until this is dropped, by the thread that froze it.
pub(crate) struct Frozen {
    id: libc::pid_t,
    _of_this_thread: PhantomData<*const ()>,
}

/// Freezes the thread of that name.
///
/// # Errors
///
/// The system lets no process trace another.
pub(crate) fn thread(pid: i32, name: &str) -> io::Result<Frozen> {
    let id = thread_id(pid, name);
    trace(libc::PTRACE_SEIZE, id)?;
    let frozen = Frozen {
        id,
        _of_this_thread: PhantomData,
    };
    trace(libc::PTRACE_INTERRUPT, id)?;
    let mut status = 0;
    // SAFETY: waitpid writes to the one integer that it is given.
    let stopped = unsafe { libc::waitpid(id, &raw mut status, libc::__WALL) };
    assert_eq!(stopped, id, "waitpid: {}", io::Error::last_os_error());
    Ok(frozen)
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The thread may have ended with its process.
        let _ = trace(libc::PTRACE_DETACH, self.id);
    }
}

fn trace(request: libc::c_uint, id: libc::pid_t) -> io::Result<()> {
    // SAFETY: none of the requests used here takes a pointer.
    let result = unsafe { libc::ptrace(request, id, 0, 0) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn thread_id(pid: i32, name: &str) -> libc::pid_t {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process's threads");
    let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    let named = |id: &libc::pid_t| {
        let found = fs::read_to_string(format!("/proc/{pid}/task/{id}/comm"));
        found.is_ok_and(|found| found.trim() == name)
    };
    ids.into_iter()
        .find(named)
        .unwrap_or_else(|| panic!("process {pid} has no thread {name}"))
}
