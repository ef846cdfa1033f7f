//! The user that the unit runs as.
//!
//! Owns becoming it: with the unit's settings, root would be let in where that user is not, and the other way round, by
//! peer authentication and by the rights of files.

use std::ffi::CStr;
use std::{env, io};

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

use crate::logging::stderr;

/// As in the unit and in sysusers.d.
pub const NAME: &CStr = c"firehose-worker";

/// Has this process be the unit's user, if it is root's and there is such a user. To be called before any thread starts.
///
/// # Errors
///
/// As the system says.
pub fn become_it() -> io::Result<()> {
    let Some(user) = find().filter(|_| geteuid().is_root()) else {
        return Ok(());
    };
    initgroups(NAME, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    // SAFETY: no other thread runs yet.
    unsafe { env::set_var("HOME", user.dir) };
    stderr::print(&format!("the user is the unit's, {}", user.name));
    Ok(())
}

/// Whether there is such a user, and this process is another's.
pub fn is_another() -> bool {
    find().is_some_and(|user| user.uid != geteuid())
}

fn find() -> Option<User> {
    User::from_name(&NAME.to_string_lossy()).ok().flatten()
}
