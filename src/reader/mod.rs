//! Thread `reader`: stream → workers.
//!
//! Owns reading: the consumer's own pending entries first and with them what gone consumers left, oldest first, then new
//! ones; and when what others hold may be taken for left behind. Stops reading while too many bytes are in flight. Never
//! acknowledges anything but through `ack`.
//!
//! Invariant: no entry of a repo takes effect after a later entry of that repo that this process has read, whatever Redis
//! delivers again, unless that later entry takes effect once more behind it. Within a session (`ack::session`) entries are
//! handed over in the order of the stream. Where Redis may have gone back to an earlier state, the session ends: nothing is
//! read until nothing is in flight, and nothing that was in flight is acknowledged. So what Redis delivers next of a repo has
//! no gap: it begins with the oldest entry that Redis does not know as acknowledged, and goes on with all later ones. Out
//! of reach are later entries that Redis itself has lost: its producer has to send them again.

pub mod claim;
pub mod deliveries;
pub mod delivered;
mod gone;
pub mod dispatch;
mod rewind;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use redis::{Cmd, RedisError, RedisResult};

use crate::entry::{Entry, EntryId};
use crate::group::consumer::Consumer;
use crate::group::fence::Fence;
use crate::group::lease::Lease;
use crate::group::session::Session;
use crate::in_flight::InFlight;
use crate::metrics::Metrics;
use crate::outcome::Done;
use crate::reader::claim::Claim;
use crate::reader::delivered::{Delivered, entries_of_stream};
use crate::reader::dispatch::Dispatcher;
use crate::redis::link::{self, Link, Redis};
use crate::runtime::retry::{Backoff, Refusal};
use crate::runtime::shutdown::{Stop, Stopped};
use crate::settings::config::Config;

/// How long a read waits for new entries; a stop is noticed within it.
const BLOCK: Duration = Duration::from_millis(500);

/// Entries asked for at a time at most, unless BATCH_SIZE says more: a round trip less per entry is saved by more of
/// them, and what an answer of large entries takes before their size is known is bounded.
const MAX_COUNT: usize = 250;

/// Entries asked for at first, as long as nothing is known of their size.
const FIRST_COUNT: usize = 16;

const NO_CLAIMS: &str = "entries that gone consumers left pending are not taken over";
const CLAIM_RULE: &str = "+xautoclaim";

/// What the reader needs.
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
    /// The last entry handed over in this session.
    last: EntryId,
    /// The newest entry handed over in any.
    newest: EntryId,
    /// Ends when everything there is has been acknowledged.
    is_drain: bool,
    /// Entries to ask for next: few at first, BATCH_SIZE while there is no backlog, more while answers come back full.
    count: usize,
    /// When Redis answered last.
    heard_at: Instant,
    /// When it was looked last for what gone consumers left, or could not be.
    claimed_at: Instant,
    /// Nothing has been read yet.
    is_first: bool,
    /// The group has been there.
    has_group: bool,
    /// Why Redis did not make it in this session, should it turn out to be missing.
    group_refused: Option<String>,
    refusal: Refusal,
}

/// What interrupts reading.
enum Interrupt {
    /// A stop is requested, or all is drained.
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

/// What a read came to.
enum Read {
    Entries(usize),
    /// There was no room.
    Full,
    /// The session is over. What was read is pending.
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

    /// Reads until a stop is requested, or all is drained.
    pub fn run(mut self) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        while !self.stop.is_requested() {
            let result = self.read_session();
            // What was lost is counted whatever else came of it.
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

    /// Reads until the session is over. What an answer that was lost had delivered is pending, and what was let go when the last
    /// session ended: so the own pending entries are read first, each time.
    fn read_session(&mut self) -> Reading<()> {
        self.begin_session()?;
        self.make_group()?;
        // Nobody could renew what he holds while Redis was away.
        self.claimed_at = Instant::now();
        if self.is_first {
            // Who had the consumer name before may have acknowledgements on their way.
            self.claim.move_fence(&mut self.link)?;
            self.where_allowed(Reader::adopt_gone)?;
            self.is_first = false;
        }
        self.read_pending()?;
        self.group_refused = None;
        self.refusal.end("redis is read");
        while !self.session.is_over() {
            self.where_allowed(Reader::claim_gone)?;
            self.stop.check()?;
            match self.read_new()? {
                Read::Entries(0) if self.is_drain && self.is_drained()? => return Err(Interrupt::End),
                Read::Entries(_) | Read::Full | Read::Over => {}
            }
        }
        Ok(())
    }

    /// Claims entries, unless Redis does not allow that.
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
            // What has happened to the stream or its server, the next read says.
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

    /// Makes stream and group where they are not there, from the stream's first entry.
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
                let cost = "a group that is missing has to be made by somebody else";
                self.group_refused = Some(link::describe(&error));
                self.link.optional(Err::<(), _>(error), cost, "+xgroup|create")?;
            }
            // Redis at its memory limit, say. Whether the group is there, the read finds out.
            Err(error) => {
                self.group_refused = Some(link::describe(&error));
                return Ok(());
            }
        }
        self.has_group = true;
        Ok(())
    }

    /// Hands over the consumer's own pending entries, oldest first.
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

    /// Waits until there is room for entries, and nobody else can be reading under the consumer name; fails if a stop is
    /// requested first.
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
            // Come back to look for a stop.
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

    /// More at a time while answers come back full.
    fn adapt_count(&mut self, number: usize, asked: usize) {
        self.count = match number == asked {
            true => (self.count * 2).min(MAX_COUNT.max(self.read_count)),
            false => self.read_count,
        };
    }

    /// Entries delivered to the own consumer before, which counts as a delivery.
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

    /// Redis has answered: if that took long, what others hold is left alone for a while.
    fn heard(&mut self) {
        if self.is_out_of_touch() {
            self.claimed_at = Instant::now();
        }
        self.heard_at = Instant::now();
    }

    /// Whether Redis may have been silent for so long that what live consumers hold looks like that of gone ones, until
    /// they have renewed it.
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

    /// No more entries than fill the room, going by their recent size.
    fn count_for(&self, room: usize) -> usize {
        self.dispatcher.fitting(room).min(self.count)
    }

    /// Hands over entries that have been delivered before.
    fn give_again(&mut self, mut delivered: Vec<Delivered>) -> Reading<usize> {
        deliveries::look_up(&self.consumer, &mut self.link, &mut delivered)?;
        Ok(self.dispatch(delivered)?)
    }

    /// Hands entries over, and keeps how far that is.
    fn dispatch(&mut self, delivered: Vec<Delivered>) -> Result<usize, Stopped> {
        if let Some(last) = delivered.last() {
            self.last = self.last.max(last.id());
            self.newest = self.newest.max(last.id());
        }
        self.dispatcher.dispatch(delivered)
    }

    /// Whether, with nothing new to read, everything read is acknowledged too.
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
