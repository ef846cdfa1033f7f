//! The append-only file of a Redis that has crashed.
//!
//! If the file ends within a command, Redis cuts it behind the last whole one, even if that belongs to a transaction
//! whose EXEC is missing. It ignores the rest of that transaction then, and executes it together with the next one when
//! it reads the file again (seen with 7.0.15). Entries would then be in the stream twice, and as many old ones trimmed. A
//! file that Redis has rewritten from its memory does not contain these commands.
//!
//! Owns when Redis is asked to do that: once after each start, before the caller writes anything.

use std::time::{Duration, Instant};

use redis::{InfoDict, RedisError, RedisResult};

use super::link::{self, Link};
use crate::runtime::heartbeat;
use crate::runtime::shutdown::Stop;

/// The rights for it.
const RULE: &str = "+info +bgrewriteaof";

const COST: &str = "a Redis that crashes twice within hours may double entries and trim as many old ones";

/// How long after the start of Redis, in seconds, its file is in doubt. A stream in use makes Redis rewrite it sooner.
const LATELY: u64 = 3600;

/// The longest time that a rewrite is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The process of Redis whose file is known to be sound.
#[derive(Default)]
pub struct AppendOnly {
    run_id: Option<String>,
}

impl AppendOnly {
    /// Lets Redis rewrite its file if it has one and has started lately, and waits until that is done.
    ///
    /// # Errors
    ///
    /// As for `Link::query`. A missing right is no error: the link reports it.
    pub fn renew(&mut self, link: &mut Link, stop: &Stop) -> RedisResult<()> {
        let answer = info_once_loaded(link, stop);
        let Some(info) = link.optional(answer, COST, RULE)? else {
            return Ok(());
        };
        let run_id: Option<String> = info.get("run_id");
        if run_id == self.run_id {
            return Ok(());
        }
        let has_file = info.get("aof_enabled") == Some(1);
        let is_young = info
            .get::<u64>("uptime_in_seconds")
            .is_some_and(|seconds| seconds < LATELY);
        if has_file && is_young {
            let answer = link.query::<()>(&redis::cmd("BGREWRITEAOF"));
            let answer = answer.or_else(|error| if is_under_way(&error) { Ok(()) } else { Err(error) });
            if link.optional(answer, COST, RULE)?.is_some() {
                wait(link, stop)?;
            }
        }
        self.run_id = run_id;
        Ok(())
    }
}

/// While Redis reads the file, INFO says that there is none.
fn info_once_loaded(link: &mut Link, stop: &Stop) -> RedisResult<InfoDict> {
    loop {
        let info = info(link)?;
        if info.get("loading") != Some(1) || stop.wait(POLL_INTERVAL) {
            return Ok(info);
        }
    }
}

fn info(link: &mut Link) -> RedisResult<InfoDict> {
    link.query(&redis::cmd("INFO"))
}

/// Whether Redis says that it is rewriting the file already.
fn is_under_way(error: &RedisError) -> bool {
    link::code(error) == "ERR" && link::describe(error).contains("in progress")
}

fn wait(link: &mut Link, stop: &Stop) -> RedisResult<()> {
    let began_at = Instant::now();
    while began_at.elapsed() < PATIENCE {
        let info = info(link)?;
        let is_set = |name| info.get(name) == Some(1);
        if !is_set("aof_rewrite_in_progress") && !is_set("aof_rewrite_scheduled") {
            return Ok(());
        }
        heartbeat::beat();
        if stop.wait(POLL_INTERVAL) {
            return Ok(());
        }
    }
    log::warn!(
        "redis has not rewritten its append-only file within {} s; appending meanwhile",
        PATIENCE.as_secs()
    );
    Ok(())
}
