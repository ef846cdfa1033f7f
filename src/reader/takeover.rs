//! Takes over the pending entries of dead consumers.
//!
//! Owns when that happens: at the start before anything is read, and regularly afterwards. `claim` determines which
//! consumers are dead.
//!
//! Invariant: entries of a live consumer are not taken. While Redis is unreachable no consumer can renew its entries,
//! so afterwards nothing is claimed before live consumers have had the time to renew.

use std::time::{Duration, Instant};

use super::{Reader, Reading};
use crate::entry::EntryId;
use crate::logging::shown;
use crate::reader::claim::Cursor;

/// IDs claimed at a time at the start, where no entry is read before all are claimed.
const ADOPT_COUNT: usize = 1000;

/// How often consumers that may be dead are polled at the start.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

impl Reader {
    /// Claims the pending entries of dead consumers, to be read together with this consumer's own, in stream order.
    /// Consumers that look dead but are not past the idle limit are waited for, so that after a cutover from another
    /// worker nothing newer is applied before their entries.
    pub(super) fn adopt_from_dead(&mut self) -> Reading<()> {
        let start = Instant::now();
        let mut has_said = false;
        loop {
            let waited = start.elapsed();
            // Earlier, live consumers may not have recovered from an outage of Redis that this process did not notice.
            if waited >= self.claim.idle / 2 {
                self.adopt()?;
            }
            let Some(silent) = self.claim.silent(&mut self.link, waited)? else {
                return self.adopt();
            };
            if silent.is_empty() || waited > self.claim.idle + POLL_INTERVAL {
                return Ok(());
            }
            if !has_said {
                log::info!(
                    "waiting for entries of consumers that may be dead ({}), for {} s at most",
                    shown::list(&silent),
                    self.claim.idle.as_secs()
                );
                has_said = true;
            }
            self.stop.wait(POLL_INTERVAL);
            self.stop.check()?;
        }
    }

    /// Claims everything that may be claimed, without reading it.
    fn adopt(&mut self) -> Reading<()> {
        let mut cursor = Cursor::start();
        while !cursor.is_at_end() {
            self.wait_for_room()?;
            let claimed = self.claim.next(&mut self.link, &mut cursor, ADOPT_COUNT)?;
            self.dispatcher.dispatch_dropped(claimed.trimmed)?;
        }
        Ok(())
    }

    /// Takes over entries that consumers which have died since have left pending, as many at a time as there is room
    /// for.
    pub(super) fn claim_from_dead(&mut self) -> Reading<()> {
        if self.claimed_at.elapsed() < self.claim.idle / 2 {
            return Ok(());
        }
        self.claimed_at = Instant::now();
        let mut cursor = Cursor::start();
        while !cursor.is_at_end() {
            let room = self.wait_for_room()?;
            if self.is_out_of_touch() {
                break;
            }
            let count = self.count_for(room);
            let _reading = self.in_flight.read_again();
            let claimed = self.claim.next(&mut self.link, &mut cursor, count)?;
            self.heard();
            // A claimed entry that is in flight here had been taken by another process, and belongs to this process
            // again.
            self.in_flight.set_taken(&claimed.ids, false);
            self.in_flight.set_taken(&claimed.trimmed, false);
            self.dispatcher.dispatch_dropped(claimed.trimmed)?;
            self.read_claimed(claimed.ids)?;
        }
        self.dispatcher.say_trimmed();
        Ok(())
    }

    /// Dispatches claimed entries, which are now among this consumer's own pending entries.
    fn read_claimed(&mut self, mut ids: Vec<EntryId>) -> Reading<()> {
        ids.retain(|id| !self.in_flight.holds(*id));
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
            return Ok(());
        };
        let mut after = first.before();
        let mut taken = 0;
        while after < *last {
            let room = self.wait_for_room()?;
            let delivered = self.read_own(after, self.count_for(room).min(ids.len()))?;
            let Some(read) = delivered.last() else { break };
            after = read.id();
            taken += self.give_again(delivered)?;
        }
        log::info!("took over {taken} pending entries of dead consumers");
        Ok(())
    }
}
