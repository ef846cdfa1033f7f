//! This process's consumer in its group.
//!
//! Owns what XPENDING and XCLAIM say and do about the group's pending entries, and the removal of the consumer, so that names
//! that are used once do not pile up. Redis drops with a consumer what is pending under its name: so it is removed only while
//! nothing is, and nobody else can be reading under the name.

use std::time::Duration;

use redis::{Cmd, RedisResult, ToRedisArgs};

use crate::entry::EntryId;
use crate::group::lease::Lease;
use crate::redis::link::{self, Link, Redis};
use crate::settings::config::Config;

/// Pending entries that XPENDING is asked for at a time.
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
    /// Whose it is.
    pub consumer: String,
    pub deliveries: u64,
}

/// Pending entries, by whose they are.
#[derive(Default)]
pub struct Owners {
    pub own: Vec<EntryId>,
    pub others: Vec<EntryId>,
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
    /// As for `Link::query`; who lacks the right needs `+xpending`.
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

    /// Whose the entries are that `is_asked` picks from `first` to `last`; those that are no longer pending are nobody's.
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

    /// The command that makes pending entries this consumer's if they have been idle for `idle`, without reading them.
    pub fn claim(&self, idle: Duration, ids: impl IntoIterator<Item = EntryId>) -> Cmd {
        let mut claim = self.command("XCLAIM");
        claim.arg(&self.name).arg(idle.as_millis() as u64);
        for id in ids {
            claim.arg(id.to_string());
        }
        claim.arg("JUSTID").to_owned()
    }

    /// Removes the consumer if nothing is pending under its name. To be called once nothing reads any more.
    pub fn remove(&self, redis: &Redis, lease: &Lease) {
        if !lease.is_exclusive() {
            return;
        }
        let mut link = redis.link(Duration::ZERO);
        let removed = self.try_remove(&mut link);
        let cost = "a consumer that stops stays in its group";
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
