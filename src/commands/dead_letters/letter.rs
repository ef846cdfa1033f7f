//! One dead letter, parsed from Redis's reply.

use std::collections::HashMap;

use anyhow::Context;
use chrono::{DateTime, SecondsFormat};
use serde_json::json;

use crate::entry::EntryId;

/// The ID and fields of an entry in Redis's reply.
pub type Raw = (String, HashMap<String, Vec<u8>>);

/// One dead letter. Those of other workers may lack some fields.
pub struct Letter {
    pub id: EntryId,
    pub fields: HashMap<String, Vec<u8>>,
}

impl Letter {
    pub fn of((id, fields): Raw) -> anyhow::Result<Letter> {
        let id = EntryId::parse(id.as_bytes()).with_context(|| format!("redis sent the ID {id:?}"))?;
        Ok(Letter { id, fields })
    }

    pub fn text(&self, field: &str) -> String {
        let bytes = self.fields.get(field).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    pub fn time(&self) -> String {
        let time = i64::try_from(self.id.ms).ok().and_then(DateTime::from_timestamp_millis);
        time.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
    }

    /// The repo of a commit, the DID of another event.
    pub fn repo(&self) -> String {
        let data = self.fields.get("data").map(Vec::as_slice).unwrap_or_default();
        let data: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
        let did = data.get("repo").or_else(|| data.get("did"));
        did.and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    }

    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "id": self.id.to_string(),
            "time": self.time(),
            "type": self.text("type"),
            "repo": self.repo(),
            "op": self.text("op"),
            "seq": self.text("seq"),
            "origId": self.text("origId"),
            "deliveries": self.text("deliveries"),
            "error": self.text("error"),
            "data": self.text("data"),
        })
    }

    /// The XADD that puts the original entry back on the stream. Fields that the entry did not have are not added, so
    /// that it is processed as before.
    pub fn to_event(&self, stream: &str) -> redis::Cmd {
        let mut add = redis::cmd("XADD");
        add.arg(stream).arg("*");
        for field in ["type", "data", "seq"] {
            let value = self.fields.get(field).map(Vec::as_slice).unwrap_or_default();
            if field == "seq" || !value.is_empty() {
                add.arg(field).arg(value);
            }
        }
        add
    }
}
