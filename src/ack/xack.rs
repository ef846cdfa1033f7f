//! XACK, and the entries that it removed from the pending entries list.
//!
//! Owns the only XACK in the program, and the proof of its effect. Redis returns how many entries an XACK removed, so
//! entries that are counted alike share one. A missing answer proves nothing. Therefore acknowledgements are sent as a
//! `Once` transaction, and only while every entry in it is known to be pending for this process: if the transaction was
//! carried out, its effect is known.
//!
//! Invariant: an entry delivered to this process stays pending for it until the process acknowledges it or the fence
//! moves (`fence`). Entries delivered after the current position of the fence was read therefore belong to this
//! process. Others are looked up, and those that another process has taken over are taken back before they are
//! acknowledged.
//!
//! If the Redis user lacks the rights on these keys, XACK is sent alone, and entries without an answer count as
//! acknowledged by this process.

use std::time::{Duration, Instant};

use foldhash::HashSet;
use redis::{Cmd, RedisResult, Value, from_redis_value};

use crate::ack::{Done, Outcome};
use crate::entry::EntryId;
use crate::group::consumer::{Consumer, Owners};
use crate::group::fence::Fence;
use crate::in_flight::InFlight;
use crate::keys;
use crate::redis::exactly_once::{self, Once, Opened};
use crate::redis::link::{self, Link};
use crate::settings::config::Config;

const NO_PROOF: &str = "it is unknown whether unanswered acknowledgements were carried out: counts may be off";
const NO_OWNERS: &str = "it is unknown which entries other processes have taken over: counts may be off";
const NO_DELIVERIES: &str = "dead letters do not record how often their entry was delivered";

/// An outcome, and the number of entries removed with it.
pub type Count<'b> = (&'b Outcome, u64);

/// Acknowledges entries of one consumer.
pub struct Acks {
    consumer: Consumer,
    fence: Fence,
    /// The last known value of the fence.
    seen: Option<Seen>,
    acked: Once,
    /// The connection over which `acked` is open for the next request, and over which nothing was sent since.
    open_on: Option<u64>,
    letters: Once,
    /// An XACK sent alone had no answer: it may have been carried out.
    is_unclear: bool,
    /// Entries that an unfinished earlier request may still remove.
    late: HashSet<EntryId>,
}

/// The value of the fence.
struct Seen {
    at: Option<String>,
    /// The fence has had this value since this time.
    since: Instant,
    /// The connection over which it was read: after an outage Redis may be another server, or in an earlier state.
    connection: u64,
}

/// The state of a pending entry that was looked up.
enum Pending {
    /// Pending for this process, delivered this many times.
    Own(u64),
    /// It was pending for another process and may belong to this one now; look it up again.
    TakenBack,
    /// Another process has finished it.
    Gone,
}

impl Acks {
    pub fn new(config: &Config) -> Acks {
        let once = |kind| Once::new(keys::of_consumer(kind, config, &config.consumer));
        Acks {
            consumer: Consumer::new(config),
            fence: Fence::new(config),
            seen: None,
            acked: once("acked"),
            open_on: None,
            letters: once("letters"),
            is_unclear: false,
            late: HashSet::default(),
        }
    }

    /// Acknowledges entries, and returns how many were removed. After a connection error, `were_taken_off` finds out.
    ///
    /// # Errors
    ///
    /// Errors of Redis or of the connection.
    pub fn send<'b>(
        &mut self,
        link: &mut Link,
        batch: &'b [Done],
        in_flight: &InFlight,
    ) -> RedisResult<Vec<Count<'b>>> {
        loop {
            if self.open_on.take() != Some(link.reach()?) {
                let opened = self.open(link, |acks| &mut acks.acked);
                match link.optional(opened, NO_PROOF, exactly_once::RULE)? {
                    None => return self.send_alone(link, batch),
                    Some(Opened::CarriedOut) => return Ok(all_of_batch(batch)),
                    Some(Opened::Ready(_)) => {}
                }
            }
            match self.try_send(link, batch, in_flight) {
                Ok(None) => {}
                Ok(Some(counts)) => return Ok(counts),
                Err(error) if link::is_connection_error(&error) => return Err(error),
                // At its memory limit Redis accepts XACK but no keys.
                Err(error) => {
                    log::debug!("acknowledging without a proof: {}", link::describe(&error));
                    return self.send_alone(link, batch);
                }
            }
        }
    }

    /// Opens the transaction of the next request, which then takes one round trip less.
    ///
    /// # Errors
    ///
    /// Errors of Redis or of the connection.
    pub fn open_ahead(&mut self, link: &mut Link) -> RedisResult<()> {
        if self.open_on.is_none() && self.acked.has_worked() {
            self.open(link, |acks| &mut acks.acked)?;
            self.open_on = Some(link.reach()?);
        }
        Ok(())
    }

    /// Acknowledges the entries of a batch that belong to this process, in an open transaction. Returns `None` if the
    /// transaction must be opened again.
    fn try_send<'b>(
        &mut self,
        link: &mut Link,
        batch: &'b [Done],
        in_flight: &InFlight,
    ) -> RedisResult<Option<Vec<Count<'b>>>> {
        let Some(own) = self.own_of(link, batch, in_flight)? else {
            return Ok(None);
        };
        let mut own: Vec<&Done> = batch.iter().filter(|done| own.contains(&done.id)).collect();
        if own.is_empty() {
            self.acked.give_up();
            return Ok(Some(Vec::new()));
        }
        // They are carried out as one, so their order is free.
        own.sort_by_key(|done| class(done));
        let answers = self.acked.close(link, self.acks(&own))?;
        answers.map(|answers| taken_off(all_of(&own), answers)).transpose()
    }

    /// Whether the entries of the last request, which had no answer, were removed nevertheless. If not, they never will
    /// be: a request that is still under way has no effect.
    ///
    /// # Errors
    ///
    /// Errors of Redis or of the connection.
    pub fn were_taken_off(&mut self, link: &mut Link, batch: &[Done]) -> RedisResult<bool> {
        if std::mem::take(&mut self.is_unclear) {
            return self
                .are_no_longer_pending(link, batch)
                .inspect_err(|_| self.is_unclear = true);
        }
        let once = match batch {
            [done] if matches!(done.outcome, Outcome::Dead(_)) => &mut self.letters,
            _ => &mut self.acked,
        };
        if once.was_carried_out(link)? {
            return Ok(true);
        }
        if !once.is_unclear() {
            return Ok(false);
        }
        match once.void(link) {
            Err(error) if link::is_connection_error(&error) => return Err(error),
            // At its memory limit Redis accepts no keys.
            Err(_) => self.late.extend(batch.iter().map(|done| done.id)),
            Ok(()) => {}
        }
        Ok(false)
    }

    /// Whether none of these entries is pending for this process. Without the right to query that, the request counts
    /// as carried out.
    fn are_no_longer_pending(&self, link: &mut Link, batch: &[Done]) -> RedisResult<bool> {
        let ids = batch.iter().map(|done| done.id).collect();
        let owners = self.owners(link, &ids);
        let owners = link.optional(owners, NO_OWNERS, "+xpending")?;
        Ok(owners.is_none_or(|owners| owners.own.is_empty()))
    }

    /// Runs the commands of `store`, which gets the number of deliveries, and acknowledges the entry. Returns `false`
    /// if another process has finished it. After a connection error, `were_taken_off` finds out.
    ///
    /// # Errors
    ///
    /// Errors of Redis or of the connection.
    pub fn store_dead_letters(
        &mut self,
        link: &mut Link,
        done: &Done,
        store: impl Fn(u64) -> Vec<Cmd>,
    ) -> RedisResult<bool> {
        loop {
            if let Opened::CarriedOut = self.open(link, |acks| &mut acks.letters)? {
                return Ok(true);
            }
            let deliveries = match self.look_up(link, done.id)? {
                Pending::Own(deliveries) => deliveries,
                Pending::TakenBack => continue,
                Pending::Gone => {
                    self.letters.give_up();
                    return Ok(self.late.remove(&done.id));
                }
            };
            let mut commands = store(deliveries);
            commands.extend(self.acks(&[done]));
            if let Some(answers) = self.letters.close(link, commands)? {
                return Ok(answers.last() != Some(&Value::Int(0)));
            }
        }
    }

    /// Opens a transaction that fails if the fence moves, and records the fence's value.
    fn open(&mut self, link: &mut Link, once: fn(&mut Acks) -> &mut Once) -> RedisResult<Opened> {
        let connection = link.reach()?;
        // The end of this transaction ends the watch of any other.
        self.open_on = None;
        let key = self.fence.key.clone();
        let opened = once(self).open(link, Some(&key))?;
        if let Opened::Ready(at) = &opened {
            let stands = |seen: &Seen| seen.connection == connection && seen.at == *at;
            if !self.seen.as_ref().is_some_and(stands) {
                self.seen = Some(Seen {
                    at: at.clone(),
                    since: Instant::now(),
                    connection,
                });
            }
        }
        Ok(opened)
    }

    /// The entries of a batch that are pending for this process, or `None` if they must be looked up again.
    fn own_of(
        &mut self,
        link: &mut Link,
        batch: &[Done],
        in_flight: &InFlight,
    ) -> RedisResult<Option<HashSet<EntryId>>> {
        let ids: HashSet<EntryId> = batch.iter().map(|done| done.id).collect();
        let since = self.seen.as_ref().map(|seen| seen.since);
        if since.is_some_and(|since| in_flight.are_since(ids.iter(), since)) {
            return Ok(Some(ids));
        }
        let owners = self.owners(link, &ids);
        let Some(owners) = link.optional(owners, NO_OWNERS, "+xpending")? else {
            return Ok(Some(ids));
        };
        if owners.others.is_empty() {
            return Ok(Some(owners.own.into_iter().collect()));
        }
        self.take_back(link, &owners.others)?;
        Ok(None)
    }

    /// Which of these entries are pending for this process, and which for others.
    fn owners(&self, link: &mut Link, ids: &HashSet<EntryId>) -> RedisResult<Owners> {
        match (ids.iter().min(), ids.iter().max()) {
            (Some(first), Some(last)) => self.consumer.owners(link, (*first, *last), |id| ids.contains(id)),
            _ => Ok(Owners::default()),
        }
    }

    /// Looks up an entry. Without the right to do so, it counts as this process's.
    fn look_up(&mut self, link: &mut Link, id: EntryId) -> RedisResult<Pending> {
        let text = id.to_string();
        let pending = self.consumer.pending(link, (&text, &text, 1));
        let Some(pending) = link.optional(pending, NO_DELIVERIES, "+xpending")? else {
            return Ok(Pending::Own(1));
        };
        Ok(match pending.first() {
            None => Pending::Gone,
            Some(pending) if pending.consumer == self.consumer.name => Pending::Own(pending.deliveries),
            Some(_) => {
                self.take_back(link, &[id])?;
                Pending::TakenBack
            }
        })
    }

    /// Takes entries back whose effect this process has committed, whatever the other process does with them.
    fn take_back(&self, link: &mut Link, ids: &[EntryId]) -> RedisResult<()> {
        let claim = self.consumer.claim(Duration::ZERO, ids.iter().copied());
        link.transaction(&[self.fence.move_away(), claim]).map(drop)
    }

    /// Sends XACK without a proof.
    fn send_alone<'b>(&mut self, link: &mut Link, batch: &'b [Done]) -> RedisResult<Vec<Count<'b>>> {
        let batch: Vec<&Done> = batch.iter().collect();
        let mut acks = redis::Pipeline::with_capacity(1);
        for ack in self.acks(&batch) {
            acks.add_command(ack);
        }
        link.reach()?;
        // Redis reports each error separately.
        let answers: RedisResult<Vec<Value>> = link.pipeline(acks.ignore_errors());
        self.is_unclear = answers.as_ref().is_err_and(link::is_connection_error);
        let answers = answers?;
        self.acked.give_up();
        taken_off(all_of(&batch), answers)
    }

    /// The commands that acknowledge entries in this order, one for each run of entries that are counted alike.
    fn acks(&self, batch: &[&Done]) -> Vec<Cmd> {
        let ack = |alike: &[&Done]| {
            let mut ack = self.consumer.command("XACK");
            for done in alike {
                ack.arg(done.id.to_string());
            }
            ack
        };
        alike(batch).map(ack).collect()
    }
}

/// Runs of entries that are counted alike.
fn alike<'a, 'b>(batch: &'a [&'b Done]) -> impl Iterator<Item = &'a [&'b Done]> {
    batch.chunk_by(|a, b| class(a) == class(b))
}

/// Entries of one class are counted alike.
fn class(done: &Done) -> u8 {
    match done.outcome {
        Outcome::Applied(kind) => kind as u8,
        Outcome::Dead(_) => u8::MAX - 1,
        Outcome::Lost | Outcome::Dropped => u8::MAX,
    }
}

/// The counts if every entry of a batch was removed.
pub fn all_of_batch(batch: &[Done]) -> Vec<Count<'_>> {
    all_of(&batch.iter().collect::<Vec<_>>())
}

fn all_of<'b>(batch: &[&'b Done]) -> Vec<Count<'b>> {
    let count = |alike: &[&'b Done]| Some((&alike.first()?.outcome, alike.len() as u64));
    alike(batch).filter_map(count).collect()
}

/// The counts according to Redis's answers.
fn taken_off<'b>(counts: Vec<Count<'b>>, answers: Vec<Value>) -> RedisResult<Vec<Count<'b>>> {
    let count = |((outcome, _), answer): (Count<'b>, Value)| Ok((outcome, from_redis_value(answer.extract_error()?)?));
    counts.into_iter().zip(answers).map(count).collect()
}
