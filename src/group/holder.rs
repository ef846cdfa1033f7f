//! Who holds a consumer name.
//!
//! Owns the key that names the process which reads under a consumer name, so that a second one with the same name waits
//! and takes over when the first is gone. Sets the lease that tells the first, frozen meanwhile, to keep its hands off.

use std::time::{Duration, Instant};

use redis::RedisResult;

use crate::group::lease::{Lease, LeaseState};
use crate::group::mark;
use crate::keys;
use crate::redis::link::{self, Link, Redis};
use crate::runtime::retry::{Backoff, Refusal};
use crate::runtime::shutdown::Stop;
use crate::settings::config::Config;

/// A holder that has not renewed its key for this long is gone.
pub const LEASE: Duration = Duration::from_secs(8);

const RENEWAL: Duration = Duration::from_secs(2);

/// How often a standby looks.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A part of the lease that is not used: what is sent at its end still has to arrive.
const MARGIN: Duration = Duration::from_secs(1);

/// The key that marks who holds a consumer name.
pub fn key(config: &Config, consumer: &str) -> String {
    keys::of_consumer("holder", config, consumer)
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
            key: key(config, &config.consumer),
            me: mark::of(std::process::id()),
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
                        log::info!("took over the consumer name {}", self.consumer);
                    }
                    return Ok(());
                }
                Ok(Some(other)) if !may_wait => {
                    anyhow::bail!(
                        "the consumer name {} is held by {other}; stop that process first",
                        self.consumer
                    );
                }
                Ok(Some(other)) => {
                    if !is_standby {
                        log::warn!("standby: the consumer name {} is held by {other}", self.consumer);
                        is_standby = true;
                    }
                    backoff.reset();
                    stop.wait(POLL_INTERVAL);
                }
                Err(error) => {
                    if !self.link.waits_out(&error) {
                        refusal.say(format!(
                            "redis refuses the consumer name's key {}: {}; nothing is read before it takes it{}",
                            self.key,
                            link::describe(&error),
                            self.remedy(&error)
                        ));
                    }
                    backoff.wait(stop)?;
                }
            }
        }
    }

    /// What to do about the key, where the error itself does not say it.
    fn remedy(&self, error: &redis::RedisError) -> String {
        match link::code(error) {
            "WRONGTYPE" => format!("; another program made it: redis-cli DEL {}", self.key),
            _ => String::new(),
        }
    }

    /// An answer about the key; `None` where its user may not have what that takes. Then this process goes on without.
    fn allowed<T>(&mut self, answer: RedisResult<T>) -> RedisResult<Option<T>> {
        let answer = self.link.optional(answer, NO_MARK, RULE)?;
        if answer.is_none() {
            self.lease.set(LeaseState::Unbounded);
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
                    self.lease.set(LeaseState::HeldUnmarkedUntil(sent_at + LEASE - MARGIN));
                }
                return Ok(other);
            }
            taken => taken?,
        };
        if taken.is_some() {
            self.lease.set(LeaseState::HeldUntil(sent_at + LEASE - MARGIN));
            // Whether it may be renewed is better known now than when the lease ends.
            self.extend()?;
            return Ok(None);
        }
        match self.extend()? {
            None => self.try_take(),
            Some(other) if other == self.me => Ok(None),
            // It was on this machine and is gone: no need to wait for its lease to end.
            Some(other) if mark::is_gone(&other) => {
                self.delete_if(&other)?;
                self.try_take()
            }
            Some(other) => Ok(Some(other)),
        }
    }

    /// The other holder, if there is one that lives.
    fn other(&mut self) -> RedisResult<Option<String>> {
        let holder: Option<String> = self.link.query(redis::cmd("GET").arg(&self.key))?;
        Ok(holder.filter(|holder| *holder != self.me && !mark::is_gone(holder)))
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
                Ok(Some(true)) if absent > LEASE => anyhow::bail!(
                    "lost the consumer name {}: this process stood still for {:.1} s, longer than its lease",
                    self.consumer,
                    absent.as_secs_f64()
                ),
                Ok(Some(true)) => {
                    anyhow::bail!("lost the consumer name {}: another process has taken it", self.consumer)
                }
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
            self.lease.set(LeaseState::HeldUntil(sent_at + LEASE - MARGIN));
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
