//! The own consumer's end.
//!
//! Owns the removal of the consumer from its group, so that names that are used once do not pile up there. Redis drops
//! with a consumer what is pending under its name: so it goes only when there is nothing, and while nobody else can be
//! reading under the name.

use std::time::Duration;

use redis::{RedisResult, Value};

use crate::group::lease::Lease;
use crate::redis::link::{self, Link, Redis};
use crate::settings::config::Config;

/// Removes the consumer if nothing is pending under its name. To be called once nothing reads any more.
pub fn remove(redis: &Redis, config: &Config, lease: &Lease) {
    if !lease.is_exclusive() {
        return;
    }
    let mut link = redis.link(Duration::ZERO);
    let removed = try_remove(&mut link, config);
    let cost = "a consumer that stops stays in its group";
    if let Err(error) = link.optional(removed, cost, "+xpending +xgroup|delconsumer") {
        log::debug!("the consumer stays in its group: {}", link::describe(&error));
    }
}

fn try_remove(link: &mut Link, config: &Config) -> RedisResult<()> {
    let mut pending = redis::cmd("XPENDING");
    pending.arg(&config.stream).arg(&config.group);
    pending.arg("-").arg("+").arg(1).arg(&config.consumer);
    if !link.query::<Vec<Value>>(&pending)?.is_empty() {
        return Ok(());
    }
    let mut remove = redis::cmd("XGROUP");
    remove.arg("DELCONSUMER").arg(&config.stream).arg(&config.group);
    let dropped: u64 = link.query(remove.arg(&config.consumer))?;
    if dropped > 0 {
        log::error!(
            "{dropped} entries became pending for {} while it was removed from its group, and are lost: another program \
             reads under this name",
            config.consumer
        );
    }
    Ok(())
}
