//! This process's consumer in its group.
//!
//! Owns the uses of XPENDING and XCLAIM, and the removal of the consumer at a stop, so that names that are used once do
//! not pile up. Redis discards a consumer's pending entries together with the consumer. Therefore the consumer is
//! removed only while nothing is pending for it and no other process can be reading under its name.

use std::time::Duration;

use redis::{Cmd, RedisResult, ToRedisArgs};

use crate::entry::EntryId;
use crate::keys;
use crate::lease::Lease;
use crate::lease::holder::Name;
use crate::redis::link::{self, Link, Redis};
use crate::settings::config::Config;

/// Maximum number of pending entries per XPENDING.
const PAGE: usize = 1000;

/// A consumer, its group and their stream.
#[derive(Clone)]
pub struct Consumer {
    pub stream: String,
    pub group: String,
    pub name: String,
}

/// A pending entry.
pub struct Pending {
    pub id: EntryId,
    /// The consumer that the entry is pending for.
    pub consumer: String,
    pub deliveries: u64,
}

/// Pending entries, separated by the consumer that they are pending for.
#[derive(Default)]
pub struct Owners {
    pub own: Vec<EntryId>,
    pub others: Vec<EntryId>,
}

/// The consumer name, which only one process may hold.
pub fn held_name(config: &Config) -> Name {
    Name {
        text: format!("the consumer name {}", config.consumer),
        key: keys::holder(config, &config.consumer),
        without_key: "the consumer name has no lease: a standby cannot take over",
        rule: "~firehose:worker:* +get +set +del +pexpire +watch +unwatch +multi +exec",
        waits: "the worker reads nothing",
    }
}

impl Consumer {
    pub fn new(config: &Config) -> Consumer {
        Consumer {
            stream: config.stream.clone(),
            group: config.group.clone(),
            name: config.consumer.clone(),
        }
    }

    /// A command whose first arguments are the stream and its group.
    pub fn command(&self, name: &str) -> Cmd {
        redis::cmd(name).arg(&self.stream).arg(&self.group).to_owned()
    }

    /// The group's pending entries in the range that XPENDING's arguments name, in stream order.
    ///
    /// # Errors
    ///
    /// As for `Link::query`. The command needs the right `+xpending`.
    pub fn pending(&self, link: &mut Link, range: impl ToRedisArgs) -> RedisResult<Vec<Pending>> {
        let answer: Vec<(String, String, u64, u64)> = link.query(self.command("XPENDING").arg(range))?;
        let entry = |(id, consumer, _, deliveries): (String, _, _, _)| {
            Some(Pending {
                id: EntryId::parse(id.as_bytes())?,
                consumer,
                deliveries,
            })
        };
        Ok(answer.into_iter().filter_map(entry).collect())
    }

    /// Finds out which consumers hold the entries from `first` to `last` that `is_asked` selects. Entries that are no
    /// longer pending are in neither list.
    ///
    /// # Errors
    ///
    /// As for `pending`.
    pub fn owners(
        &self,
        link: &mut Link,
        (first, last): (EntryId, EntryId),
        is_asked: impl Fn(&EntryId) -> bool,
    ) -> RedisResult<Owners> {
        let mut owners = Owners::default();
        let (mut from, last) = (first.to_string(), last.to_string());
        loop {
            let page = self.pending(link, (&from, &last, PAGE))?;
            for pending in page.iter().filter(|pending| is_asked(&pending.id)) {
                match pending.consumer == self.name {
                    true => owners.own.push(pending.id),
                    false => owners.others.push(pending.id),
                }
            }
            match page.last() {
                Some(pending) if page.len() == PAGE => from = format!("({}", pending.id),
                _ => return Ok(owners),
            }
        }
    }

    /// The command that transfers pending entries to this consumer if they have been idle for `idle`. It does not read
    /// them.
    pub fn claim(&self, idle: Duration, ids: impl IntoIterator<Item = EntryId>) -> Cmd {
        let mut claim = self.command("XCLAIM");
        claim.arg(&self.name).arg(idle.as_millis() as u64);
        for id in ids {
            claim.arg(id.to_string());
        }
        claim.arg("JUSTID").to_owned()
    }

    /// Removes the consumer if nothing is pending for it. The caller must have stopped all reading.
    pub fn remove(&self, redis: &Redis, lease: &Lease) {
        if !lease.is_exclusive() {
            return;
        }
        let mut link = redis.link(Duration::ZERO);
        let removed = self.try_remove(&mut link);
        let cost = "a stopped consumer stays in its group";
        if let Err(error) = link.optional(removed, cost, "+xpending +xgroup|delconsumer") {
            log::debug!("the consumer stays in its group: {}", link::describe(&error));
        }
    }

    fn try_remove(&self, link: &mut Link) -> RedisResult<()> {
        if !self.pending(link, ("-", "+", 1, &self.name))?.is_empty() {
            return Ok(());
        }
        let mut remove = redis::cmd("XGROUP");
        remove.arg("DELCONSUMER").arg(&self.stream).arg(&self.group);
        let dropped: u64 = link.query(remove.arg(&self.name))?;
        if dropped > 0 {
            log::error!(
                "{dropped} entries became pending for {} while it was removed from its group, and are lost: another program \
                 reads under this name",
                self.name
            );
        }
        Ok(())
    }
}
