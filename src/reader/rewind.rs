//! Redis in an earlier state.
//!
//! Owns the beginning of a session, and the reaction when Redis delivers entries again that were read before: after a
//! restored snapshot, a failover to a replica that lagged, XGROUP SETID, or a group that was created again.

use std::time::Duration;

use redis::RedisResult;

use super::{BLOCK, Read, Reader, Reading};
use crate::entry::EntryId;
use crate::reader::delivered::Delivered;
use crate::runtime::shutdown::Stopped;

const NO_KEEPING: &str = "an entry that redis delivers again while it is being acknowledged may be skipped";

impl Reader {
    /// Ends the current session, waits until nothing of it is in flight, and begins another.
    ///
    /// Nothing is read before both connections are open: a server that is replaced between the two no longer answers
    /// over the first.
    pub(super) fn begin_session(&mut self) -> Reading<()> {
        self.session.leave();
        if !self.is_first {
            // An answer that arrived after the end was discarded.
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

    /// Ends the session because Redis delivers entries from before those already read; the next session reads all of
    /// them in order. Entries that were in flight may have been acknowledged after Redis had delivered them again, so
    /// they are made pending again.
    pub(super) fn rewind(&mut self, delivered: &[Delivered]) -> RedisResult<Read> {
        self.session.end();
        // After a stop, the next process must find the entries pending too.
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
