//! The state that a firehose consumer publishes in Redis.

use redis::RedisResult;
use serde::{Deserialize, Serialize};

use crate::redis::link::Link;

/// The key expires ten seconds after its writer has ended.
pub const KEY: &str = "firehose:status";

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "camelCase"))]
pub struct Producer {
    pub connected: bool,
    pub url: Option<String>,
    pub current_cursor: Option<String>,
}

/// Reads the state from Redis; `None` if no firehose consumer is running.
///
/// # Errors
///
/// As for `Link::query`. The inner result fails if the key holds something else.
pub fn ask(link: &mut Link) -> RedisResult<Option<serde_json::Result<Producer>>> {
    let text: Option<String> = link.query(redis::cmd("GET").arg(KEY))?;
    Ok(text.map(|text| serde_json::from_str(&text)))
}
