//! Thread `reader`: stream → workers.
//!
//! Owns reading: the consumer's own pending entries first, oldest first, then what gone consumers left, then new ones.
//! Hands each entry to the worker of its DID, in the order read, and stops reading while too many bytes are in flight.
//! Never acknowledges anything but through `ack`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{SendError, Sender};
use redis::{RedisError, RedisResult};

use crate::ack::Done;
use crate::claim::{Claim, Cursor};
use crate::config::Config;
use crate::delivered::{Delivered, entries_of_stream};
use crate::entry::{Entry, EntryId};
use crate::holder::Lease;
use crate::in_flight::InFlight;
use crate::link::{self, Link, Redis};
use crate::metrics::Metrics;
use crate::partition::worker_of;
use crate::poison::Deliveries;
use crate::retry::{Backoff, Refusal};
use crate::shutdown::Stop;
use crate::turns;

/// How long a read waits for new entries; a stop is noticed within it.
const BLOCK: Duration = Duration::from_millis(500);

/// Entries asked for at a time at most, unless BATCH_SIZE says more: a round trip less per entry is saved by more of
/// them, and what an answer of large entries takes before their size is known is bounded.
const MAX_COUNT: usize = 250;

const NO_CLAIMS: &str = "entries that gone consumers left pending are not taken over";
const CLAIM_RULE: &str = "+xautoclaim +xclaim";
/// Entries asked for at first, as long as nothing is known of their size.
const FIRST_COUNT: usize = 16;

/// What the reader needs.
pub struct Reader {
    link: Link,
    stream: String,
    group: String,
    consumer: String,
    read_count: usize,
    claim: Claim,
    deliveries: Deliveries,
    workers: Vec<Sender<Entry>>,
    done: Sender<Done>,
    in_flight: Arc<InFlight>,
    metrics: Arc<Metrics>,
    stop: Stop,
    lease: Lease,
    /// Ends when everything there is has been acknowledged.
    is_drain: bool,
    /// Entries to ask for next: few at first, BATCH_SIZE while there is no backlog, more while answers come back full.
    count: usize,
    /// Bytes to expect of an entry, going by the recent ones.
    entry_weight: usize,
    claimed_at: Instant,
    /// Nothing has been read yet.
    is_first: bool,
    /// The group has been there.
    has_group: bool,
    refusal: Refusal,
}

/// What a read came to.
enum Read {
    Entries(usize),
    /// A worker has given up while the entries were handed over.
    Stopped,
}

/// What the reader shares with other threads.
pub struct Shared {
    pub workers: Vec<Sender<Entry>>,
    pub done: Sender<Done>,
    pub in_flight: Arc<InFlight>,
    pub metrics: Arc<Metrics>,
    pub stop: Stop,
    pub lease: Lease,
}

impl Reader {
    pub fn new(redis: &Redis, config: &Config, shared: Shared, is_drain: bool) -> Reader {
        Reader {
            link: redis.link(BLOCK),
            stream: config.stream.clone(),
            group: config.group.clone(),
            consumer: config.consumer.clone(),
            read_count: config.read_count,
            claim: Claim {
                stream: config.stream.clone(),
                group: config.group.clone(),
                consumer: config.consumer.clone(),
                idle: config.claim_idle,
            },
            deliveries: Deliveries::new(config),
            workers: shared.workers,
            done: shared.done,
            in_flight: shared.in_flight,
            metrics: shared.metrics,
            stop: shared.stop,
            lease: shared.lease,
            is_drain,
            count: config.read_count.min(FIRST_COUNT),
            entry_weight: 1024,
            claimed_at: Instant::now(),
            is_first: true,
            has_group: false,
            refusal: Refusal::default(),
        }
    }

    /// Reads until a stop is requested, or all is drained.
    pub fn run(mut self) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        while !self.stop.is_requested() {
            match self.read_connected() {
                Ok(()) => return Ok(()),
                Err(error) => self.recover(&error, &mut backoff),
            }
        }
        Ok(())
    }

    /// Reads over one connection. What an answer that was lost had delivered is pending: so the own pending entries are
    /// read first, each time.
    fn read_connected(&mut self) -> RedisResult<()> {
        self.make_group()?;
        if self.is_first {
            // Adopted entries are read with the own ones, all in the order of the stream.
            let mut trimmed = Vec::new();
            let adopted = self.claim.adopt_gone(&mut self.link, &mut trimmed, &self.stop);
            let adopted = self.link.optional(adopted, NO_CLAIMS, CLAIM_RULE);
            // Redis forgets them as it finds them, so they are counted whatever else came of it.
            if self.hand_over_trimmed(trimmed).is_none() || adopted? == Some(false) {
                return Ok(());
            }
            self.is_first = false;
        }
        if !self.read_pending()? {
            return Ok(());
        }
        self.refusal.end("redis is read");
        loop {
            let claimed = self.claim_gone();
            if self.stop.is_requested() || self.link.optional(claimed, NO_CLAIMS, CLAIM_RULE)? == Some(false) {
                return Ok(());
            }
            match self.read_new()? {
                Read::Stopped => return Ok(()),
                Read::Entries(0) if self.is_drain && self.is_drained()? => return Ok(()),
                Read::Entries(_) => {}
            }
        }
    }

    fn recover(&mut self, error: &RedisError, backoff: &mut Backoff) {
        self.metrics.read_unknown();
        if link::is_connection_error(error) && !self.link.is_connected() {
            log::debug!("reading failed: {}", link::describe(error));
        } else if link::is_unready(error) {
            self.link.unserved(error);
        } else if link::code(error) == "UNBLOCKED" {
            // What has happened to the stream or its server, the next read says.
            log::debug!("reading was interrupted: {}", link::describe(error));
        } else if link::code(error) == "NOGROUP" {
            self.refusal.say(format!(
                "the group {} or its stream is gone: making it again from the stream's first entry",
                self.group
            ));
        } else {
            self.refusal.say(format!(
                "redis refuses to be read: {}; trying on, nothing is lost; allow ~{} +xreadgroup",
                link::describe(error),
                self.stream
            ));
        }
        backoff.wait(&self.stop);
    }

    /// Makes stream and group where they are not there, from the stream's first entry.
    fn make_group(&mut self) -> RedisResult<()> {
        let mut create = redis::cmd("XGROUP");
        create
            .arg("CREATE")
            .arg(&self.stream)
            .arg(&self.group)
            .arg("0")
            .arg("MKSTREAM");
        match self.link.query::<()>(&create) {
            Ok(()) => {
                log::info!("made the group {} on {}", self.group, self.stream);
                if self.has_group {
                    self.metrics.group_recreated();
                }
            }
            Err(error) if link::is_connection_error(&error) || link::is_unready(&error) => return Err(error),
            Err(error) if link::code(&error) == "BUSYGROUP" => {}
            Err(error) if link::code(&error) == "NOPERM" => {
                let cost = "a group that is missing has to be made by somebody else";
                self.link.optional(Err::<(), _>(error), cost, "+xgroup|create")?;
            }
            // Redis at its memory limit, say. Whether the group is there, the read finds out.
            Err(error) => {
                log::debug!("failed to make the group: {}", link::describe(&error));
                return Ok(());
            }
        }
        self.has_group = true;
        Ok(())
    }

    /// Hands over the consumer's own pending entries, oldest first. `false` if a stop was requested.
    fn read_pending(&mut self) -> RedisResult<bool> {
        let mut after = EntryId::ZERO;
        while let Some(room) = self.wait_for_room() {
            let count = self.count_for(room);
            let read = self.command(count).arg(after.to_string()).to_owned();
            self.in_flight.begin_reading_again();
            let delivered = entries_of_stream(self.link.query(&read)?);
            let Some(last) = delivered.last().map(Delivered::id) else {
                self.in_flight.end_reading_again();
                return Ok(true);
            };
            after = last;
            self.adapt_count(delivered.len(), count);
            if self.hand_over_again(delivered)?.is_none() {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Waits until there is room for entries, and nobody else can be reading under the consumer name; `None` if a stop is
    /// requested first.
    fn wait_for_room(&self) -> Option<usize> {
        loop {
            let room = self.in_flight.room(BLOCK);
            if self.stop.is_requested() || !self.lease.wait(&self.stop) {
                return None;
            }
            if room > 0 {
                return Some(room);
            }
        }
    }

    fn read_new(&mut self) -> RedisResult<Read> {
        let room = self.in_flight.room(BLOCK);
        if room == 0 || !self.lease.wait(&self.stop) {
            // Full, or to stop: come back to look for a stop.
            return Ok(Read::Entries(1));
        }
        let count = self.count_for(room);
        let read = self.command(count).arg(">").to_owned();
        self.in_flight.begin_reading();
        let delivered = entries_of_stream(self.link.query(&read)?);
        let number = delivered.len();
        if let Some(last) = delivered.last() {
            self.metrics.read(number, last.id());
        } else if self.in_flight.is_empty(Duration::ZERO) {
            self.metrics.progress.made();
        }
        self.adapt_count(number, count);
        Ok(match self.hand_over(delivered) {
            Some(_) => Read::Entries(number),
            None => Read::Stopped,
        })
    }

    /// More at a time while answers come back full.
    fn adapt_count(&mut self, number: usize, asked: usize) {
        self.count = match number == asked {
            true => (self.count * 2).min(MAX_COUNT.max(self.read_count)),
            false => self.read_count,
        };
    }

    fn command(&self, count: usize) -> redis::Cmd {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(&self.group)
            .arg(&self.consumer)
            .arg("COUNT")
            .arg(count);
        if !self.is_drain {
            read.arg("BLOCK").arg(BLOCK.as_millis() as u64);
        }
        read.arg("STREAMS").arg(&self.stream);
        read
    }

    /// No more entries than fill the room, going by their recent size.
    fn count_for(&self, room: usize) -> usize {
        (room / self.entry_weight).clamp(1, self.count)
    }

    /// Takes over what consumers that are gone have left pending meanwhile. `false` if a stop was requested.
    fn claim_gone(&mut self) -> RedisResult<bool> {
        if self.claimed_at.elapsed() < self.claim.idle / 2 {
            return Ok(true);
        }
        self.claimed_at = Instant::now();
        let mut cursor = Cursor::start();
        while !cursor.is_at_end() {
            let claimed = self.claim.next(&mut self.link, &mut cursor)?;
            if self.hand_over_trimmed(claimed.trimmed).is_none() || !self.read_claimed(claimed.ids)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hands over claimed entries, as many at a time as there is room for. `false` if a stop was requested.
    fn read_claimed(&mut self, mut ids: Vec<EntryId>) -> RedisResult<bool> {
        // What is in flight here and was claimed all the same is this process's again, if another had it.
        self.in_flight.set_taken(&ids, false);
        ids.retain(|id| !self.in_flight.holds(*id));
        let mut rest = ids.as_slice();
        while !rest.is_empty() {
            let Some(room) = self.wait_for_room() else {
                return Ok(false);
            };
            let (page, later) = rest.split_at(self.count_for(room).min(rest.len()));
            rest = later;
            self.in_flight.begin_reading_again();
            let delivered = self.claim.read(&mut self.link, page)?;
            let Some(taken) = self.hand_over_again(delivered)? else {
                return Ok(false);
            };
            log::info!("took over {taken} pending entries of consumers that are gone");
        }
        Ok(true)
    }

    /// Hands over entries that have been delivered before.
    fn hand_over_again(&mut self, mut delivered: Vec<Delivered>) -> RedisResult<Option<usize>> {
        self.deliveries.look_up(&mut self.link, &mut delivered)?;
        let given = self.hand_over(delivered);
        self.in_flight.end_reading_again();
        Ok(given)
    }

    /// Has entries acknowledged of which nothing is left but their IDs. `None` if the acker has gone.
    fn hand_over_trimmed(&mut self, ids: Vec<EntryId>) -> Option<usize> {
        self.hand_over(ids.into_iter().map(Delivered::Trimmed).collect())
    }

    /// Gives each entry to its worker, in order, unless it is in flight already; how many were given. `None` if a worker
    /// has given up; what was not taken stays pending.
    fn hand_over(&mut self, delivered: Vec<Delivered>) -> Option<usize> {
        let mut given = 0;
        let mut trimmed = Vec::new();
        for delivered in delivered {
            match delivered {
                Delivered::Entry(entry) => {
                    let weight = entry.weight();
                    // Up at once, down slowly: too few entries cost a round trip, too many cost memory.
                    self.entry_weight = weight.max((self.entry_weight * 255 + weight) / 256 + 1);
                    if self.in_flight.add(entry.id, weight) {
                        self.send(entry)?;
                        given += 1;
                    }
                }
                // One that is in flight was read before it was trimmed.
                Delivered::Trimmed(id) if self.in_flight.add(id, 0) => trimmed.push(id),
                Delivered::Trimmed(_) => {}
            }
        }
        self.give_up(&trimmed)?;
        Some(given)
    }

    /// Has entries acknowledged and counted that are pending but no longer in the stream.
    fn give_up(&self, trimmed: &[EntryId]) -> Option<()> {
        if let (Some(first), Some(last)) = (trimmed.first(), trimmed.last()) {
            log::error!(
                "{} pending entries were trimmed from the stream before they were applied: lost, {first} to {last}",
                trimmed.len()
            );
        }
        trimmed
            .iter()
            .try_for_each(|id| turns::send(&self.done, Done::lost(*id)).ok())
    }

    /// Waits for room in the worker's channel, after a stop too: what was read is finished. A worker that has given up
    /// closes its channel.
    fn send(&self, entry: Entry) -> Option<()> {
        let worker = &self.workers[worker_of(&entry, self.workers.len())];
        turns::send(worker, entry)
            .map_err(|SendError(back)| self.in_flight.remove(std::iter::once(back.id)))
            .ok()
    }

    /// Whether, with nothing new to read, everything read is acknowledged too.
    fn is_drained(&mut self) -> RedisResult<bool> {
        if !self.in_flight.is_empty(BLOCK) {
            return Ok(false);
        }
        let read = self.command(1).arg(EntryId::ZERO.to_string()).to_owned();
        self.in_flight.begin_reading_again();
        let pending = entries_of_stream(self.link.query(&read)?);
        let is_drained = pending.is_empty();
        self.hand_over_again(pending)?;
        Ok(is_drained)
    }
}
