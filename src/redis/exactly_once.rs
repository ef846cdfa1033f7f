//! Transactions that Redis carries out once, whatever becomes of their answers.
//!
//! Each transaction sets its number in a key of ours in the same MULTI, and is sent only while the key holds what it held
//! when that number was given out. So after an answer that did not come the key tells whether the transaction was carried
//! out, and one that a stalled server or network delivers late, after it was sent again, changes nothing.

use redis::{Cmd, RedisResult, Value, from_redis_value};

use crate::redis::link::{self, Link};

/// The key goes by itself once no process has used it for a day.
const TTL_SECONDS: u64 = 24 * 60 * 60;

/// What a Redis user needs for the key.
pub const RULE: &str = "~firehose:worker:* +watch +unwatch +get +set +multi +exec";

/// The transactions of one thread, one after the other.
pub struct Once {
    key: String,
    /// Of this process: another one's numbers mean nothing to it.
    mark: String,
    /// Of the last transaction that was carried out or given up.
    number: u64,
    is_unclear: bool,
    /// Redis has taken MULTI from this user.
    has_worked: bool,
}

/// A transaction that can begin, or needs not.
pub enum Opened {
    /// An earlier try, whose answer did not come, has carried it out.
    CarriedOut,
    /// It is carried out only if neither the own key nor the guard changes meanwhile. With what the guard holds.
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

    /// Whether the last commands may have been carried out, or may be yet: none but the same may be given until they were.
    pub fn is_unclear(&self) -> bool {
        self.is_unclear
    }

    /// Carries out `commands`, and answers their answers; none if an earlier call, whose answer did not come, has carried
    /// them out. After an error the same commands must be given again while `is_unclear`, also if this error is a plain
    /// refusal: what an earlier call sent may arrive after it.
    ///
    /// # Errors
    ///
    /// As Redis or the system says.
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

    /// Begins a transaction, which a change of the key `guard` ends too. Commands may be sent before it is closed.
    ///
    /// # Errors
    ///
    /// As Redis or the system says.
    pub fn open(&mut self, link: &mut Link, guard: Option<&str>) -> RedisResult<Opened> {
        let mut look = redis::pipe();
        look.cmd("WATCH").arg(&self.key).arg(guard);
        look.cmd("GET")
            .arg(&self.key)
            .cmd("GET")
            .arg(guard.unwrap_or(&self.key));
        let answers: Vec<Value> = link.pipeline(look.ignore_errors())?;
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

    /// Carries out `commands`, and answers their answers; `None` if one of the keys has changed: to be opened again.
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
                // Where MULTI itself was refused, the others were carried out one by one: the key tells.
                match std::mem::take(&mut self.has_worked) && is_refused {
                    true => Ok(None),
                    false => Err(error),
                }
            }
        }
    }

    /// Leaves undone what was to be carried out. Of a try that may be under way the fate is not asked for any more.
    pub fn give_up(&mut self) {
        self.end();
    }

    /// Whether the last commands had no answer and were carried out all the same, as far as can be told now; then they are
    /// done with.
    ///
    /// # Errors
    ///
    /// As Redis or the system says.
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

    /// Has the last commands, whose answer did not come, change nothing if they arrive yet.
    ///
    /// # Errors
    ///
    /// As Redis or the system says.
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
