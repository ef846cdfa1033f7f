//! How often Redis has delivered entries that are read again.

use redis::RedisResult;

use super::delivered::Delivered;
use crate::entry::EntryId;
use crate::redis::link::{self, Link};
use crate::settings::config::Config;

/// How often Redis has delivered entries that are read again.
pub struct Deliveries {
    stream: String,
    group: String,
    consumer: String,
    is_allowed: bool,
}

impl Deliveries {
    pub fn new(config: &Config) -> Deliveries {
        Deliveries {
            stream: config.stream.clone(),
            group: config.group.clone(),
            consumer: config.consumer.clone(),
            is_allowed: true,
        }
    }

    /// Writes down how often each of these entries of the own consumer, in stream order, was delivered.
    pub fn look_up(&mut self, link: &mut Link, delivered: &mut [Delivered]) -> RedisResult<()> {
        let (Some(first), Some(last), true) = (delivered.first(), delivered.last(), self.is_allowed) else {
            return Ok(());
        };
        let mut pending = redis::cmd("XPENDING");
        pending.arg(&self.stream).arg(&self.group);
        pending.arg(first.id().to_string()).arg(last.id().to_string());
        pending.arg(delivered.len()).arg(&self.consumer);
        let counts: Vec<(String, String, u64, u64)> = match link.query(&pending) {
            Ok(counts) => counts,
            Err(error) if link::is_refused(&error) => {
                log::warn!(
                    "{}: an entry that ends the process is not found; to change that, {}",
                    link::describe(&error),
                    link::remedy(&error, "+xpending")
                );
                self.is_allowed = false;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut counts = counts
            .into_iter()
            .filter_map(|(id, _, _, deliveries)| Some((EntryId::parse(id.as_bytes())?, deliveries)))
            .peekable();
        for delivered in delivered {
            let id = delivered.id();
            while counts.next_if(|(counted, _)| *counted < id).is_some() {}
            if let (Delivered::Entry(entry), Some((_, deliveries))) = (delivered, counts.next_if(|(at, _)| *at == id)) {
                entry.deliveries = deliveries;
            }
        }
        Ok(())
    }
}
