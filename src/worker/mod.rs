//! Threads `worker-N`: batch → decode → apply.
//!
//! Owns the path of a batch through `reading` and `isolate`, and the state that is kept between attempts. Entries that
//! may have ended the process are tried as `poison` allows. Sends entries to `ack` only after their effect has
//! committed, or with their dead letters.

mod isolate;
mod parts;
pub mod poison;
pub mod portion;
mod reading;
mod sift;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::apply::Memory;
use crate::batch::{self, Batches};
use crate::decode::{self, EntryError};
use crate::entry::{Entry, EntryId};
use crate::in_flight::InFlight;
use crate::lease::Lease;
use crate::logging::shown;
use crate::metrics::Metrics;
use crate::outcome::{Done, Kind, Outcome};
use crate::partition::repo_of;
use crate::postgres::db::Db;
use crate::rows::{Op, Source};
use crate::runtime::heartbeat;
use crate::runtime::retry::Backoff;
use crate::runtime::shutdown::{Stop, Stopped};
use crate::settings::config::Switches;
use crate::worker::poison::{Begun, SuspectAttempts};
use crate::worker::portion::Portion;
use crate::worker::reading::EntryProgress;

/// How long a worker waits for an entry before it checks whether the reader has ended.
const TICK: Duration = Duration::from_millis(500);

/// How long a worker with a heavy batch waits before it checks again whether another worker has finished its own.
const HEAVY_TURN: Duration = Duration::from_millis(20);

/// Characters of an unknown type that the log shows.
const MAX_TYPE: usize = 60;

pub struct Worker {
    pub batches: Batches,
    pub done: Sender<Done>,
    pub db: Db,
    pub memory: Memory,
    pub switches: Switches,
    pub attempts: SuspectAttempts,
    pub lease: Lease,
    pub in_flight: Arc<InFlight>,
    pub metrics: Arc<Metrics>,
    pub stop: Stop,
    /// The delay between attempts of batches that are refused as a whole.
    pub patience: Backoff,
    pub portion: Portion,
    /// Held by the one worker whose batch exceeds the memory of a normal batch.
    pub heavy: Arc<Mutex<()>>,
    /// The number of ops refused in consecutive batches since one was applied.
    pub streak: usize,
    /// Entries of the batch that have crashed the process too often, and the reason why they become dead letters
    /// without another attempt.
    pub condemned: HashMap<EntryId, String>,
    /// The last unknown error that was logged.
    pub odd: Option<String>,
    /// Whether columns had other types than the worker writes at the last check.
    pub has_other_types: bool,
}

/// Why a batch is not applied yet.
enum Unfinished {
    /// A stop was requested; its entries stay pending.
    GivenUp,
    /// This process is no longer a member (`group::members`): other processes may have applied the batch.
    Removed,
    /// All of it is refused, for a reason that may or may not be the ops' fault. It is theirs if other ops are
    /// applied in the next attempt, which later entries join.
    AllRefused,
}

impl From<Stopped> for Unfinished {
    fn from(_: Stopped) -> Unfinished {
        Unfinished::GivenUp
    }
}

impl Worker {
    /// Works until the reader has ended and the channel is empty, or a stop interrupts a batch that cannot be applied.
    pub fn run(mut self) -> anyhow::Result<()> {
        while let Some(mut entries) = self.batches.next(TICK) {
            heartbeat::beat();
            self.condemned.clear();
            let mut refused = 0;
            while !entries.is_empty() {
                match self.advance(&mut entries, &mut refused) {
                    Ok(()) => {}
                    // Still pending, unless another process has taken them over.
                    Err(Unfinished::Removed) => self.in_flight.remove(entries.drain(..).map(|entry| entry.id)),
                    Err(_) => {
                        self.give_up(entries);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Applies the first entries of a batch, of which the first `refused` were tried and refused as a whole. If later
    /// entries may have ended the process, only as many are tried as `poison` allows.
    fn advance(&mut self, entries: &mut Vec<Entry>, refused: &mut usize) -> Result<(), Unfinished> {
        let new = &entries[*refused..];
        let mut number = entries.len();
        if new.iter().any(|entry| self.batches.is_suspect(entry)) {
            self.wait_for_connection()?;
            match self.attempts.begin(new, |entry| self.batches.is_suspect(entry)) {
                Begun::Try(tried) => number = *refused + tried,
                // In its position: earlier entries of its repo may be waiting.
                Begun::TooOften(reason) => {
                    self.condemned.insert(new[0].id, reason);
                    number = *refused + 1;
                }
            }
        }
        let stepped = self.step(&entries[..number]);
        self.attempts.end(stepped.is_ok());
        match stepped {
            Ok(()) => {
                entries.drain(..number);
                *refused = 0;
            }
            Err(Unfinished::AllRefused) => {
                *refused = number;
                if number == entries.len() {
                    self.batches.add_to(entries);
                }
            }
            Err(unfinished) => return Err(unfinished),
        }
        Ok(())
    }

    /// Waits until no other worker processes a heavy batch. Fails if a stop is requested first.
    fn wait_for<'h>(&self, heavy: &'h Mutex<()>) -> Result<MutexGuard<'h, ()>, Unfinished> {
        loop {
            match heavy.try_lock() {
                Ok(turn) => return Ok(turn),
                Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
                Err(TryLockError::WouldBlock) if self.stop.wait(HEAVY_TURN) => return Err(Unfinished::GivenUp),
                Err(TryLockError::WouldBlock) => heartbeat::beat(),
            }
        }
    }

    /// Applies one batch and sends it to the acker.
    fn step(&mut self, entries: &[Entry]) -> Result<(), Unfinished> {
        let heavy = Arc::clone(&self.heavy);
        let _turn = match batch::is_heavy(entries) {
            true => Some(self.wait_for(&heavy)?),
            false => None,
        };
        let texts: Vec<Result<Cow<str>, EntryError>> = entries.iter().map(decode::text).collect();
        let mut progress = Vec::with_capacity(entries.len());
        let mut ops = Vec::with_capacity(entries.len());
        let now = self.memory.page_keys().now_ms();
        for (index, (entry, text)) in entries.iter().zip(&texts).enumerate() {
            let source = Source::new(entry, index, now);
            progress.push(match self.condemned.get(&entry.id) {
                Some(reason) => EntryProgress::of_dead(entry, reason),
                None => reading::read(entry, text, &source, self.switches, &mut ops),
            });
        }
        self.memory.page_keys().assign(&mut ops, now);
        let ops: Vec<&Op> = ops.iter().collect();
        self.apply(&ops, entries, &mut progress)?;
        if let Some(newest) = entries.iter().map(|entry| entry.id.ms).max() {
            self.metrics.committed(newest);
            self.metrics.timings.batch(entries.len(), newest);
        }
        for (entry, progress) in entries.iter().zip(progress) {
            for reason in progress.ignored {
                log::debug!("entry {}: ignored an op: {}", entry.id, reason.name());
                self.metrics.ignored(reason, 1);
            }
            if progress.kind == Kind::Unknown && progress.dead.is_empty() {
                self.log_unknown_type(entry);
            }
            let outcome = match progress.dead.is_empty() {
                true => Outcome::Applied(progress.kind),
                false => Outcome::Dead(progress.dead),
            };
            self.hand_on(entry, outcome);
        }
        Ok(())
    }

    /// A producer that spells a type differently must not empty the stream unnoticed.
    fn log_unknown_type(&self, entry: &Entry) {
        let name = String::from_utf8_lossy(entry.kind.as_deref().unwrap_or_default());
        let name = shown::cut(&name, MAX_TYPE);
        let example = format_args!("entry {} of type \"{name}\"", entry.id);
        let what = "entries of an unknown type";
        if self.metrics.repeats.is_first(what, "acknowledged and ignored", example) {
            log::warn!(
                "entry {} has the unknown type \"{name}\": acknowledged and ignored; known are commit, identity and account",
                entry.id
            );
        }
    }

    fn hand_on(&self, entry: &Entry, outcome: Outcome) {
        // The acker outlives the workers. If it has ended nevertheless, the entry stays pending.
        let done = Done {
            id: entry.id,
            repo: repo_of(entry),
            outcome,
        };
        let _ = heartbeat::send(&self.done, done);
    }

    /// Releases the entries that a stop left unapplied. They stay pending for the next start.
    fn give_up(self, entries: Vec<Entry>) {
        let rest = self.batches.rest();
        log::warn!(
            "{} entries could not be applied before the stop; they stay pending",
            entries.len() + rest.len()
        );
        self.in_flight.remove(entries.iter().chain(&rest).map(|entry| entry.id));
    }
}
