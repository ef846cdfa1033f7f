//! What a firehose consumer says of itself.

use redis::RedisResult;
use serde::{Deserialize, Serialize};

use crate::redis::link::Link;

/// The key goes by itself ten seconds after its writer.
pub const KEY: &str = "firehose:status";

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "camelCase"))]
pub struct Producer {
    pub connected: bool,
    pub url: Option<String>,
    pub current_cursor: Option<String>,
}

/// Asks Redis for it; `None` where no firehose consumer lives.
///
/// # Errors
///
/// As for `Link::query`; the inner one where something else is in the key.
pub fn ask(link: &mut Link) -> RedisResult<Option<serde_json::Result<Producer>>> {
    let text: Option<String> = link.query(redis::cmd("GET").arg(KEY))?;
    Ok(text.map(|text| serde_json::from_str(&text)))
}
