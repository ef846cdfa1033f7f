//! The fence: a key that changes whenever entries pass from one process to another.
//!
//! Who takes entries over moves the fence in the same MULTI. Who acknowledges watches it, so that an acknowledgement is
//! carried out only while the process still holds what it held when it looked.

use redis::Cmd;

use crate::keys;
use crate::settings::config::Config;

/// Without a fence all entries are looked up before they are acknowledged.
const TTL_SECONDS: u64 = 24 * 60 * 60;

/// The fence of a group.
#[derive(Clone)]
pub struct Fence {
    pub key: String,
}

impl Fence {
    pub fn new(config: &Config) -> Fence {
        Fence {
            key: keys::of_group("fence", config),
        }
    }

    /// The command that moves it. A number drawn at random is not met again, also where the key had gone meanwhile.
    pub fn move_away(&self) -> Cmd {
        let mut set = redis::cmd("SET");
        set.arg(&self.key).arg(format!("{:x}", fastrand::u64(..)));
        set.arg("EX").arg(TTL_SECONDS);
        set
    }
}
