//! Taking over what consumers that are gone have left pending.
//!
//! Owns when: at the start before anything is read, and regularly afterwards. Who is gone, `claim` says.
//!
//! Invariant: what a live consumer holds is not taken. While Redis is silent nobody can renew what he holds, so nothing is
//! claimed before those that live have had the time to.

use std::time::{Duration, Instant};

use super::{Reader, Reading};
use crate::entry::EntryId;
use crate::logging::shown;
use crate::reader::claim::Cursor;

/// IDs claimed at a time at the start, when none is read before all are there.
const ADOPT_COUNT: usize = 1000;

/// How often consumers that may be gone are looked at then.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

impl Reader {
    /// Makes the entries of consumers that are gone the own consumer's, to be read with its own ones, all in the order of
    /// the stream. Who holds entries and shows no sign of life is waited for until they may be taken, so that after a
    /// cutover from another worker nothing newer is applied before them.
    pub(super) fn adopt_gone(&mut self) -> Reading<()> {
        let start = Instant::now();
        let mut has_said = false;
        loop {
            let waited = start.elapsed();
            // Before that, those that live may not have come back from an outage of Redis that this process did not see.
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

    /// Claims all that may be claimed, without reading it.
    fn adopt(&mut self) -> Reading<()> {
        let mut cursor = Cursor::start();
        while !cursor.is_at_end() {
            self.wait_for_room()?;
            let claimed = self.claim.next(&mut self.link, &mut cursor, ADOPT_COUNT)?;
            self.dispatcher.dispatch_dropped(claimed.trimmed)?;
        }
        Ok(())
    }

    /// Takes over what consumers that are gone have left pending meanwhile, as much at a time as there is room for.
    pub(super) fn claim_gone(&mut self) -> Reading<()> {
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
            // What is in flight here and was claimed all the same is this process's again, if another had it.
            self.in_flight.set_taken(&claimed.ids, false);
            self.in_flight.set_taken(&claimed.trimmed, false);
            self.dispatcher.dispatch_dropped(claimed.trimmed)?;
            self.read_claimed(claimed.ids)?;
        }
        self.dispatcher.say_trimmed();
        Ok(())
    }

    /// Hands over claimed entries, which are among the own pending ones now.
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
