//! Thread `renewer`: what is held long stays this consumer's.
//!
//! Owns XCLAIM of entries that are in flight already, so that no other process takes them for those of a consumer that is
//! gone. Asks Redis only about entries held for longer than half of the time after which they may be taken: on a usual
//! day there are none.
//!
//! Invariant: what another process has taken is not taken back. What this process still does with it changes nothing, since
//! every statement is safe to run twice, and who acknowledges it first counts it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::RedisResult;

use crate::entry::EntryId;
use crate::in_flight::InFlight;
use crate::redis::link::{self, Link, Redis};
use crate::runtime::shutdown::Stop;
use crate::settings::config::Config;

/// Entries of one command.
const COUNT: usize = 1000;

/// The watchdog wants a turn, however long the entries may be held.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

pub struct Renewer {
    link: Link,
    stream: String,
    group: String,
    consumer: String,
    idle: Duration,
    in_flight: Arc<InFlight>,
}

/// Of entries in flight, whose they are now.
#[derive(Default)]
struct Owners {
    own: Vec<EntryId>,
    taken: Vec<EntryId>,
}

impl Renewer {
    pub fn new(redis: &Redis, config: &Config, in_flight: Arc<InFlight>) -> Renewer {
        Renewer {
            link: redis.link(Duration::ZERO),
            stream: config.stream.clone(),
            group: config.group.clone(),
            consumer: config.consumer.clone(),
            idle: config.claim_idle,
            in_flight,
        }
    }

    /// Renews until `stop`, which is requested once nothing more is acknowledged.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        while !stop.wait((self.idle / 8).min(LONGEST_WAIT)) {
            let old = self.in_flight.held_for(self.idle / 2);
            match self.renew(&old) {
                Ok(()) => {}
                Err(error) if link::is_refused(&error) => {
                    log::warn!(
                        "{}: entries held for {} s may be taken over by another process; to change that, {}",
                        link::describe(&error),
                        self.idle.as_secs_f64(),
                        link::remedy(&error, "+xpending +xclaim")
                    );
                    return Ok(());
                }
                Err(error) => log::debug!("failed to renew pending entries: {}", link::describe(&error)),
            }
        }
        Ok(())
    }

    fn renew(&mut self, ids: &[EntryId]) -> RedisResult<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let owners = self.owners(ids)?;
        if !owners.taken.is_empty() {
            log::warn!(
                "another process has taken over {} entries held for more than {:.1} s",
                owners.taken.len(),
                self.idle.as_secs_f64()
            );
            self.in_flight.set_taken(&owners.taken, true);
        }
        for ids in owners.own.chunks(COUNT) {
            let at = Instant::now();
            let mut claim = redis::cmd("XCLAIM");
            claim.arg(&self.stream).arg(&self.group).arg(&self.consumer);
            // Who has taken one meanwhile has reset its idle time.
            claim.arg((self.idle / 4).as_millis() as u64);
            for id in ids {
                claim.arg(id.to_string());
            }
            self.link.query::<()>(claim.arg("JUSTID"))?;
            self.in_flight.renewed(ids, at);
        }
        Ok(())
    }

    /// Looks up whose the entries are, which are in stream order; those that are pending no more are nobody's.
    fn owners(&mut self, ids: &[EntryId]) -> RedisResult<Owners> {
        let mut owners = Owners::default();
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
            return Ok(owners);
        };
        let mut from = first.to_string();
        loop {
            let mut pending = redis::cmd("XPENDING");
            pending.arg(&self.stream).arg(&self.group);
            pending.arg(&from).arg(last.to_string()).arg(COUNT);
            let page: Vec<(String, String, u64, u64)> = self.link.query(&pending)?;
            for (id, consumer, ..) in &page {
                match EntryId::parse(id.as_bytes()) {
                    Some(id) if ids.binary_search(&id).is_err() => {}
                    Some(id) if *consumer == self.consumer => owners.own.push(id),
                    Some(id) => owners.taken.push(id),
                    None => {}
                }
            }
            match page.last() {
                Some((id, ..)) if page.len() == COUNT => from = format!("({id}"),
                _ => return Ok(owners),
            }
        }
    }
}
