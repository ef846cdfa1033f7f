//! Entries that may crash the process.
//!
//! Owns the search for an entry that ends the process, for example by using up all memory, which leaves no error to
//! catch. Redis's count of deliveries only makes an entry a suspect, since it rises for everything in flight, whatever
//! ended the process. Suspects are tried together. Each attempt is stored in keys of the worker's own before it begins,
//! and removed when it ends in any way other than with the process. A group that crashed the process is tried in
//! halves, one group at a time, until an entry is alone. Crashes during an attempt alone are counted.
//!
//! An entry can crash the process only by the work that the process does for it. Therefore the attempt is also removed
//! while its thread waits, for example for a lock in PostgreSQL, and stored again when the thread continues: a process
//! that is ended while it waits is ended for another reason.
//!
//! Invariant: an entry delivered once costs nothing here.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::time::ClockId;
use nix::unistd::gettid;
use redis::{Cmd, Pipeline};

use crate::entry::{Entry, EntryId};
use crate::keys;
use crate::redis::link::{self, Link, Redis};
use crate::runtime::heartbeat;
use crate::runtime::retry::{Backoff, Refusal};
use crate::runtime::shutdown::Stop;
use crate::settings::config::Config;

/// Deliveries that a stop, a crash and another restart explain.
const USUAL_DELIVERIES: u64 = 3;

/// A count expires if the entry is not tried for a week.
const TTL_SECONDS: u64 = 7 * 24 * 60 * 60;

/// How often the threads of running attempts are checked for waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A thread that used less CPU time than this between two checks is waiting.
const WORK: Duration = Duration::from_millis(2);

/// Entries delivered more often than this are suspects. A lower limit of attempts makes them suspects sooner.
pub fn suspect_above(max_deliveries: u64) -> u64 {
    USUAL_DELIVERIES.min(max_deliveries)
}

/// The running attempts of all workers.
#[derive(Clone, Default)]
pub struct RunningAttempts(Arc<Shared>);

#[derive(Default)]
struct Shared {
    attempts: Mutex<Vec<Arc<Mutex<Attempt>>>>,
    /// Whether a group is being tried that has crashed the process before. No other group may be, so that a crash has
    /// one explanation.
    is_turn_taken: Mutex<bool>,
    turn_is_free: Condvar,
}

/// An attempt to apply a group of suspects.
struct Attempt {
    keys: Vec<Key>,
    is_stored: bool,
    /// Whether the worker is applying the group, and not pausing between two attempts.
    is_running: bool,
    has_turn: bool,
    clock: Clock,
    worked: Option<Duration>,
}

/// The key of one suspect.
struct Key {
    name: String,
    /// What the key stores while no attempt runs.
    before: Crashes,
    /// What it stores while an attempt runs, because the process may crash.
    during: Crashes,
}

/// The crashes that one suspect may have caused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crashes {
    NoneKnown,
    /// The process crashed while it tried a group of this many entries, the smallest so far.
    InGroup(usize),
    /// The process crashed this many times while it tried the entry alone.
    Alone(u64),
}

impl Crashes {
    /// From the value of a key.
    fn of_value(value: i64) -> Crashes {
        match value {
            0 => Crashes::NoneKnown,
            1.. => Crashes::Alone(value.unsigned_abs()),
            _ => Crashes::InGroup(value.unsigned_abs() as usize),
        }
    }

    /// The value of the key. A negative one is the size of a group.
    fn value(self) -> i64 {
        match self {
            Crashes::NoneKnown => 0,
            Crashes::InGroup(size) => -(size as i64),
            Crashes::Alone(number) => number as i64,
        }
    }

    fn alone(self) -> u64 {
        match self {
            Crashes::Alone(number) => number,
            Crashes::NoneKnown | Crashes::InGroup(_) => 0,
        }
    }

    /// How many entries may be tried together with this one.
    fn together(self) -> usize {
        match self {
            Crashes::NoneKnown => usize::MAX,
            Crashes::InGroup(size) => (size / 2).max(1),
            Crashes::Alone(_) => 1,
        }
    }

    /// With a crash during an attempt of `size` entries.
    fn and_one_of(self, size: usize) -> Crashes {
        match size {
            1 => Crashes::Alone(self.alone() + 1),
            _ => Crashes::InGroup(size),
        }
    }
}

impl Attempt {
    fn set(&self, is_stored: bool) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(self.keys.len());
        for key in &self.keys {
            let crashes = if is_stored { key.during } else { key.before };
            pipeline.add_command(set(&key.name, crashes)).ignore();
        }
        pipeline
    }
}

impl RunningAttempts {
    /// Checks until `stop` for attempts whose threads wait, and for those that continue.
    pub fn watch(&self, redis: &Redis, stop: &Stop) -> anyhow::Result<()> {
        let mut link = redis.link(Duration::ZERO);
        while !stop.wait(POLL_INTERVAL) {
            let attempts = lock(&self.0.attempts).clone();
            attempts
                .iter()
                .for_each(|attempt| self.update(&mut lock(attempt), &mut link));
        }
        Ok(())
    }

    fn update(&self, attempt: &mut Attempt, link: &mut Link) {
        let (before, now) = (attempt.worked, attempt.clock.worked());
        attempt.worked = now;
        let (true, Some(before), Some(now)) = (attempt.is_running, before, now) else {
            return;
        };
        let is_at_work = now.saturating_sub(before) >= WORK;
        if is_at_work == attempt.is_stored {
            return;
        }
        match link.pipeline::<()>(&attempt.set(is_at_work)) {
            Ok(()) => attempt.is_stored = is_at_work,
            Err(error) => log::debug!(
                "failed to store that an attempt waits or continues: {}",
                link::describe(&error)
            ),
        }
        if !is_at_work {
            self.pass_turn(attempt);
        }
    }

    /// Removes all attempts, for a process that ends without waiting for them: the stop ends it, not the entries.
    pub fn take_back(&self, redis: &Redis) {
        let mut link = redis.link(Duration::ZERO);
        for attempt in std::mem::take(&mut *lock(&self.0.attempts)) {
            let mut attempt = lock(&attempt);
            if !std::mem::take(&mut attempt.is_stored) {
                continue;
            }
            if let Err(error) = link.pipeline::<()>(&attempt.set(false)) {
                log::warn!(
                    "failed to remove an attempt that the stop interrupts, which counts as a crash: {}",
                    link::describe(&error)
                );
            }
        }
    }

    /// Waits for the turn. Returns `false` if a stop is requested first.
    fn take_turn(&self, stop: &Stop) -> bool {
        let mut is_taken = lock(&self.0.is_turn_taken);
        while *is_taken && !stop.is_requested() {
            let waited = self.0.turn_is_free.wait_timeout(is_taken, POLL_INTERVAL);
            heartbeat::beat();
            is_taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        !std::mem::replace(&mut *is_taken, true)
    }

    fn pass_turn(&self, attempt: &mut Attempt) {
        if std::mem::take(&mut attempt.has_turn) {
            *lock(&self.0.is_turn_taken) = false;
            self.0.turn_is_free.notify_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clock that measures the CPU time of a thread.
struct Clock(ClockId);

impl Clock {
    fn of_this_thread() -> Clock {
        // The number of the scheduler's clock of a thread on Linux, as pthread_getcpuclockid computes it: the
        // complement of the thread's ID shifted by three bits, of which 4 stands for a thread and 2 for that clock.
        Clock(ClockId::from_raw((!gettid().as_raw() << 3) | 6))
    }

    /// `None` once the thread has ended.
    fn worked(&self) -> Option<Duration> {
        self.0.now().ok().map(Duration::from)
    }
}

/// The attempts of one worker's suspects, one group after the other.
pub struct SuspectAttempts {
    running: RunningAttempts,
    link: Link,
    config: Config,
    /// The number of crashes during attempts alone at which an entry becomes a dead letter.
    limit: u64,
    stop: Stop,
    attempt: Option<Arc<Mutex<Attempt>>>,
    refusal: Refusal,
}

/// What to do with the first of some entries.
pub enum Begun {
    /// Apply this many together.
    Try(usize),
    /// The first entry has crashed the process too often.
    TooOften(String),
}

impl SuspectAttempts {
    pub fn new(redis: &Redis, config: &Config, stop: &Stop, running: &RunningAttempts) -> SuspectAttempts {
        SuspectAttempts {
            running: running.clone(),
            link: redis.link(Duration::ZERO),
            config: config.clone(),
            limit: config.max_deliveries,
            stop: stop.clone(),
            attempt: None,
            refusal: Refusal::default(),
        }
    }

    /// Begins the first attempt of as many entries as may be tried together.
    pub fn begin(&mut self, entries: &[Entry], is_suspect: impl Fn(&Entry) -> bool) -> Begun {
        let suspects: Vec<EntryId> = entries
            .iter()
            .filter(|entry| is_suspect(entry))
            .map(|entry| entry.id)
            .collect();
        let mut keys = self.keys(&suspects).into_iter().peekable();
        let (mut group, mut size, mut most) = (Vec::new(), 0, usize::MAX);
        for entry in entries {
            let key = keys.next_if(|_| is_suspect(entry));
            let before = key.as_ref().map_or(Crashes::NoneKnown, |key| key.before);
            let crashes = before.alone();
            if crashes >= self.limit {
                if size > 0 {
                    break;
                }
                return Begun::TooOften(format!("tried alone {crashes} times, each time the process ended"));
            }
            most = most.min(before.together());
            if size >= most {
                break;
            }
            if crashes > 0 {
                log::warn!(
                    "entry {}: the process has crashed {crashes} times while it tried the entry alone; it becomes a dead letter after {}",
                    entry.id,
                    self.limit
                );
            }
            size += 1;
            group.extend(key);
        }
        for key in &mut group {
            key.during = key.before.and_one_of(size);
        }
        if !group.is_empty() {
            self.start(group);
        }
        Begun::Try(size)
    }

    fn keys(&mut self, suspects: &[EntryId]) -> Vec<Key> {
        let names: Vec<String> = suspects
            .iter()
            .map(|id| keys::of_entry("tries", &self.config, *id))
            .collect();
        let mut get = Pipeline::with_capacity(names.len());
        for name in &names {
            get.cmd("GET").arg(name);
        }
        let values: Option<Vec<Option<i64>>> = self.insist(&get);
        let values = values.unwrap_or_default().into_iter().chain(std::iter::repeat(None));
        let key = |(name, value): (String, Option<i64>)| Key {
            name,
            before: Crashes::of_value(value.unwrap_or(0)),
            during: Crashes::NoneKnown,
        };
        names.into_iter().zip(values).map(key).collect()
    }

    fn start(&mut self, keys: Vec<Key>) {
        let attempt = Arc::new(Mutex::new(Attempt {
            keys,
            is_stored: false,
            is_running: false,
            has_turn: false,
            clock: Clock::of_this_thread(),
            worked: None,
        }));
        lock(&self.running.0.attempts).push(Arc::clone(&attempt));
        self.attempt = Some(attempt);
        self.resume();
    }

    /// Whether an attempt is under way.
    pub fn is_on(&self) -> bool {
        self.attempt.is_some()
    }

    /// Stores that the attempt runs.
    pub fn resume(&mut self) {
        let Some(attempt) = self.attempt.clone() else { return };
        let needs_turn = {
            let attempt = lock(&attempt);
            !attempt.has_turn && attempt.keys.iter().any(|key| key.before != Crashes::NoneKnown)
        };
        let has_turn = needs_turn && self.running.take_turn(&self.stop);
        let mut attempt = lock(&attempt);
        attempt.has_turn |= has_turn;
        if !attempt.is_stored {
            attempt.is_stored = self.insist::<()>(&attempt.set(true)).is_some();
        }
        attempt.worked = None;
        attempt.is_running = true;
    }

    /// Removes the stored attempt, since it ended and the process did not.
    pub fn suspend(&mut self) {
        let Some(attempt) = self.attempt.clone() else { return };
        let mut attempt = lock(&attempt);
        attempt.is_running = false;
        if std::mem::take(&mut attempt.is_stored) {
            self.insist::<()>(&attempt.set(false));
        }
        self.running.pass_turn(&mut attempt);
    }

    /// Ends the attempt. If the entries are finished, nothing about them is kept.
    pub fn end(&mut self, is_done: bool) {
        let Some(attempt) = self.attempt.clone() else { return };
        if is_done {
            let mut attempt = lock(&attempt);
            let is_kept = attempt.is_stored || attempt.keys.iter().any(|key| key.before != Crashes::NoneKnown);
            attempt.keys.iter_mut().for_each(|key| key.before = Crashes::NoneKnown);
            attempt.is_stored = is_kept;
        }
        self.suspend();
        self.forget();
    }

    fn forget(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            lock(&self.running.0.attempts).retain(|other| !Arc::ptr_eq(other, &attempt));
            self.running.pass_turn(&mut lock(&attempt));
        }
    }

    /// Retries until Redis answers. Returns `None` if Redis refuses, or if a stop is requested while Redis does not
    /// answer.
    fn insist<T: redis::FromRedisValue>(&mut self, commands: &Pipeline) -> Option<T> {
        let mut backoff = Backoff::default();
        loop {
            match self.link.pipeline(commands) {
                Ok(answer) => {
                    self.refusal.end("redis accepts the count of tries");
                    return Some(answer);
                }
                Err(error) if self.link.waits_out(&error) => {}
                Err(error) => {
                    self.refusal.say(format!(
                        "redis refuses the count of tries ({}): an entry that crashes the process does not become a dead letter{}",
                        link::describe(&error),
                        link::hint(&error, "~firehose:worker:* +get +set +del")
                    ));
                    return None;
                }
            }
            backoff.wait(&self.stop).ok()?;
        }
    }
}

impl Drop for SuspectAttempts {
    /// A worker that panics does so because of the entries that it tries, so that attempt stays stored.
    fn drop(&mut self) {
        self.forget();
    }
}

/// Stores a suspect's crashes. Nothing is kept for a suspect that the process survived.
fn set(key: &str, crashes: Crashes) -> Cmd {
    if crashes == Crashes::NoneKnown {
        return redis::cmd("DEL").arg(key).to_owned();
    }
    let mut set = redis::cmd("SET");
    set.arg(key).arg(crashes.value()).arg("EX").arg(TTL_SECONDS);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_thread_counts_its_work_and_not_its_waiting() {
        let (clocks, clock) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel();
        let work = move || {
            let own = Clock::of_this_thread();
            while own.worked().unwrap() <= WORK {}
            clocks.send(own).unwrap();
            stopped.recv().unwrap();
        };
        let thread = std::thread::Builder::new().spawn(work).unwrap();
        let clock = clock.recv().unwrap();
        let worked = clock.worked().unwrap();
        assert!(worked > WORK, "{worked:?}");
        while Clock::of_this_thread().worked().unwrap() < worked {}
        let waited = clock.worked().unwrap() - worked;
        assert!(waited < WORK, "{waited:?}");
        stop.send(()).unwrap();
        thread.join().unwrap();
        while clock.worked().is_some() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_group_that_the_process_did_not_survive_is_halved_until_its_entries_are_alone() {
        let mut sizes = vec![500];
        while let Some(size) = sizes.last().filter(|size| **size > 1) {
            sizes.push(Crashes::InGroup(*size).together());
        }
        assert_eq!(sizes, [500, 250, 125, 62, 31, 15, 7, 3, 1]);
        assert_eq!(Crashes::NoneKnown.together(), usize::MAX);
        assert_eq!(Crashes::Alone(1).together(), 1);
    }

    #[test]
    fn crashes_are_stored_as_one_number() {
        for value in [0, 1, 9, -2, -500] {
            assert_eq!(Crashes::of_value(value).value(), value);
        }
    }
}
