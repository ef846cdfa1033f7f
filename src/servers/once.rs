//! Transactions that Redis carries out once, whatever becomes of their answers.
//!
//! Each transaction sets its number in a key of ours in the same MULTI, and is sent only while the key holds what it held
//! when that number was given out. So after an answer that did not come the key tells whether the transaction was carried
//! out, and one that a stalled server or network delivers late, after it was sent again, changes nothing.

use redis::{Cmd, RedisResult, Value};

use crate::servers::link::{self, Link};

/// The key goes by itself once no process has used it for a day.
const TTL_SECONDS: u64 = 24 * 60 * 60;

/// What a Redis user needs for the key.
pub const RULE: &str = "~firehose:worker:* +watch +unwatch +get +set +multi +exec";

/// The transactions of one thread, one after the other.
pub struct Once {
    key: String,
    /// Of this process: another one's numbers mean nothing to it.
    mark: String,
    /// Of the last transaction that was carried out.
    number: u64,
    is_unclear: bool,
}

impl Once {
    pub fn new(key: String) -> Once {
        Once {
            key,
            mark: format!("{:x}", fastrand::u64(..)),
            number: 0,
            is_unclear: false,
        }
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
    pub fn execute(&mut self, link: &mut Link, mut commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        let next = format!("{}:{}", self.mark, self.number + 1);
        let mut set = redis::cmd("SET");
        set.arg(&self.key).arg(&next).arg("EX").arg(TTL_SECONDS);
        commands.push(set);
        loop {
            link.query::<()>(redis::cmd("WATCH").arg(&self.key))?;
            let held: Option<String> = link.query(redis::cmd("GET").arg(&self.key))?;
            if held.as_ref() == Some(&next) {
                link.query::<()>(&redis::cmd("UNWATCH"))?;
                self.carried_out();
                return Ok(Vec::new());
            }
            match link.transaction(&commands) {
                Ok(Some(mut answers)) => {
                    self.carried_out();
                    answers.pop();
                    return Ok(answers);
                }
                // The key has changed since it was read.
                Ok(None) => {}
                Err(error) => {
                    self.is_unclear |= link::is_connection_error(&error);
                    return Err(error);
                }
            }
        }
    }

    fn carried_out(&mut self) {
        self.number += 1;
        self.is_unclear = false;
    }
}
