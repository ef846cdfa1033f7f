//! The user that the unit runs as.
//!
//! Owns becoming it: with the unit's settings, root would be let in where that user is not, and the other way round, by
//! peer authentication and by the rights of files.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::{env, io};

use crate::logging::stderr;

/// As in the unit and in sysusers.d.
pub const NAME: &CStr = c"firehose-worker";

struct User {
    id: libc::uid_t,
    group: libc::gid_t,
    home: Vec<u8>,
}

/// Has this process be the unit's user, if it is root's and there is such a user. To be called before any thread starts.
///
/// # Errors
///
/// As the system says.
pub fn become_it() -> io::Result<()> {
    let Some(user) = find() else { return Ok(()) };
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(());
    }
    // SAFETY: the name ends with a zero, and nothing else is pointed to.
    let results = unsafe { [libc::initgroups(NAME.as_ptr(), user.group), libc::setgid(user.group)] };
    // SAFETY: setuid takes a number.
    let is_done = results == [0, 0] && unsafe { libc::setuid(user.id) } == 0;
    if !is_done {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no other thread runs yet.
    unsafe { env::set_var("HOME", OsStr::from_bytes(&user.home)) };
    stderr::print(&format!("the user is the unit's, {}", NAME.to_string_lossy()));
    Ok(())
}

/// Whether there is such a user, and this process is another's.
pub fn is_another() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    find().is_some_and(|user| user.id != unsafe { libc::geteuid() })
}

fn find() -> Option<User> {
    // SAFETY: the name ends with a zero; what is answered is read before anybody can ask again.
    unsafe {
        let entry = libc::getpwnam(NAME.as_ptr()).as_ref()?;
        Some(User {
            id: entry.pw_uid,
            group: entry.pw_gid,
            home: CStr::from_ptr(entry.pw_dir).to_bytes().to_owned(),
        })
    }
}
