//! Thread `reader`: stream → workers.
//!
//! Owns reading: first the consumer's own pending entries together with those of dead consumers, oldest first, then new
//! entries. Decides when entries of other consumers may be considered abandoned. Stops reading while too many bytes are
//! in flight. Acknowledges only through `ack`.
//!
//! Invariant: no entry of a repo takes effect after a later entry of that repo that this process has read, whatever
//! Redis delivers again, unless that later entry takes effect once more afterwards. Within a session (`group::session`)
//! entries are dispatched in stream order. When Redis may have returned to an earlier state, the session ends: the
//! reader waits until nothing is in flight, and nothing that was in flight is acknowledged. Thus what Redis delivers
//! next of a repo has no gap: it begins with the oldest entry that Redis does not know as acknowledged, and continues
//! with all later ones. The exception are later entries that Redis itself has lost; their producer must send them
//! again.

pub mod claim;
pub mod deliveries;
pub mod delivered;
pub mod dispatch;
mod rewind;
mod takeover;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use redis::{Cmd, RedisError, RedisResult};

use crate::entry::{Entry, EntryId};
use crate::group::consumer::Consumer;
use crate::group::fence::Fence;
use crate::group::session::Session;
use crate::in_flight::InFlight;
use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::outcome::Done;
use crate::reader::claim::Claim;
use crate::reader::delivered::{Delivered, entries_of_stream};
use crate::reader::dispatch::Dispatcher;
use crate::redis::link::{self, Link, Redis};
use crate::runtime::retry::{Backoff, Refusal};
use crate::runtime::shutdown::{Stop, Stopped};
use crate::settings::config::Config;

/// How long a read waits for new entries. A stop is noticed within this time.
const BLOCK: Duration = Duration::from_millis(500);

/// Maximum number of entries per read, unless BATCH_SIZE is larger. Larger reads save few round trips per entry, and
/// the limit bounds the memory for an answer of large entries whose size is not known yet.
const MAX_COUNT: usize = 250;

/// The number of entries of the first read, when their size is unknown.
const FIRST_COUNT: usize = 16;

const NO_CLAIMS: &str = "pending entries of dead consumers are not taken over";
const CLAIM_RULE: &str = "+xautoclaim";

/// The thread's state.
pub struct Reader {
    redis: Redis,
    link: Link,
    consumer: Consumer,
    read_count: usize,
    claim: Claim,
    dispatcher: Dispatcher,
    in_flight: Arc<InFlight>,
    session: Session,
    metrics: Arc<Metrics>,
    stop: Stop,
    lease: Lease,
    /// The last entry dispatched in this session.
    last: EntryId,
    /// The newest entry dispatched in any session.
    newest: EntryId,
    /// Whether to end when every entry of the stream has been acknowledged.
    is_drain: bool,
    /// The number of entries of the next read: few at first, BATCH_SIZE without a backlog, more while answers come back
    /// full.
    count: usize,
    /// When Redis last answered.
    heard_at: Instant,
    /// When entries of dead consumers were last claimed, or when something last prevented that.
    claimed_at: Instant,
    /// Whether nothing has been read yet.
    is_first: bool,
    /// Whether the group has existed.
    has_group: bool,
    /// Why Redis refused to create the group in this session, in case it turns out to be missing.
    group_refused: Option<String>,
    refusal: Refusal,
}

/// What interrupts reading.
enum Interrupt {
    /// A stop was requested, or the drain is complete.
    End,
    Redis(RedisError),
}

type Reading<T> = Result<T, Interrupt>;

impl From<Stopped> for Interrupt {
    fn from(_: Stopped) -> Interrupt {
        Interrupt::End
    }
}

impl From<RedisError> for Interrupt {
    fn from(error: RedisError) -> Interrupt {
        Interrupt::Redis(error)
    }
}

/// The result of a read.
enum Read {
    Entries(usize),
    /// There was no room.
    Full,
    /// The session is over. The entries read are pending.
    Over,
}

/// What the reader shares with other threads.
pub struct Shared {
    pub workers: Vec<Sender<Entry>>,
    pub done: Sender<Done>,
    pub in_flight: Arc<InFlight>,
    pub session: Session,
    pub metrics: Arc<Metrics>,
    pub stop: Stop,
    pub lease: Lease,
}

impl Reader {
    pub fn new(redis: &Redis, config: &Config, shared: Shared, is_drain: bool) -> Reader {
        Reader {
            redis: redis.clone(),
            link: redis.link(BLOCK),
            consumer: Consumer::new(config),
            read_count: config.read_count,
            claim: Claim {
                consumer: Consumer::new(config),
                idle: config.claim_idle,
                fence: Fence::new(config),
            },
            dispatcher: Dispatcher::new(shared.workers, shared.done, Arc::clone(&shared.in_flight)),
            in_flight: shared.in_flight,
            session: shared.session,
            metrics: shared.metrics,
            stop: shared.stop,
            lease: shared.lease,
            last: EntryId::ZERO,
            newest: EntryId::ZERO,
            is_drain,
            count: config.read_count.min(FIRST_COUNT),
            heard_at: Instant::now(),
            claimed_at: Instant::now(),
            is_first: true,
            has_group: false,
            group_refused: None,
            refusal: Refusal::default(),
        }
    }

    /// Reads until a stop is requested or the drain is complete.
    pub fn run(mut self) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        while !self.stop.is_requested() {
            let result = self.read_session();
            // Losses are logged whatever the result.
            self.dispatcher.say_trimmed();
            match result {
                Ok(()) => {}
                Err(Interrupt::End) => break,
                Err(Interrupt::Redis(error)) => {
                    self.recover(&error);
                    let _ = backoff.wait(&self.stop);
                }
            }
        }
        Ok(())
    }

    /// Reads until the session is over. Entries of an answer that was lost are pending, as are those released when the
    /// last session ended. Therefore each session begins with the consumer's own pending entries.
    fn read_session(&mut self) -> Reading<()> {
        self.begin_session()?;
        self.make_group()?;
        // Other consumers could not renew their entries while Redis was unreachable.
        self.claimed_at = Instant::now();
        if self.is_first {
            // The previous holder of the consumer name may have sent acknowledgements that have yet to arrive.
            self.claim.move_fence(&mut self.link)?;
            self.where_allowed(Reader::adopt_from_dead)?;
            self.is_first = false;
        }
        self.read_pending()?;
        self.group_refused = None;
        self.refusal.end("redis is read");
        while !self.session.is_over() {
            self.where_allowed(Reader::claim_from_dead)?;
            self.stop.check()?;
            match self.read_new()? {
                Read::Entries(0) if self.is_drain && self.is_drained()? => return Err(Interrupt::End),
                Read::Entries(_) | Read::Full | Read::Over => {}
            }
        }
        Ok(())
    }

    /// Claims entries if the Redis user has the rights.
    fn where_allowed(&mut self, claim: fn(&mut Reader) -> Reading<()>) -> Reading<()> {
        match claim(self) {
            Err(Interrupt::Redis(error)) => {
                self.link.optional(Err::<(), _>(error), NO_CLAIMS, CLAIM_RULE)?;
                Ok(())
            }
            claimed => claimed,
        }
    }

    fn recover(&mut self, error: &RedisError) {
        self.metrics.read_unknown();
        if self.link.waits_out(error) {
            log::debug!("reading failed: {}", link::describe(error));
        } else if link::code(error) == "UNBLOCKED" {
            // The next read reveals what happened to the stream or the server.
            log::debug!("reading was interrupted: {}", link::describe(error));
        } else if link::code(error) == "NOGROUP"
            || error.detail().is_some_and(|detail| detail.starts_with("no such key"))
        {
            let making = match self.group_refused.take() {
                Some(refused) => format!("redis refuses to create it again: {refused}; retrying, nothing is lost"),
                None => "creating it again from the stream's first entry".to_owned(),
            };
            self.refusal.say(format!(
                "the group {} or its stream no longer exists: {making}",
                self.consumer.group
            ));
        } else {
            self.refusal.say(format!(
                "cannot read from redis: {}; retrying, nothing is lost{}",
                link::describe(error),
                link::hint(error, &format!("~{} +xreadgroup", self.consumer.stream))
            ));
        }
    }

    /// Creates the stream and the group, from the stream's first entry, if they do not exist.
    fn make_group(&mut self) -> RedisResult<()> {
        let mut create = redis::cmd("XGROUP");
        create
            .arg("CREATE")
            .arg(&self.consumer.stream)
            .arg(&self.consumer.group)
            .arg("0")
            .arg("MKSTREAM");
        match self.link.query::<()>(&create) {
            Ok(()) => {
                log::info!("created the group {} on {}", self.consumer.group, self.consumer.stream);
                if self.has_group {
                    self.metrics.group_recreated();
                }
            }
            Err(error) if link::is_connection_error(&error) || link::is_unready(&error) => return Err(error),
            Err(error) if link::code(&error) == "BUSYGROUP" => {}
            Err(error) if link::is_refused(&error) => {
                let cost = "the worker cannot create a missing group";
                self.group_refused = Some(link::describe(&error));
                self.link.optional(Err::<(), _>(error), cost, "+xgroup|create")?;
            }
            // For example, Redis is at its memory limit. The read reveals whether the group exists.
            Err(error) => {
                self.group_refused = Some(link::describe(&error));
                return Ok(());
            }
        }
        self.has_group = true;
        Ok(())
    }

    /// Dispatches the consumer's own pending entries, oldest first.
    fn read_pending(&mut self) -> Reading<()> {
        let mut after = EntryId::ZERO;
        while !self.session.is_over() {
            let room = self.wait_for_room()?;
            let count = self.count_for(room);
            let _reading = self.in_flight.read_again();
            let delivered = self.read_own(after, count)?;
            let Some(last) = delivered.last().map(Delivered::id) else {
                self.dispatcher.say_trimmed();
                return Ok(());
            };
            after = last;
            self.adapt_count(delivered.len(), count);
            self.give_again(delivered)?;
        }
        Ok(())
    }

    /// Waits until there is room for entries and no other process can be reading under the consumer name. Fails if a
    /// stop is requested first.
    fn wait_for_room(&self) -> Result<usize, Stopped> {
        loop {
            let room = self.in_flight.room(BLOCK);
            self.stop.check()?;
            self.lease.wait(&self.stop)?;
            if room > 0 {
                return Ok(room);
            }
        }
    }

    fn read_new(&mut self) -> Reading<Read> {
        let room = self.in_flight.room(BLOCK);
        if room == 0 {
            // Return to the loop, which checks for a stop.
            return Ok(Read::Full);
        }
        self.lease.wait(&self.stop)?;
        let count = self.count_for(room);
        let read = self.command(count).arg(">").to_owned();
        let delivered = self.ask(&read)?;
        if self.session.is_over() {
            return Ok(Read::Over);
        }
        let number = delivered.len();
        let first = delivered.first().map(Delivered::id);
        if first.is_some_and(|first| first <= self.newest) {
            self.say_gone_back(first);
        }
        if first.is_some_and(|first| first <= self.last) {
            return Ok(self.rewind(&delivered)?);
        }
        if let Some(last) = delivered.last() {
            self.metrics.read(number, last.id());
        } else if self.in_flight.wait_until_empty(Duration::ZERO) {
            self.metrics.readiness.progress_made();
        }
        self.adapt_count(number, count);
        self.dispatch(delivered)?;
        Ok(Read::Entries(number))
    }

    /// Requests more at a time while answers come back full.
    fn adapt_count(&mut self, number: usize, asked: usize) {
        self.count = match number == asked {
            true => (self.count * 2).min(MAX_COUNT.max(self.read_count)),
            false => self.read_count,
        };
    }

    /// Entries that were delivered to this consumer before. Redis counts the read as another delivery.
    fn read_own(&mut self, after: EntryId, count: usize) -> RedisResult<Vec<Delivered>> {
        let read = self.command(count).arg(after.to_string()).to_owned();
        self.ask(&read)
    }

    fn ask(&mut self, read: &Cmd) -> RedisResult<Vec<Delivered>> {
        self.in_flight.begin_reading();
        let answer = self.link.query(read)?;
        self.heard();
        Ok(entries_of_stream(answer))
    }

    /// Notes that Redis has answered. If that took long, entries of other consumers are not claimed for a while.
    fn heard(&mut self) {
        if self.is_out_of_touch() {
            self.claimed_at = Instant::now();
        }
        self.heard_at = Instant::now();
    }

    /// Whether Redis may have been unreachable for so long that entries of live consumers look like those of dead ones
    /// until they are renewed.
    fn is_out_of_touch(&self) -> bool {
        self.heard_at.elapsed() > BLOCK + self.claim.idle / 4
    }

    fn command(&self, count: usize) -> Cmd {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(&self.consumer.group)
            .arg(&self.consumer.name)
            .arg("COUNT")
            .arg(count);
        if !self.is_drain {
            read.arg("BLOCK").arg(BLOCK.as_millis() as u64);
        }
        read.arg("STREAMS").arg(&self.consumer.stream);
        read
    }

    /// At most as many entries as fit into `room`, estimated from recent sizes.
    fn count_for(&self, room: usize) -> usize {
        self.dispatcher.fitting(room).min(self.count)
    }

    /// Dispatches entries that were delivered before.
    fn give_again(&mut self, mut delivered: Vec<Delivered>) -> Reading<usize> {
        deliveries::look_up(&self.consumer, &mut self.link, &mut delivered)?;
        Ok(self.dispatch(delivered)?)
    }

    /// Dispatches entries, and records the last one.
    fn dispatch(&mut self, delivered: Vec<Delivered>) -> Result<usize, Stopped> {
        if let Some(last) = delivered.last() {
            self.last = self.last.max(last.id());
            self.newest = self.newest.max(last.id());
        }
        self.dispatcher.dispatch(delivered)
    }

    /// Whether there is nothing new to read and everything read is acknowledged.
    fn is_drained(&mut self) -> Reading<bool> {
        if !self.in_flight.wait_until_empty(BLOCK) {
            return Ok(false);
        }
        let _reading = self.in_flight.read_again();
        let pending = self.read_own(EntryId::ZERO, 1)?;
        let is_drained = pending.is_empty() && !self.session.is_over();
        self.give_again(pending)?;
        Ok(is_drained)
    }
}
