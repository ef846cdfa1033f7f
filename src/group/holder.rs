//! Who holds a consumer name.
//!
//! Owns the key that names the process which reads under a consumer name, so that a second one with the same name waits
//! and takes over when the first is gone; and the lease that tells the first, frozen meanwhile, to keep its hands off.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::RedisResult;

use crate::servers::link::{self, Link, Redis};
use crate::servers::retry::Backoff;
use crate::settings::config::{Config, hostname};
use crate::shutdown::Stop;
use crate::turns;

/// A holder that has not renewed its key for this long is gone.
pub const LEASE: Duration = Duration::from_secs(8);

const RENEWAL: Duration = Duration::from_secs(2);

/// How often a standby looks.
const LOOK: Duration = Duration::from_millis(500);

/// A part of the lease that is not used: what is sent at its end still has to arrive.
const MARGIN: Duration = Duration::from_secs(1);

/// Until when nobody else can hold the name: what is written or acknowledged outside of that time might overtake what
/// another process does under it, as after a freeze.
#[derive(Clone, Default)]
pub struct Lease(Arc<Shared>);

#[derive(Default)]
struct Shared {
    until: Mutex<Until>,
    renewed: Condvar,
}

#[derive(Clone, Copy, Default)]
enum Until {
    /// The name is not held, or was not renewed in time.
    #[default]
    Past,
    Time(Instant),
    /// The same, but Redis is full and has taken no mark: who comes when it takes one again gets the name.
    Unmarked(Instant),
    /// Nothing may mark the holder: nobody else can be told apart.
    End,
}

impl Until {
    fn holds(self) -> bool {
        match self {
            Until::Past => false,
            Until::Time(time) | Until::Unmarked(time) => Instant::now() < time,
            Until::End => true,
        }
    }
}

impl Lease {
    pub fn holds(&self) -> bool {
        self.lock().holds()
    }

    /// Whether another process would have been kept from the name.
    pub fn is_exclusive(&self) -> bool {
        matches!(*self.lock(), Until::Time(time) if Instant::now() < time)
    }

    fn is_marked(&self) -> bool {
        matches!(*self.lock(), Until::Time(_))
    }

    fn is_endless(&self) -> bool {
        matches!(*self.lock(), Until::End)
    }

    /// Waits until the name is held; `false` if a stop is requested first.
    pub fn wait(&self, stop: &Stop) -> bool {
        let mut until = self.lock();
        while !until.holds() {
            if stop.is_requested() {
                return false;
            }
            let waited = self.0.renewed.wait_timeout(until, LOOK);
            turns::take();
            until = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn set(&self, until: Until) {
        *self.lock() = until;
        self.0.renewed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Until> {
        self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key that marks who holds a consumer name.
pub fn key(group: &str, consumer: &str) -> String {
    format!("firehose:worker:holder:{group}:{consumer}")
}

/// Host and number of this process.
pub fn this_process() -> String {
    format!("{} pid {}", hostname(), std::process::id())
}

/// Host and process number of a mark.
pub fn process(mark: &str) -> &str {
    mark.split_once(" boot ").map_or(mark, |(process, _)| process)
}

/// What proves to other processes that this one lives.
pub struct Proof {
    key: String,
    /// What the key holds while this process lives.
    pub mark: String,
    lease: Lease,
}

impl Proof {
    /// The key that holds the mark, empty while there is none: then nobody may take its absence for this process's end.
    pub fn lease_key(&self) -> &str {
        match self.lease.is_marked() {
            true => &self.key,
            false => "",
        }
    }
}

/// What it costs not to be allowed the key.
const NO_MARK: &str = "nothing marks the holder of the consumer name: no standby";
const RULE: &str = "~firehose:worker:* +get +set +del +pexpire +watch +unwatch +multi +exec";

/// This process as holder of its consumer name.
pub struct Holder {
    link: Link,
    key: String,
    me: String,
    consumer: String,
    lease: Lease,
}

impl Holder {
    pub fn new(redis: &Redis, config: &Config) -> Holder {
        Holder {
            link: redis.link(Duration::ZERO),
            key: key(&config.group, &config.consumer),
            me: mark(std::process::id()),
            consumer: config.consumer.clone(),
            lease: Lease::default(),
        }
    }

    /// What tells the threads that read, write and acknowledge whether they still may.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    pub fn proof(&self) -> Proof {
        Proof {
            key: self.key.clone(),
            mark: self.me.clone(),
            lease: self.lease(),
        }
    }

    /// Waits until this process holds the name. `false` if a stop was requested first.
    ///
    /// # Errors
    ///
    /// Another process holds it, and `may_wait` is not set.
    pub fn take(&mut self, may_wait: bool, stop: &Stop) -> anyhow::Result<bool> {
        let mut backoff = Backoff::default();
        let mut is_standby = false;
        while !stop.is_requested() {
            let other = self.try_take();
            match self.allowed(other) {
                Ok(None) => return Ok(true),
                Ok(Some(None)) => {
                    if is_standby {
                        log::info!("took over the consumer name {}", self.consumer);
                    }
                    return Ok(true);
                }
                Ok(Some(Some(other))) if !may_wait => {
                    anyhow::bail!(
                        "the consumer name {} is held by {other}; stop that process first",
                        self.consumer
                    );
                }
                Ok(Some(Some(other))) => {
                    if !is_standby {
                        log::warn!("standby: the consumer name {} is held by {other}", self.consumer);
                        is_standby = true;
                    }
                    backoff.reset();
                    stop.wait(LOOK);
                }
                Err(error) => {
                    if link::is_unready(&error) {
                        self.link.unserved(&error);
                    }
                    backoff.wait(stop);
                }
            }
        }
        Ok(false)
    }

    /// An answer about the key; `None` where its user may not have what that takes. Then this process goes on without.
    fn allowed<T>(&mut self, answer: RedisResult<T>) -> RedisResult<Option<T>> {
        let answer = self.link.optional(answer, NO_MARK, RULE)?;
        if answer.is_none() {
            self.lease.set(Until::End);
        }
        Ok(answer)
    }

    /// The other holder, or `None` if it is now this process.
    fn try_take(&mut self) -> RedisResult<Option<String>> {
        let sent_at = Instant::now();
        let mut set = redis::cmd("SET");
        set.arg(&self.key)
            .arg(&self.me)
            .arg("NX")
            .arg("PX")
            .arg(LEASE.as_millis() as u64);
        let taken: Option<String> = match self.link.query(&set) {
            // At its memory limit Redis takes no new key, but still says who holds the name. If nobody does, this process
            // goes on without a mark, since entries that are not applied fill the memory further.
            Err(error) if link::code(&error) == "OOM" => {
                let other = self.other()?;
                if other.is_none() {
                    self.lease.set(Until::Unmarked(sent_at + LEASE - MARGIN));
                }
                return Ok(other);
            }
            taken => taken?,
        };
        if taken.is_some() {
            self.lease.set(Until::Time(sent_at + LEASE - MARGIN));
            // Whether it may be renewed is better known now than when the lease ends.
            self.extend()?;
            return Ok(None);
        }
        match self.extend()? {
            None => self.try_take(),
            Some(other) if other == self.me => Ok(None),
            // It was on this machine and is gone: no need to wait for its lease to end.
            Some(other) if is_gone(&other) => {
                self.delete_if(&other)?;
                self.try_take()
            }
            Some(other) => Ok(Some(other)),
        }
    }

    /// The other holder, if there is one that lives.
    fn other(&mut self) -> RedisResult<Option<String>> {
        let holder: Option<String> = self.link.query(redis::cmd("GET").arg(&self.key))?;
        Ok(holder.filter(|holder| *holder != self.me && !is_gone(holder)))
    }

    /// Renews the lease until `stop`, then gives the name up.
    ///
    /// # Errors
    ///
    /// This process was frozen for longer than its lease. Another has taken the name then, or may have had it meanwhile
    /// and applied what is still in flight here: only reading the own pending entries again tells.
    pub fn keep(mut self, stop: &Stop) -> anyhow::Result<()> {
        let mut looked_at = Instant::now();
        while !self.lease.is_endless() && !stop.wait(RENEWAL) {
            let absent = looked_at.elapsed();
            let holder = match absent > LEASE {
                true => self
                    .extend()
                    .map(|holder| holder.filter(|holder| *holder == self.me).is_none()),
                false => self.try_renew().map(|other| other.is_some()),
            };
            match self.allowed(holder) {
                Ok(None | Some(false)) => {}
                Ok(Some(true)) => anyhow::bail!(
                    "the consumer name {} is not this process's any more, which was silent for {:.1} s",
                    self.consumer,
                    absent.as_secs_f64()
                ),
                // Without Redis nobody can read under the name either.
                Err(error) => log::debug!("failed to renew the holder's key: {}", link::describe(&error)),
            }
            looked_at = Instant::now();
        }
        if self.lease.is_marked() {
            // A lease that is not given up ends by itself.
            let me = self.me.clone();
            let _ = self.delete_if(&me);
        }
        Ok(())
    }

    /// The other holder, or `None` if it is still this process.
    fn try_renew(&mut self) -> RedisResult<Option<String>> {
        match self.extend()? {
            Some(holder) if holder == self.me => Ok(None),
            _ => self.try_take(),
        }
    }

    /// Has the key live on if it is this process's; whose it is.
    fn extend(&mut self) -> RedisResult<Option<String>> {
        let sent_at = Instant::now();
        let holder: Option<String> = self.link.query(redis::cmd("GET").arg(&self.key))?;
        if holder.as_deref() != Some(&self.me) {
            return Ok(holder);
        }
        let mut expire = redis::cmd("PEXPIRE");
        expire.arg(&self.key).arg(LEASE.as_millis() as u64);
        // Whoever took the key since the look has it extended, and this process finds that out by the second look.
        self.link.query::<()>(&expire)?;
        let holder: Option<String> = self.link.query(redis::cmd("GET").arg(&self.key))?;
        if holder.as_deref() == Some(&self.me) {
            self.lease.set(Until::Time(sent_at + LEASE - MARGIN));
        }
        Ok(holder)
    }

    /// Deletes the key while it names that holder: between a look and a plain DEL somebody else might take it.
    fn delete_if(&mut self, holder: &str) -> RedisResult<()> {
        self.link.query::<()>(redis::cmd("WATCH").arg(&self.key))?;
        let current: Option<String> = self.link.query(redis::cmd("GET").arg(&self.key))?;
        if current.as_deref() != Some(holder) {
            return self.link.query(&redis::cmd("UNWATCH"));
        }
        let mut delete = redis::cmd("DEL");
        delete.arg(&self.key);
        self.link.transaction(&[delete])?;
        Ok(())
    }
}

/// A process, told from all others, those before a reboot or with its number later included.
fn mark(pid: u32) -> String {
    format!("{} start {}", place(pid), start_time(pid).unwrap_or_default())
}

/// Where a process number means a process: host, boot and namespace.
fn place(pid: u32) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} pid {pid} boot {} {}", hostname(), boot.trim(), namespace.display())
}

/// When the process started, in ticks since boot; `None` if it does not run or is hidden from this user.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; the 22nd field is the 20th after it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

/// Whether the mark is of a process that ran in this place and runs no more.
pub fn is_gone(other: &str) -> bool {
    let pid = other.split_once(" pid ").and_then(|(_, rest)| rest.split(' ').next());
    let Some(pid) = pid.and_then(|pid| pid.parse().ok()) else {
        return false;
    };
    let Some(started) = other.strip_prefix(&format!("{} start ", place(pid))) else {
        return false;
    };
    !runs(pid) || start_time(pid).is_some_and(|now| now != started)
}

/// Whether a process has that number, were it another user's and hidden in /proc.
fn runs(pid: u32) -> bool {
    // SAFETY: signal 0 is not sent; the call only says whether it could be.
    let is_mine = unsafe { libc::kill(pid as libc::pid_t, 0) } == 0;
    is_mine || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_gone_only_if_it_ran_here_and_runs_no_more() {
        let pid = std::process::id();
        let me = mark(pid);
        assert!(!is_gone(&me));
        let ended = format!("{} start 1", place(pid));
        assert!(is_gone(&ended));
        assert!(!is_gone(&ended.replace("boot ", "boot another ")));
        assert!(!is_gone("elsewhere pid 1 boot x y start 1"));
        assert!(!is_gone("nonsense"));
    }

    #[test]
    fn a_number_that_no_process_has_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let other = mark(child.id());
        child.wait().unwrap();
        assert!(is_gone(&other));
    }
}
