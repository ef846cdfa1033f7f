//! Redis in an earlier state.
//!
//! Owns the beginning of a session, and what is done when Redis delivers entries once more that were read before: after a
//! restored snapshot, a failover to a replica that lagged, XGROUP SETID, or a group that was made again.

use std::time::Duration;

use redis::RedisResult;

use super::{BLOCK, Read, Reader, Reading};
use crate::entry::EntryId;
use crate::reader::delivered::Delivered;
use crate::runtime::shutdown::Stopped;

const NO_KEEPING: &str = "an entry that is delivered again in the moment in which it is acknowledged may be left out";

impl Reader {
    /// Ends the session that there was, waits until nothing of it is in flight, and begins another.
    ///
    /// What is read is read behind the opening of both connections: a server that is replaced between them does not answer
    /// over the first one any more.
    pub(super) fn begin_session(&mut self) -> Reading<()> {
        self.session.leave();
        if !self.is_first {
            // An answer that came after the end was not taken.
            self.metrics.read_unknown();
        }
        self.last = EntryId::ZERO;
        loop {
            self.finish()?;
            self.link.close();
            self.link.reach()?;
            let mut link = self.redis.link(Duration::ZERO);
            link.reach()?;
            if self.session.begin(link) {
                return Ok(());
            }
            self.stop.wait(BLOCK);
        }
    }

    /// Waits until nothing is in flight.
    fn finish(&self) -> Result<(), Stopped> {
        while !self.in_flight.wait_until_empty(BLOCK) {
            self.stop.check()?;
        }
        self.stop.check()
    }

    /// Ends the session, since Redis delivers what comes before entries that were read: the next one reads all of it in
    /// order. What was in flight may have been acknowledged after Redis had delivered it again: so it is made pending once
    /// more.
    pub(super) fn rewind(&mut self, delivered: &[Delivered]) -> RedisResult<Read> {
        self.session.end();
        // At a stop the next process has to find the entries pending, too.
        let _ = self.finish();
        let mut keep = self.consumer.claim(Duration::ZERO, delivered.iter().map(Delivered::id));
        let kept = self.link.query::<()>(keep.arg("FORCE"));
        self.link.optional(kept, NO_KEEPING, "+xclaim")?;
        Ok(Read::Over)
    }

    pub(super) fn say_gone_back(&mut self, first: Option<EntryId>) {
        let Some(first) = first else { return };
        log::warn!(
            "redis is in an earlier state: it delivers {first} again although entries up to {} were read; from there on everything \
             is applied and counted again, in order",
            self.newest
        );
        self.newest = EntryId::ZERO;
    }
}
