//! Transactions that Redis executes exactly once, even if their replies are lost.
//!
//! Each transaction stores its number in a key of the worker within the same MULTI. WATCH makes it execute only while
//! the key still holds the previous number. If a reply is lost, the key therefore shows whether the transaction was
//! executed; and a copy that a stalled server or network delivers late, after the transaction was sent again, changes
//! nothing.

use redis::{Cmd, RedisResult, Value, from_redis_value};

use crate::redis::link::{self, Link};

/// The key expires once no process has used it for a day.
const TTL_SECONDS: u64 = 24 * 60 * 60;

/// The ACL rules that the Redis user needs for the key.
pub const RULE: &str = "~firehose:worker:* +watch +unwatch +get +set +multi +exec";

/// The transactions of one thread, which are executed one after the other.
pub struct Once {
    key: String,
    /// A random prefix of this process's numbers, which distinguishes them from those of other processes.
    mark: String,
    /// The number of the last transaction that was executed or given up.
    number: u64,
    is_unclear: bool,
    /// Redis has accepted MULTI from this user.
    has_worked: bool,
}

/// The result of `Once::open`.
pub enum Opened {
    /// An earlier attempt, whose reply was lost, has executed the transaction.
    CarriedOut,
    /// The transaction can be closed, and executes only if neither its own key nor the guard changes in the meantime.
    /// Contains the value of the guard.
    Ready(Option<String>),
}

impl Once {
    pub fn new(key: String) -> Once {
        Once {
            key,
            mark: format!("{:x}", fastrand::u64(..)),
            number: 0,
            is_unclear: false,
            has_worked: false,
        }
    }

    /// The key that holds the number.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether Redis has executed a transaction and refused none since.
    pub fn has_worked(&self) -> bool {
        self.has_worked
    }

    /// Whether the outcome of the last commands is unknown: they may have been executed, or may still be. The caller
    /// must then repeat exactly the same commands.
    pub fn is_unclear(&self) -> bool {
        self.is_unclear
    }

    /// Executes `commands` and returns their replies; the replies are empty if an earlier call, whose reply was lost,
    /// has executed them. After an error the caller must repeat the same commands while `is_unclear`, even if Redis
    /// refused them: the commands of an earlier call may still arrive.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached or refuses the commands.
    pub fn execute(&mut self, link: &mut Link, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        loop {
            if let Opened::CarriedOut = self.open(link, None)? {
                return Ok(Vec::new());
            }
            if let Some(answers) = self.close(link, commands.clone())? {
                return Ok(answers);
            }
        }
    }

    /// Begins a transaction that also fails if the key `guard` changes. The caller may send other commands before
    /// `close`.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached or refuses to watch or read the keys.
    pub fn open(&mut self, link: &mut Link, guard: Option<&str>) -> RedisResult<Opened> {
        let mut watch = redis::pipe();
        watch.cmd("WATCH").arg(&self.key).arg(guard);
        watch
            .cmd("GET")
            .arg(&self.key)
            .cmd("GET")
            .arg(guard.unwrap_or(&self.key));
        let answers: Vec<Value> = link.pipeline(watch.ignore_errors())?;
        let mut texts = Vec::with_capacity(answers.len());
        for answer in answers {
            texts.push(from_redis_value::<Option<String>>(answer.extract_error()?)?);
        }
        let guard = texts.pop().flatten();
        if texts.pop().flatten() == Some(self.next()) {
            link.query::<()>(&redis::cmd("UNWATCH"))?;
            self.end();
            return Ok(Opened::CarriedOut);
        }
        Ok(Opened::Ready(guard))
    }

    /// Executes `commands` and returns their replies; `None` if one of the watched keys has changed, so that the caller
    /// must `open` again.
    ///
    /// # Errors
    ///
    /// As for `execute`.
    pub fn close(&mut self, link: &mut Link, mut commands: Vec<Cmd>) -> RedisResult<Option<Vec<Value>>> {
        let mut set = redis::cmd("SET");
        set.arg(&self.key).arg(self.next()).arg("EX").arg(TTL_SECONDS);
        commands.push(set);
        match link.transaction_of(&commands, self.has_worked) {
            Ok(None) => Ok(None),
            Ok(Some(mut answers)) => {
                self.has_worked = true;
                self.end();
                answers.pop();
                Ok(Some(answers))
            }
            Err(error) => {
                let is_refused = !link::is_connection_error(&error);
                self.is_unclear |= !is_refused;
                // If MULTI itself was refused, the other commands were executed one by one: the key shows whether.
                match std::mem::take(&mut self.has_worked) && is_refused {
                    true => Ok(None),
                    false => Err(error),
                }
            }
        }
    }

    /// Abandons the last commands. If they are still under way, they may be executed; their outcome no longer matters.
    pub fn give_up(&mut self) {
        self.end();
    }

    /// Whether the last commands, whose reply was lost, have been executed by now. If so, they are finished. `false`
    /// does not rule out that they are executed later.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached or refuses to read the key.
    pub fn was_carried_out(&mut self, link: &mut Link) -> RedisResult<bool> {
        if !self.is_unclear {
            return Ok(false);
        }
        let held: Option<String> = link.query(redis::cmd("GET").arg(&self.key))?;
        let was_carried_out = held == Some(self.next());
        if was_carried_out {
            self.end();
        }
        Ok(was_carried_out)
    }

    /// Ensures that the last commands, whose reply was lost, change nothing if they still arrive.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached or refuses to write the key.
    pub fn void(&mut self, link: &mut Link) -> RedisResult<()> {
        let mut set = redis::cmd("SET");
        set.arg(&self.key).arg(&self.mark).arg("EX").arg(TTL_SECONDS);
        let sent = link.query::<()>(&set);
        if !sent.as_ref().is_err_and(link::is_connection_error) {
            self.end();
        }
        sent
    }

    fn next(&self) -> String {
        format!("{}:{}", self.mark, self.number + 1)
    }

    fn end(&mut self) {
        self.number += 1;
        self.is_unclear = false;
    }
}
