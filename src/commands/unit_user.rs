//! Switches root to the user of the systemd unit.
//!
//! Peer authentication and file permissions depend on the user. With the unit's settings, root could succeed where the
//! service fails, or fail where it succeeds.

use std::ffi::CStr;
use std::{env, io};

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

use crate::logging::stderr;

/// The name of the user, as in the unit and in sysusers.d.
pub const NAME: &CStr = c"firehose-worker";

/// Switches this process to the unit's user, if it runs as root and the user exists. Must be called before any thread
/// starts.
///
/// # Errors
///
/// Fails if the system refuses to switch the user or its groups.
pub fn become_it() -> io::Result<()> {
    let Some(user) = find().filter(|_| geteuid().is_root()) else {
        return Ok(());
    };
    initgroups(NAME, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    // SAFETY: no other thread runs yet.
    unsafe { env::set_var("HOME", user.dir) };
    stderr::print(&format!("continuing as the unit's user, {}", user.name));
    Ok(())
}

/// Whether the unit's user exists and is not the user of this process.
pub fn is_another() -> bool {
    find().is_some_and(|user| user.uid != geteuid())
}

fn find() -> Option<User> {
    User::from_name(&NAME.to_string_lossy()).ok().flatten()
}
