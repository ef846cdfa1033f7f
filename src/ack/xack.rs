//! XACK, and which of the entries it took off.
//!
//! Owns the only XACK in the program, and the proof of what it did. Redis answers how many entries an XACK took off, so
//! those that count alike share one. An answer that does not come says nothing: therefore acknowledgements are sent as
//! `Once` sends a transaction, and only while every entry of it is known to be pending for this process. Then it is known
//! what a transaction took off that was carried out.
//!
//! Invariant: what is delivered to this process stays pending for it until it acknowledges it or the fence moves (`fence`).
//! So entries that were delivered after the fence was seen where it stands are this process's; others are looked up, and
//! what another process has taken over meanwhile is taken back before it is acknowledged.
//!
//! Where the Redis user may not have the keys for that, XACK goes alone, and what had no answer counts as this process's.

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

const NO_PROOF: &str = "nothing tells whether acknowledgements without an answer were carried out: counts may be off";
const NO_LOOK: &str = "nothing tells which entries other processes have taken over: counts may be off";
const NO_DELIVERIES: &str = "dead letters do not say how often their entry was delivered";

/// How many entries of that outcome were taken off.
pub type Count<'b> = (&'b Outcome, u64);

/// Acknowledges entries of one consumer.
pub struct Acks {
    consumer: Consumer,
    fence: Fence,
    /// Where the fence was seen last.
    seen: Option<Seen>,
    acked: Once,
    buried: Once,
    /// An XACK alone had no answer: it may have been carried out.
    is_unclear: bool,
    /// Entries that a try which is still under way may take off.
    late: HashSet<EntryId>,
}

/// Where the fence stands.
struct Seen {
    at: Option<String>,
    /// Since then it stands there.
    since: Instant,
    /// Over which connection it was seen: a Redis that was away may be another, or an older one.
    connection: u64,
}

/// What became of a pending entry that is looked up.
enum Pending {
    /// This process's, delivered so many times.
    Own(u64),
    /// It was another's and may be this process's by now: to be looked up again.
    TakenBack,
    /// Another process is done with it.
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
            buried: once("buried"),
            is_unclear: false,
            late: HashSet::default(),
        }
    }

    /// Acknowledges entries, and says how many were taken off. After an error of the connection `were_taken_off` tells.
    ///
    /// # Errors
    ///
    /// As Redis or the system says.
    pub fn send<'b>(
        &mut self,
        link: &mut Link,
        batch: &'b [Done],
        in_flight: &InFlight,
    ) -> RedisResult<Vec<Count<'b>>> {
        loop {
            let opened = self.open(link, |acks| &mut acks.acked);
            match link.optional(opened, NO_PROOF, exactly_once::RULE)? {
                None => return self.send_alone(link, batch),
                Some(Opened::CarriedOut) => return Ok(all_of_batch(batch)),
                Some(Opened::Ready(_)) => {}
            }
            match self.try_send(link, batch, in_flight) {
                Ok(None) => {}
                Ok(Some(counts)) => return Ok(counts),
                Err(error) if link::is_connection_error(&error) => return Err(error),
                // Redis at its memory limit takes XACK and no keys.
                Err(error) => {
                    log::debug!("acknowledging without a proof: {}", link::describe(&error));
                    return self.send_alone(link, batch);
                }
            }
        }
    }

    /// Acknowledges what of a batch is this process's, in a transaction that is open; `None` if it has to be opened again.
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
        // Carried out as one, they need not stay in order.
        own.sort_by_key(|done| class(done));
        let answers = self.acked.close(link, self.acks(&own))?;
        answers.map(|answers| taken_off(all_of(&own), answers)).transpose()
    }

    /// Whether entries given last, of which no answer came, were taken off all the same. If not, they are not any more: a
    /// try that is still under way changes nothing.
    ///
    /// # Errors
    ///
    /// As Redis or the system says.
    pub fn were_taken_off(&mut self, link: &mut Link, batch: &[Done]) -> RedisResult<bool> {
        if std::mem::take(&mut self.is_unclear) {
            return self.are_gone(link, batch).inspect_err(|_| self.is_unclear = true);
        }
        let once = match batch {
            [done] if matches!(done.outcome, Outcome::Dead(_)) => &mut self.buried,
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
            // Redis at its memory limit takes no keys.
            Err(_) => self.late.extend(batch.iter().map(|done| done.id)),
            Ok(()) => {}
        }
        Ok(false)
    }

    /// Whether none of these is pending for this process; without the right to look, what was sent is taken for done.
    fn are_gone(&self, link: &mut Link, batch: &[Done]) -> RedisResult<bool> {
        let ids = batch.iter().map(|done| done.id).collect();
        let owners = self.owners(link, &ids);
        let owners = link.optional(owners, NO_LOOK, "+xpending")?;
        Ok(owners.is_none_or(|owners| owners.own.is_empty()))
    }

    /// Carries out what `store` says, given the number of deliveries, and acknowledges the entry; `false` if another process
    /// is done with it. After an error of the connection `were_taken_off` tells.
    ///
    /// # Errors
    ///
    /// As Redis or the system says.
    pub fn store_dead_letters(
        &mut self,
        link: &mut Link,
        done: &Done,
        store: impl Fn(u64) -> Vec<Cmd>,
    ) -> RedisResult<bool> {
        loop {
            if let Opened::CarriedOut = self.open(link, |acks| &mut acks.buried)? {
                return Ok(true);
            }
            let deliveries = match self.look_up(link, done.id)? {
                Pending::Own(deliveries) => deliveries,
                Pending::TakenBack => continue,
                Pending::Gone => {
                    self.buried.give_up();
                    return Ok(self.late.remove(&done.id));
                }
            };
            let mut commands = store(deliveries);
            commands.extend(self.acks(&[done]));
            if let Some(answers) = self.buried.close(link, commands)? {
                return Ok(answers.last() != Some(&Value::Int(0)));
            }
        }
    }

    /// Begins a transaction that a move of the fence ends, and takes note of where that stands.
    fn open(&mut self, link: &mut Link, once: fn(&mut Acks) -> &mut Once) -> RedisResult<Opened> {
        let connection = link.reach()?;
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

    /// The entries of a batch that are pending for this process; `None` if it has to be looked again.
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
        let Some(owners) = link.optional(owners, NO_LOOK, "+xpending")? else {
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

    /// Looks up an entry; one that may not be looked up is taken for this process's.
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

    /// Makes entries this process's again whose effect it has committed, whatever the other one does with them.
    fn take_back(&self, link: &mut Link, ids: &[EntryId]) -> RedisResult<()> {
        let claim = self.consumer.claim(Duration::ZERO, ids.iter().copied());
        link.transaction(&[self.fence.move_away(), claim]).map(drop)
    }

    /// XACK without a proof.
    fn send_alone<'b>(&mut self, link: &mut Link, batch: &'b [Done]) -> RedisResult<Vec<Count<'b>>> {
        let batch: Vec<&Done> = batch.iter().collect();
        let mut acks = redis::Pipeline::with_capacity(1);
        for ack in self.acks(&batch) {
            acks.add_command(ack);
        }
        link.reach()?;
        // Each error as Redis says it.
        let answers: RedisResult<Vec<Value>> = link.pipeline(acks.ignore_errors());
        self.is_unclear = answers.as_ref().is_err_and(link::is_connection_error);
        let answers = answers?;
        self.acked.give_up();
        taken_off(all_of(&batch), answers)
    }

    /// The commands that acknowledge entries in this order, one for as many as count alike.
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

/// Entries that follow each other and count alike.
fn alike<'a, 'b>(batch: &'a [&'b Done]) -> impl Iterator<Item = &'a [&'b Done]> {
    batch.chunk_by(|a, b| class(a) == class(b))
}

/// Entries of one class count alike.
fn class(done: &Done) -> u8 {
    match done.outcome {
        Outcome::Applied(kind) => kind as u8,
        Outcome::Dead(_) => u8::MAX - 1,
        Outcome::Lost | Outcome::Dropped => u8::MAX,
    }
}

/// The counts where all of a batch were taken off.
pub fn all_of_batch(batch: &[Done]) -> Vec<Count<'_>> {
    all_of(&batch.iter().collect::<Vec<_>>())
}

fn all_of<'b>(batch: &[&'b Done]) -> Vec<Count<'b>> {
    let count = |alike: &[&'b Done]| Some((&alike.first()?.outcome, alike.len() as u64));
    alike(batch).filter_map(count).collect()
}

/// The counts by Redis' answers.
fn taken_off<'b>(counts: Vec<Count<'b>>, answers: Vec<Value>) -> RedisResult<Vec<Count<'b>>> {
    let count = |((outcome, _), answer): (Count<'b>, Value)| Ok((outcome, from_redis_value(answer.extract_error()?)?));
    counts.into_iter().zip(answers).map(count).collect()
}
