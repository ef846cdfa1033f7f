//! The fence: a key that changes whenever entries pass from one process to another.
//!
//! A process that takes entries over moves the fence in the same MULTI. A process that acknowledges watches the fence,
//! so that the acknowledgement is carried out only if no entries have changed hands since the process checked what it
//! holds.

use redis::Cmd;

use crate::keys;
use crate::settings::config::Config;

/// If the key has expired, every entry is looked up before it is acknowledged.
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

    /// The command that moves the fence. The value is random, so it never repeats, even if the key expired in between.
    pub fn move_away(&self) -> Cmd {
        let mut set = redis::cmd("SET");
        set.arg(&self.key).arg(format!("{:x}", fastrand::u64(..)));
        set.arg("EX").arg(TTL_SECONDS);
        set
    }
}
