//! XACK, and which of the entries it takes off this process counts.
//!
//! Owns the only XACK in the program. While no other process is known and the entries were read lately, they go in one
//! command. Else they go one by one, in one round trip: of entries that another process may have taken over meanwhile, or
//! had before, each process counts those that Redis took off at its own word. What of the others is no longer pending was
//! acknowledged by an earlier try.

use std::time::Duration;

use redis::{Cmd, RedisResult};

use crate::ack::{Done, Outcome, Shared};
use crate::entry::EntryId;
use crate::in_flight::Standing;
use crate::servers::link::{self, Link};

/// Whose entries are acknowledged.
pub struct Of {
    pub stream: String,
    pub group: String,
    /// Entries idle for so long are taken by other processes.
    pub claim_idle: Duration,
}

impl Of {
    pub fn ack(&self, ids: impl Iterator<Item = EntryId>) -> Cmd {
        let mut ack = redis::cmd("XACK");
        ack.arg(&self.stream).arg(&self.group);
        ids.for_each(|id| {
            ack.arg(id.to_string());
        });
        ack
    }
}

/// Acknowledgements of a batch, sent until there is an answer.
pub struct Acks<'a> {
    batch: &'a [Done],
    of: &'a Of,
    shared: &'a Shared,
    /// One that was sent had no answer: it may have been carried out.
    is_unclear: bool,
}

impl<'a> Acks<'a> {
    pub fn of(batch: &'a [Done], of: &'a Of, shared: &'a Shared) -> Acks<'a> {
        Acks {
            batch,
            of,
            shared,
            is_unclear: false,
        }
    }

    /// Which of the entries this process is to count: where another may have acknowledged them, those that Redis takes off
    /// at this process's word.
    ///
    /// # Errors
    ///
    /// As Redis or the system says.
    pub fn send(&mut self, link: &mut Link) -> RedisResult<Vec<bool>> {
        let is_alone = !self.shared.member.has_others();
        link.reach()?;
        let sent = match is_alone && self.standing() == Standing::Own {
            true => self.send_together(link),
            false => self.send_each(link, is_alone),
        };
        self.is_unclear |= sent.as_ref().is_err_and(link::is_connection_error);
        sent
    }

    fn send_together(&self, link: &mut Link) -> RedisResult<Vec<bool>> {
        let number: usize = link.query(&self.of.ack(self.ids()))?;
        // Fewer than were sent is no error: those were acknowledged by a try whose answer was lost, or the group is gone,
        // which the reader finds out.
        if number < self.batch.len() {
            log::debug!("redis knew {number} of {} entries as pending", self.batch.len());
        }
        Ok(vec![true; self.batch.len()])
    }

    fn send_each(&self, link: &mut Link, is_alone: bool) -> RedisResult<Vec<bool>> {
        let mut acks = redis::Pipeline::with_capacity(self.batch.len());
        for id in self.ids() {
            acks.add_command(self.of.ack([id].into_iter()));
        }
        let numbers: Vec<u64> = link.pipeline(&acks)?;
        // As it is now: they may have been on their way for long.
        let is_by_try = match self.standing() {
            Standing::Own => true,
            Standing::ReadAgain => self.is_unclear,
            Standing::Old => self.is_unclear && is_alone,
        };
        let is_ours = |(done, number): (&Done, u64)| {
            // What was trimmed may have left the pending entries when it was found.
            number > 0 || is_by_try || matches!(done.outcome, Outcome::Lost)
        };
        Ok(self.batch.iter().zip(numbers).map(is_ours).collect())
    }

    fn standing(&self) -> Standing {
        self.shared.in_flight.standing(self.ids(), self.of.claim_idle)
    }

    fn ids(&self) -> impl Iterator<Item = EntryId> + '_ {
        self.batch.iter().map(|done| done.id)
    }
}
