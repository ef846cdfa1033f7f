//! Thread `redis`: appends batches to the stream, each exactly once.
//!
//! Owns the transaction and the term. A batch's entries, the cursor and the state are written in one MULTI, which
//! executes only while the cursor is what the last transaction made it:
//!
//! ```text
//! MULTI; XADD …; SET cursor; HSET state; EXEC; WATCH cursor; GET cursor
//! ```
//!
//! The WATCH behind each EXEC guards the next transaction without a round trip of its own. If the reply is lost, the
//! cursor tells whether the transaction was executed; a copy that arrives late finds the cursor changed and does
//! nothing. If anything else moves the cursor, or Redis is an earlier state of itself, the term ends, and the relay is
//! read anew from the position in Redis.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use redis::{RedisError, RedisResult, Value};

use super::batch::{Batch, push_command};
use super::counts::Counts;
use super::dashboard::Sample;
use super::peers::{self, Noticed};
use super::position::{self, Keys, Remembered};
use super::pressure::Pressure;
use super::term::Terms;
use crate::lease::Lease;
use crate::redis::append_only::AppendOnly;
use crate::redis::link::{self, Link, Redis};
use crate::runtime::heartbeat;
use crate::runtime::retry::{Backoff, Refusal};
use crate::runtime::shutdown::{Stop, Stopped};
use crate::settings::consumer::ConsumerConfig;

/// How often the lease, other producers and the backlog are checked while there is nothing to append.
const IDLE: Duration = Duration::from_millis(250);

/// The rights that the Redis user needs.
pub const RULE: &str = "the stream, the cursor and ~firehose:consumer:*, and \
                        +type +get +set +hgetall +hset +xadd +xrevrange +watch +multi +exec";

/// What the thread shares with the others.
pub struct Shared {
    pub lease: Lease,
    pub terms: Terms,
    pub noticed: Noticed,
    pub counts: Arc<Counts>,
    pub stop: Stop,
}

/// The thread's ends of the channels.
pub struct Channels {
    pub inbox: Receiver<Batch>,
    /// Takes buffers back, to be filled again.
    pub spent: Sender<Vec<u8>>,
    pub samples: Sender<Sample>,
}

/// Checks the keys before anything is written, once Redis can be reached.
///
/// # Errors
///
/// A key is unusable, or a stop was requested.
pub fn inspect(redis: &Redis, keys: &Keys, stop: &Stop) -> anyhow::Result<()> {
    let mut link = redis.link(Duration::ZERO);
    let mut backoff = Backoff::default();
    loop {
        match position::read(&mut link, keys) {
            Ok(remembered) => return Ok(remembered.map(drop)?),
            // The publisher reports refusals.
            Err(error) if !link.waits_out(&error) => return Ok(()),
            Err(_) => backoff.wait(stop)?,
        }
    }
}

pub struct Publisher {
    link: Link,
    keys: Keys,
    channels: Channels,
    pressure: Pressure,
    is_beside_others: bool,
    shared: Shared,
    /// The cursor as this process has made it.
    known: Option<Vec<u8>>,
    watched: Option<Watched>,
    append_only: AppendOnly,
    buffer: Vec<u8>,
    read_refusal: Refusal,
    write_refusal: Refusal,
}

/// The cursor that the next transaction depends on.
struct Watched {
    /// The number of the connection that watches it.
    connection: u64,
    cursor: Option<Vec<u8>>,
}

/// Why a term ends.
enum End {
    /// There are no more batches.
    Finished,
    /// The group has too much to read.
    Paused,
    /// This process may no longer write.
    Lost(String),
    Failed(anyhow::Error),
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> End {
        End::Finished
    }
}

/// What became of a transaction that Redis answered.
enum Executed {
    All,
    /// Something else has written the cursor.
    Nothing,
    Refused(RedisError),
    /// A command failed although Redis had queued it: the others took effect.
    Partly(RedisError),
}

impl Publisher {
    pub fn new(redis: &Redis, config: &ConsumerConfig, channels: Channels, shared: Shared) -> Publisher {
        Publisher {
            link: redis.link(Duration::ZERO),
            keys: Keys::new(config),
            channels,
            pressure: Pressure::new(redis, config, Arc::clone(&shared.counts)),
            is_beside_others: config.is_beside_others,
            shared,
            known: None,
            watched: None,
            append_only: AppendOnly::default(),
            buffer: Vec::new(),
            read_refusal: Refusal::default(),
            write_refusal: Refusal::default(),
        }
    }

    /// Appends batches until there are no more.
    ///
    /// # Errors
    ///
    /// A key is unusable, or a transaction was executed in part.
    pub fn run(mut self) -> anyhow::Result<()> {
        loop {
            // During a pause no term runs: what was read and not appended is read again.
            if self.pause().is_err() {
                return Ok(());
            }
            let end = match self.claim() {
                Ok(term) => self.serve(term),
                Err(end) => end,
            };
            self.shared.terms.end();
            match end {
                End::Finished => return Ok(()),
                End::Paused => {}
                End::Failed(error) => return Err(error),
                End::Lost(reason) => {
                    log::warn!(
                        "lost the cursor {}: {reason}; reading anew from the position in redis",
                        self.keys.cursor
                    );
                }
            }
        }
    }

    /// Reads the position, once this process may write, and begins a term.
    fn claim(&mut self) -> Result<u64, End> {
        self.shared.lease.wait(&self.shared.stop)?;
        if !self.is_beside_others {
            peers::wait(&mut self.link, &self.keys, &self.shared.noticed, &self.shared.stop)?;
        }
        loop {
            let remembered = self.remembered()?;
            self.watched = None;
            let cursor = self.until_served(Publisher::watched_cursor)?;
            let parsed = cursor.as_deref().map(position::parse_cursor).transpose();
            if parsed == Ok(remembered.cursor) {
                self.known = cursor;
                return Ok(self.shared.terms.begin(remembered));
            }
        }
    }

    fn remembered(&mut self) -> Result<Remembered, End> {
        let keys = self.keys.clone();
        let remembered = self.until_served(|publisher| position::read(&mut publisher.link, &keys))?;
        remembered.map_err(|unusable| End::Failed(unusable.into()))
    }

    /// Repeats a question until Redis answers it.
    fn until_served<T>(&mut self, mut ask: impl FnMut(&mut Publisher) -> RedisResult<T>) -> Result<T, End> {
        let mut backoff = Backoff::default();
        loop {
            match ask(self) {
                Ok(answer) => {
                    self.read_refusal.end("redis answers the consumer");
                    return Ok(answer);
                }
                Err(error) => {
                    self.watched = None;
                    if !self.link.waits_out(&error) {
                        self.read_refusal.say(refused(&error));
                    }
                    backoff.wait(&self.shared.stop)?;
                }
            }
        }
    }

    /// Waits before a transaction is tried again.
    fn wait_out(&mut self, error: &RedisError, backoff: &mut Backoff) -> Result<(), End> {
        self.watched = None;
        // Such a server may still answer questions, so that the link knows of no outage.
        self.link.waits_out(error);
        if !link::is_connection_error(error) {
            self.write_refusal.say(refused(error));
        }
        backoff.wait(&self.shared.stop)?;
        Ok(())
    }

    /// Waits until the group has read enough of its backlog.
    fn pause(&mut self) -> Result<(), Stopped> {
        while self.pressure.is_paused() {
            self.shared.stop.wait(IDLE);
            self.shared.stop.check()?;
            self.pressure.update();
        }
        Ok(())
    }

    fn serve(&mut self, term: u64) -> End {
        loop {
            self.pressure.update();
            if self.pressure.is_paused() {
                return End::Paused;
            }
            if let Some(reason) = self.lost() {
                return End::Lost(reason);
            }
            match self.channels.inbox.recv_timeout(IDLE) {
                Ok(batch) if batch.term == term => {
                    let committed = self.commit(&batch);
                    self.recycle(batch);
                    if let Err(end) = committed {
                        return end;
                    }
                }
                Ok(batch) => self.recycle(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return End::Finished,
            }
            heartbeat::beat();
        }
    }

    /// Why this process may no longer write, if so.
    fn lost(&self) -> Option<String> {
        if !self.shared.lease.holds() {
            return Some("the lease on it has ended".to_owned());
        }
        let is_beside_another = self.shared.noticed.is_set() && !self.is_beside_others;
        is_beside_another.then(|| "another producer writes to the stream".to_owned())
    }

    fn recycle(&mut self, batch: Batch) {
        // Full if the other thread has enough buffers.
        let _ = self.channels.spent.try_send(batch.packed);
    }

    /// Appends a batch, however often that has to be tried.
    fn commit(&mut self, batch: &Batch) -> Result<(), End> {
        let after = batch.last.map(|(seq, _)| seq.to_string().into_bytes());
        let n_commands = self.encode(batch, after.as_deref());
        let mut backoff = Backoff::default();
        let mut is_unclear = false;
        loop {
            let cursor = self.until_served(Publisher::watched_cursor)?;
            if is_unclear && after.is_some() && cursor == after {
                self.committed(batch, after);
                return Ok(());
            }
            if let Some(reason) = self.lost().or_else(|| self.moved(&cursor)) {
                return Err(End::Lost(reason));
            }
            let sent_at = Instant::now();
            match self.send(n_commands) {
                Ok(Executed::All) => {
                    self.shared
                        .counts
                        .timings
                        .transaction_seconds
                        .observe(sent_at.elapsed().as_secs_f64());
                    self.write_refusal.end("redis accepts the consumer's commands");
                    self.committed(batch, after);
                    return Ok(());
                }
                Ok(Executed::Nothing) => {
                    if let Some(reason) = self.foreign_write() {
                        return Err(End::Lost(reason));
                    }
                }
                Ok(Executed::Refused(error)) => self.wait_out(&error, &mut backoff)?,
                Ok(Executed::Partly(error)) => return Err(self.undo(&error)),
                Err(error) => {
                    is_unclear = true;
                    self.wait_out(&error, &mut backoff)?;
                }
            }
        }
    }

    /// Encodes the transaction, and returns its number of commands.
    fn encode(&mut self, batch: &Batch, after: Option<&[u8]>) -> usize {
        let out = &mut self.buffer;
        out.clear();
        push_command(out, &[b"MULTI"]);
        out.extend_from_slice(&batch.packed);
        let mut n_commands = batch.n_commands + 4;
        if let (Some(after), Some((seq, time_ms))) = (after, batch.last) {
            push_command(out, &[b"SET", self.keys.cursor.as_bytes(), after]);
            let state = format!("{seq} {time_ms}");
            let relay = batch.relay.as_bytes();
            push_command(
                out,
                &[
                    b"HSET",
                    self.keys.state.as_bytes(),
                    b"relay",
                    relay,
                    relay,
                    state.as_bytes(),
                ],
            );
            n_commands += 2;
        }
        push_command(out, &[b"EXEC"]);
        push_command(out, &[b"WATCH", self.keys.cursor.as_bytes()]);
        push_command(out, &[b"GET", self.keys.cursor.as_bytes()]);
        n_commands
    }

    /// The cursor as it was when the current connection began to watch it.
    fn watched_cursor(&mut self) -> RedisResult<Option<Vec<u8>>> {
        let connection = self.link.reach()?;
        if let Some(watched) = self.watched.as_ref().filter(|watched| watched.connection == connection) {
            return Ok(watched.cursor.clone());
        }
        // Before the first transaction that a Redis which has crashed gets from this process.
        self.append_only.renew(&mut self.link, &self.shared.stop)?;
        // Sent alone: if MULTI were refused, Redis would execute the commands behind it one by one.
        self.link.transaction(&[])?;
        self.link.query::<()>(redis::cmd("WATCH").arg(&self.keys.cursor))?;
        let cursor: Option<Vec<u8>> = self.link.query(redis::cmd("GET").arg(&self.keys.cursor))?;
        let connection = self.link.reach()?;
        self.watched = Some(Watched {
            connection,
            cursor: cursor.clone(),
        });
        Ok(cursor)
    }

    fn send(&mut self, n_commands: usize) -> RedisResult<Executed> {
        let connection = self.link.reach()?;
        self.watched = None;
        let mut replies = self.link.exchange(&self.buffer, n_commands)?;
        let cursor = redis::from_redis_value(replies.pop().unwrap_or(Value::Nil).extract_error()?)?;
        let is_watched = replies.pop().is_some_and(|reply| reply.extract_error().is_ok());
        if is_watched {
            self.watched = Some(Watched { connection, cursor });
        }
        let executed = replies.pop().unwrap_or(Value::Nil);
        let refused = replies.into_iter().find_map(|reply| reply.extract_error().err());
        Ok(match executed {
            Value::Array(answers) => match answers.into_iter().find_map(|answer| answer.extract_error().err()) {
                None => Executed::All,
                Some(error) => Executed::Partly(error),
            },
            Value::ServerError(error) => Executed::Refused(refused.unwrap_or_else(|| error.into())),
            _ => Executed::Nothing,
        })
    }

    /// Whether the cursor is not what this process has made it, and what that means.
    fn moved(&self, cursor: &Option<Vec<u8>>) -> Option<String> {
        let is_moved = *cursor != self.known && !self.is_beside_others;
        is_moved.then(|| {
            let shown = |cursor: &Option<Vec<u8>>| match cursor {
                Some(cursor) => String::from_utf8_lossy(&cursor[..cursor.len().min(40)]).into_owned(),
                None => "absent".to_owned(),
            };
            format!("it is {} instead of {}", shown(cursor), shown(&self.known))
        })
    }

    /// What follows after something else has written the cursor while this process holds the lease.
    fn foreign_write(&mut self) -> Option<String> {
        if self.is_beside_others {
            return None;
        }
        if self.shared.lease.holds() {
            self.shared.noticed.set();
        }
        Some("another program has written it".to_owned())
    }

    fn committed(&mut self, batch: &Batch, after: Option<Vec<u8>>) {
        let counts = &self.shared.counts;
        counts.transactions.add(1);
        counts.timings.batch_entries.observe(batch.n_entries as f64);
        counts.committed.add(&batch.tally);
        if let Some((seq, time_ms)) = batch.last {
            counts.seq.store(seq, Relaxed);
            counts.event_ms.store(time_ms, Relaxed);
            self.known = after;
        }
        self.pressure.added(batch.n_entries);
        if let Some(sample) = &batch.sample {
            // Full if the dashboard cannot be written at the moment.
            let _ = self.channels.samples.try_send(sample.clone());
        }
    }

    /// Sets the cursor back after a transaction that was executed in part, so that its events are read again.
    fn undo(&mut self, error: &RedisError) -> End {
        let undone = match &self.known {
            Some(cursor) => self
                .link
                .query::<()>(redis::cmd("SET").arg(&self.keys.cursor).arg(cursor)),
            None => self.link.query::<()>(redis::cmd("DEL").arg(&self.keys.cursor)),
        };
        let outcome = match undone {
            Ok(()) => "the cursor was set back".to_owned(),
            Err(error) => format!("the cursor could not be set back: {}", link::describe(&error)),
        };
        End::Failed(anyhow::anyhow!(
            "redis executed a transaction in part: {}; {outcome}",
            link::describe(error)
        ))
    }
}

fn refused(error: &RedisError) -> String {
    format!(
        "redis refuses the consumer's commands: {}; no event is lost, the consumer waits until redis accepts them{}",
        link::describe(error),
        link::hint(error, RULE)
    )
}
