//! The process that holds a name: a consumer name of the group, or a cursor of the relay.
//!
//! Owns the key that names the process. A second process that wants the same name stands by, and takes the name over
//! when the first has died. Sets the `Lease` by which the first process, if it was merely frozen, learns that it must
//! not continue.

use std::time::{Duration, Instant};

use redis::RedisResult;

use crate::lease::mark;
use crate::lease::{Lease, LeaseState};
use crate::redis::link::{self, Link, Redis};
use crate::runtime::retry::{Backoff, Refusal};
use crate::runtime::shutdown::Stop;

/// A holder that has not renewed its key for this long is considered dead.
pub const LEASE: Duration = Duration::from_secs(8);

const RENEWAL: Duration = Duration::from_secs(2);

/// How often a standby polls the key.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The end of the lease that the holder leaves unused, so that what it sends arrives before the lease expires.
const MARGIN: Duration = Duration::from_secs(1);

/// A name that only one process may hold.
#[derive(Clone)]
pub struct Name {
    /// The name in log lines, such as `the consumer name worker-1`.
    pub text: String,
    /// The key that names the holder.
    pub key: String,
    /// What follows if the Redis user lacks the rights on the key.
    pub without_key: &'static str,
    /// The ACL rule that gives these rights.
    pub rule: &'static str,
    /// What does not happen while Redis refuses the key.
    pub waits: &'static str,
}

/// What proves to other processes that this one is alive.
pub struct Proof {
    key: String,
    /// The value of the key while this process lives.
    pub mark: String,
    lease: Lease,
}

impl Proof {
    /// The key that holds the mark. It is empty while Redis holds no mark: then other processes must not conclude from
    /// its absence that this one is dead.
    pub fn lease_key(&self) -> &str {
        match self.lease.is_marked() {
            true => &self.key,
            false => "",
        }
    }
}

/// This process as holder of a name.
pub struct Holder {
    link: Link,
    name: Name,
    me: String,
    lease: Lease,
}

impl Holder {
    pub fn new(redis: &Redis, name: Name) -> Holder {
        Holder {
            link: redis.link(Duration::ZERO),
            name,
            me: mark::of(std::process::id()),
            lease: Lease::default(),
        }
    }

    /// The lease that threads consult before they read, write or acknowledge.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    pub fn proof(&self) -> Proof {
        Proof {
            key: self.name.key.clone(),
            mark: self.me.clone(),
            lease: self.lease(),
        }
    }

    /// Waits until this process holds the name.
    ///
    /// # Errors
    ///
    /// A stop was requested (`Stopped`), or another process holds the name and `may_wait` is not set.
    pub fn take(&mut self, may_wait: bool, stop: &Stop) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        let mut is_standby = false;
        let mut refusal = Refusal::default();
        loop {
            stop.check()?;
            let other = self.try_take();
            match self.allowed(other).map(Option::flatten) {
                Ok(None) => {
                    if is_standby {
                        log::info!("took over {}", self.name.text);
                    }
                    return Ok(());
                }
                Ok(Some(other)) if !may_wait => {
                    anyhow::bail!("{} is held by {other}; stop that process first", self.name.text);
                }
                Ok(Some(other)) => {
                    if !is_standby {
                        log::warn!("standby: {} is held by {other}", self.name.text);
                        is_standby = true;
                    }
                    backoff.reset();
                    stop.wait(POLL_INTERVAL);
                }
                Err(error) => {
                    if !self.link.waits_out(&error) {
                        refusal.say(format!(
                            "redis refuses the key {} of {}: {}; {} until redis accepts it{}",
                            self.name.key,
                            self.name.text,
                            link::describe(&error),
                            self.name.waits,
                            self.remedy(&error)
                        ));
                    }
                    backoff.wait(stop)?;
                }
            }
        }
    }

    /// What to do about the key, if the error itself does not tell.
    fn remedy(&self, error: &redis::RedisError) -> String {
        match link::code(error) {
            "WRONGTYPE" => format!("; another program made it: redis-cli DEL {}", self.name.key),
            _ => String::new(),
        }
    }

    /// The answer to a command on the key, or `None` if the Redis user lacks the rights. In that case the process works
    /// without a lease.
    fn allowed<T>(&mut self, answer: RedisResult<T>) -> RedisResult<Option<T>> {
        let answer = self.link.optional(answer, self.name.without_key, self.name.rule)?;
        if answer.is_none() {
            self.lease.set(LeaseState::Unbounded);
        }
        Ok(answer)
    }

    /// Tries to take the name. Returns the other holder, or `None` if this process holds the name now.
    fn try_take(&mut self) -> RedisResult<Option<String>> {
        let sent_at = Instant::now();
        let mut set = redis::cmd("SET");
        set.arg(&self.name.key)
            .arg(&self.me)
            .arg("NX")
            .arg("PX")
            .arg(LEASE.as_millis() as u64);
        let taken: Option<String> = match self.link.query(&set) {
            // At its memory limit Redis accepts no new key, but still returns an existing one. If there is no holder,
            // this process works without a mark: unapplied entries would only fill the memory further.
            Err(error) if link::code(&error) == "OOM" => {
                let other = self.other()?;
                if other.is_none() {
                    self.lease.set(LeaseState::HeldUnmarkedUntil(sent_at + LEASE - MARGIN));
                }
                return Ok(other);
            }
            taken => taken?,
        };
        if taken.is_some() {
            self.lease.set(LeaseState::HeldUntil(sent_at + LEASE - MARGIN));
            // Reveals a missing right to renew now instead of at the end of the lease.
            self.extend()?;
            return Ok(None);
        }
        match self.extend()? {
            None => self.try_take(),
            Some(other) if other == self.me => Ok(None),
            // That process ran on this machine and has ended: its lease need not be waited for.
            Some(other) if mark::is_gone(&other) => {
                self.delete_if(&other)?;
                self.try_take()
            }
            Some(other) => Ok(Some(other)),
        }
    }

    /// The other holder, if one exists and is alive.
    fn other(&mut self) -> RedisResult<Option<String>> {
        let holder: Option<String> = self.link.query(redis::cmd("GET").arg(&self.name.key))?;
        Ok(holder.filter(|holder| *holder != self.me && !mark::is_gone(holder)))
    }

    /// Renews the lease until `stop`, then releases the name.
    ///
    /// # Errors
    ///
    /// Another process holds the name, or this process was frozen for longer than its lease. In the second case another
    /// process may have held the name in the meantime and applied what is still in flight here. Only a new start, which
    /// reads the pending entries again, is safe then.
    pub fn keep(&mut self, stop: &Stop) -> anyhow::Result<()> {
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
                Ok(Some(true)) => {
                    self.lease.set(LeaseState::Lost);
                    if absent > LEASE {
                        anyhow::bail!(
                            "lost {}: this process was frozen for {:.1} s, longer than its lease",
                            self.name.text,
                            absent.as_secs_f64()
                        );
                    }
                    anyhow::bail!("lost {}: another process has taken it", self.name.text);
                }
                // Without Redis no other process can read under the name either.
                Err(error) => log::debug!("failed to renew the holder's key: {}", link::describe(&error)),
            }
            looked_at = Instant::now();
        }
        if self.lease.is_marked() {
            // If this fails, the lease expires by itself.
            let me = self.me.clone();
            let _ = self.delete_if(&me);
        }
        Ok(())
    }

    /// Renews the lease. Returns the other holder, or `None` if this process still holds the name.
    fn try_renew(&mut self) -> RedisResult<Option<String>> {
        match self.extend()? {
            Some(holder) if holder == self.me => Ok(None),
            _ => self.try_take(),
        }
    }

    /// Extends the key's lifetime if it names this process. Returns the holder that it names.
    fn extend(&mut self) -> RedisResult<Option<String>> {
        let sent_at = Instant::now();
        let holder: Option<String> = self.link.query(redis::cmd("GET").arg(&self.name.key))?;
        if holder.as_deref() != Some(&self.me) {
            return Ok(holder);
        }
        let mut expire = redis::cmd("PEXPIRE");
        expire.arg(&self.name.key).arg(LEASE.as_millis() as u64);
        // If another process took the key since the GET, this extends that process's lease; the GET below detects it.
        self.link.query::<()>(&expire)?;
        let holder: Option<String> = self.link.query(redis::cmd("GET").arg(&self.name.key))?;
        if holder.as_deref() == Some(&self.me) {
            self.lease.set(LeaseState::HeldUntil(sent_at + LEASE - MARGIN));
        }
        Ok(holder)
    }

    /// Deletes the key if it names `holder`. A plain DEL after a GET could delete the key of a process that took it in
    /// between.
    fn delete_if(&mut self, holder: &str) -> RedisResult<()> {
        self.link.query::<()>(redis::cmd("WATCH").arg(&self.name.key))?;
        let current: Option<String> = self.link.query(redis::cmd("GET").arg(&self.name.key))?;
        if current.as_deref() != Some(holder) {
            return self.link.query(&redis::cmd("UNWATCH"));
        }
        let mut delete = redis::cmd("DEL");
        delete.arg(&self.name.key);
        self.link.transaction(&[delete])?;
        Ok(())
    }
}
