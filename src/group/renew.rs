//! Thread `renewer`: keeps entries that are in flight for long pending for this consumer.
//!
//! Owns XCLAIM of entries in flight. It resets their idle time, so that other processes do not mistake them for entries
//! of a dead consumer. Redis is only queried about entries held for longer than half of the time after which they may
//! be taken; normally there are none.
//!
//! Invariant: entries that another process has taken are not taken back. This process may still apply them, which
//! changes nothing, since every statement is safe to run twice. The process that acknowledges an entry first counts it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::RedisResult;

use crate::entry::EntryId;
use crate::group::consumer::Consumer;
use crate::in_flight::InFlight;
use crate::redis::link::{self, Link, Redis};
use crate::runtime::shutdown::Stop;
use crate::settings::config::Config;

/// Maximum number of entries per command.
const COUNT: usize = 1000;

const NO_RENEWAL: &str = "entries that are held for long may be taken over by another process";

/// The thread must beat for the watchdog, however long entries may be held.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

pub struct Renewer {
    link: Link,
    consumer: Consumer,
    idle: Duration,
    in_flight: Arc<InFlight>,
}

impl Renewer {
    pub fn new(redis: &Redis, config: &Config, in_flight: Arc<InFlight>) -> Renewer {
        Renewer {
            link: redis.link(Duration::ZERO),
            consumer: Consumer::new(config),
            idle: config.claim_idle,
            in_flight,
        }
    }

    /// Renews until `stop`, which is requested once nothing is left to acknowledge.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        while !stop.wait((self.idle / 8).min(LONGEST_WAIT)) {
            let old = self.in_flight.held_for(self.idle / 2);
            let renewed = self.renew(&old);
            match self.link.optional(renewed, NO_RENEWAL, "+xpending +xclaim") {
                Ok(_) => {}
                Err(error) => log::debug!("failed to renew pending entries: {}", link::describe(&error)),
            }
        }
        Ok(())
    }

    fn renew(&mut self, ids: &[EntryId]) -> RedisResult<()> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
            return Ok(());
        };
        let is_asked = |id: &EntryId| ids.binary_search(id).is_ok();
        let owners = self.consumer.owners(&mut self.link, (*first, *last), is_asked)?;
        if !owners.others.is_empty() {
            log::warn!(
                "another process has taken over {} entries held for more than {:.1} s",
                owners.others.len(),
                self.idle.as_secs_f64()
            );
            self.in_flight.set_taken(&owners.others, true);
        }
        for ids in owners.own.chunks(COUNT) {
            let at = Instant::now();
            // A process that has taken an entry in the meantime has reset its idle time, so that XCLAIM skips the
            // entry.
            let claim = self.consumer.claim(self.idle / 4, ids.iter().copied());
            self.link.query::<()>(&claim)?;
            self.in_flight.renewed(ids, at);
        }
        Ok(())
    }
}
