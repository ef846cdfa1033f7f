//! One connection to a relay, from its first message to its end.
//!
//! Owns when a batch is sent on, how silence is told from idleness, and when this process closes the connection of its
//! own accord. While Redis is slow, nothing is read, and TCP makes the relay wait; if that lasts, the connection is
//! closed politely, since a relay cuts off slow readers without a word.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

use super::batch::Batch;
use super::choice::Relays;
use super::counts::{Cause, Counts};
use super::intake::{Intake, Interruption, Progress};
use super::relay::close::close;
use super::relay::dial::describe;
use super::relay::{Stream, TICK, is_wait};
use super::term::Terms;
use crate::logging::shown;
use crate::runtime::heartbeat;
use crate::runtime::retry::Waiter;
use crate::runtime::shutdown::Stop;

/// A connection over which no byte arrives for `PING_AFTER` is probed, and given up after another `PONG_WAIT`.
const PING_AFTER: Duration = Duration::from_secs(30);
const PONG_WAIT: Duration = Duration::from_secs(15);

/// A relay that sends more than `BUSY` events a second, and then none for `STALL`, has stalled. The rate is that of a
/// `RATE_TIME` at least: after a pause, a quiet relay sends many events at once.
const BUSY: f64 = 10.0;
const RATE_TIME: Duration = Duration::from_secs(3600);
const STALL: Duration = Duration::from_secs(60);
const STALL_MIN_AGE: Duration = Duration::from_secs(300);

/// How long the thread waits for Redis before it closes the connection.
const SLOW_REDIS: Duration = Duration::from_secs(20);

/// How long a cursor may move without an entry before it is stored.
const CURSOR_DELAY: Duration = Duration::from_secs(1);

/// Why a connection ended.
pub enum End {
    Stopped,
    /// The term has ended.
    Lost,
    /// This process closed it: Redis does not keep up.
    Own,
    /// The first relay is to be tried again.
    Return,
    Reset,
    Error {
        name: String,
        message: String,
    },
    /// A message was larger than can be read.
    TooLarge,
    Broken(Cause, String),
}

pub struct Session<'r> {
    pub socket: WebSocket<Stream>,
    pub relay: Arc<str>,
    pub term: u64,
    pub outbox: &'r Sender<Batch>,
    pub spent: &'r Receiver<Vec<u8>>,
    pub intake: &'r mut Intake,
    pub terms: &'r Terms,
    pub counts: &'r Counts,
    pub waiter: &'r mut Waiter,
    pub stop: &'r Stop,
    pub relays: &'r Relays,
    /// Events per second over the last connection that lasted long enough to tell.
    pub usual_rate: &'r mut f64,
}

/// What it means that nothing arrives.
#[derive(Debug, PartialEq, Eq)]
enum Silence {
    Short,
    /// Time for a ping.
    Long,
    /// Not even a ping was answered.
    Dead,
    /// A busy relay answers pings, and sends no event.
    Stalled,
}

/// What has been received over the connection.
struct Heard {
    since: Instant,
    n_events: u64,
    event_at: Instant,
    pinged_at: Option<Instant>,
}

impl Session<'_> {
    /// Reads until the connection ends. Afterwards `at` is the last event that was sent on.
    pub fn run(&mut self, at: &mut Progress) -> End {
        self.intake.reconnected();
        self.counts.is_connected.store(true, Relaxed);
        let mut sent = at.clone();
        let mut batch = self.new_batch();
        let mut heard = Heard::new(Instant::now());
        let end = self.read(at, &mut batch, &mut sent, &mut heard);
        if heard.since.elapsed() >= STALL {
            *self.usual_rate = heard.rate();
        }
        // What was read before the end is good, unless the term has ended.
        let end = match end {
            End::Lost => End::Lost,
            end => match self.send(&mut batch, at, &mut sent) {
                Ok(()) => end,
                Err(other) => other,
            },
        };
        *at = sent;
        if matches!(end, End::Stopped | End::Lost | End::Own | End::Return | End::Reset) {
            self.close();
        }
        end
    }

    fn new_batch(&self) -> Batch {
        Batch::new(self.term, &self.relay, self.spent.try_recv().unwrap_or_default())
    }

    fn read(&mut self, at: &mut Progress, batch: &mut Batch, sent: &mut Progress, heard: &mut Heard) -> End {
        loop {
            if let Some(end) = self.reason_to_end() {
                return end;
            }
            self.socket.get_mut().socket().is_eager = batch.n_commands > 0;
            match self.socket.read() {
                Ok(Message::Binary(message)) => {
                    heard.event(Instant::now());
                    if heard.n_events == 1 {
                        self.waiter.up();
                    }
                    if let Err(interruption) = self.intake.take(&message, at, batch) {
                        return interruption.into();
                    }
                    if batch.is_full()
                        && let Err(end) = self.send(batch, at, sent)
                    {
                        return end;
                    }
                }
                // The answer is queued, and sent only with the next write.
                Ok(Message::Ping(_)) => _ = self.socket.flush(),
                Ok(Message::Close(frame)) => return End::Broken(Cause::Closed, closed(frame.as_ref())),
                Ok(_) => self.counts.ignored.add(1),
                Err(Error::Io(error)) if is_wait(&error) => {
                    if let Err(end) = self.idle(at, batch, sent, heard) {
                        return end;
                    }
                }
                Err(Error::Capacity(_)) => return End::TooLarge,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    return End::Broken(Cause::Closed, "it closed the connection".to_owned());
                }
                Err(error) => return End::Broken(Cause::Broken, describe(&error)),
            }
        }
    }

    fn reason_to_end(&self) -> Option<End> {
        if self.stop.is_requested() {
            return Some(End::Stopped);
        }
        if !self.terms.is_current(self.term) {
            return Some(End::Lost);
        }
        self.relays.is_first_well().then_some(End::Return)
    }

    /// Nothing has arrived: sends on what there is, and checks whether the relay is still there.
    fn idle(&mut self, at: &Progress, batch: &mut Batch, sent: &mut Progress, heard: &mut Heard) -> Result<(), End> {
        heartbeat::beat();
        self.intake.repeats.report_due();
        if batch.n_commands > 0 || batch.age() >= CURSOR_DELAY {
            return self.send(batch, at, sent);
        }
        let bytes_at = self.socket.get_mut().socket().heard_at;
        let now = Instant::now();
        match heard.silence(bytes_at, *self.usual_rate, now) {
            Silence::Short => Ok(()),
            Silence::Long => {
                heard.pinged_at = Some(now);
                let pinged = self.socket.send(Message::Ping(Default::default()));
                pinged.map_err(|error| End::Broken(Cause::Broken, describe(&error)))
            }
            Silence::Dead => {
                let time = (now - bytes_at).as_secs();
                let reason = format!("no bytes for {time} s, not even the answer to a ping");
                Err(End::Broken(Cause::Silent, reason))
            }
            Silence::Stalled => {
                let reason = format!("it has sent no event for {} s", STALL.as_secs());
                Err(End::Broken(Cause::Stalled, reason))
            }
        }
    }

    /// Sends the batch on, and waits until there is room for it.
    fn send(&mut self, batch: &mut Batch, at: &Progress, sent: &mut Progress) -> Result<(), End> {
        if batch.is_empty() {
            return Ok(());
        }
        let empty = self.new_batch();
        let mut full = std::mem::replace(batch, empty);
        let began_at = Instant::now();
        loop {
            match self.outbox.send_timeout(full, TICK) {
                Ok(()) => {
                    sent.clone_from(at);
                    return Ok(());
                }
                Err(SendTimeoutError::Disconnected(_)) => return Err(End::Stopped),
                Err(SendTimeoutError::Timeout(back)) => full = back,
            }
            heartbeat::beat();
            if !self.terms.is_current(self.term) {
                return Err(End::Lost);
            }
            if began_at.elapsed() >= SLOW_REDIS {
                // Its events are read again.
                return Err(End::Own);
            }
        }
    }

    fn close(&mut self) {
        let reason = match self.counts.is_paused.load(Relaxed) {
            true => "paused",
            false => "",
        };
        close(&mut self.socket, reason);
    }
}

impl Heard {
    fn new(now: Instant) -> Heard {
        Heard {
            since: now,
            n_events: 0,
            event_at: now,
            pinged_at: None,
        }
    }

    fn event(&mut self, now: Instant) {
        self.n_events += 1;
        self.event_at = now;
    }

    /// Judges the silence at `now`, if the last byte of any kind arrived at `bytes_at`.
    fn silence(&self, bytes_at: Instant, usual_rate: f64, now: Instant) -> Silence {
        if self.is_stalled(usual_rate, now) {
            return Silence::Stalled;
        }
        match self.pinged_at.filter(|at| *at > bytes_at) {
            Some(pinged_at) if now - pinged_at >= PONG_WAIT => Silence::Dead,
            None if now - bytes_at >= PING_AFTER => Silence::Long,
            _ => Silence::Short,
        }
    }

    /// Events per second up to the last one.
    fn rate(&self) -> f64 {
        self.n_events as f64 / (self.event_at - self.since).max(RATE_TIME).as_secs_f64()
    }

    /// Whether a busy relay sends no events any longer, although it is there.
    fn is_stalled(&self, usual_rate: f64, now: Instant) -> bool {
        let rate = if self.n_events == 0 { usual_rate } else { self.rate() };
        rate > BUSY && now - self.since >= STALL_MIN_AGE && now - self.event_at >= STALL
    }
}

impl From<Interruption> for End {
    fn from(interruption: Interruption) -> End {
        match interruption {
            Interruption::Reset => End::Reset,
            Interruption::Error { name, message } => End::Error { name, message },
            Interruption::Unreadable => End::Broken(
                Cause::Unreadable,
                "too many frames in a row could not be read".to_owned(),
            ),
        }
    }
}

fn closed(frame: Option<&CloseFrame>) -> String {
    match frame {
        None => "it closed the connection".to_owned(),
        Some(frame) => {
            let reason = shown::cut(&shown::one_line(&frame.reason), 100);
            format!("it closed the connection with code {} {reason}", frame.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_connection_is_pinged_after_30_seconds_and_given_up_after_15_more() {
        let start = Instant::now();
        let mut heard = Heard::new(start);
        assert_eq!(heard.silence(start, 0.0, after(start, 29)), Silence::Short);
        assert_eq!(heard.silence(start, 0.0, after(start, 30)), Silence::Long);
        heard.pinged_at = Some(after(start, 30));
        assert_eq!(heard.silence(start, 0.0, after(start, 44)), Silence::Short);
        assert_eq!(heard.silence(start, 0.0, after(start, 45)), Silence::Dead);
        // The answer came.
        let pong_at = after(start, 31);
        assert_eq!(heard.silence(pong_at, 0.0, after(start, 60)), Silence::Short);
        assert_eq!(heard.silence(pong_at, 0.0, after(start, 61)), Silence::Long);
    }

    #[test]
    fn a_busy_relay_that_only_answers_pings_is_given_up_and_a_quiet_one_never() {
        let start = Instant::now();
        for (n_events, seconds, usual_rate, is_given_up) in [
            (40_000, 300, 0.0, true),
            (100_000, 7200, 0.0, true),
            (60_000, 7200, 0.0, false),
            // All at once, after the connection was made.
            (5000, 1, 0.0, false),
            (0, 0, 20.0, true),
            (0, 0, 5.0, false),
        ] {
            let mut heard = Heard::new(start);
            for n in 1..=n_events {
                heard.event(start + Duration::from_secs(seconds) * n / n_events);
            }
            // Pings are answered.
            let silence = |seconds| heard.silence(after(start, seconds), usual_rate, after(start, seconds));
            let is_early = |early: u64| silence(early) != Silence::Stalled;
            assert!(is_early(299) && is_early(seconds + 59), "{n_events} events");
            let is_stalled = silence(seconds.max(240) + 60) == Silence::Stalled;
            assert_eq!(
                is_stalled, is_given_up,
                "{n_events} events in {seconds} s, usually {usual_rate}"
            );
        }
    }
}
