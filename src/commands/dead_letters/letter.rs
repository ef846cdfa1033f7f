//! What a dead letter contains beside the fields of any kept entry.

use serde_json::json;

use crate::figures::kept::Kept;

/// The repo of a commit, the DID of another event.
pub fn repo(letter: &Kept) -> String {
    let data = letter.fields.get("data").map(Vec::as_slice).unwrap_or_default();
    let data: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let did = data.get("repo").or_else(|| data.get("did"));
    did.and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

pub fn to_json(letter: &Kept) -> serde_json::Value {
    json!({
        "id": letter.id.to_string(),
        "time": letter.time(),
        "type": letter.text("type"),
        "repo": repo(letter),
        "op": letter.text("op"),
        "seq": letter.text("seq"),
        "origId": letter.text("origId"),
        "deliveries": letter.text("deliveries"),
        "error": letter.text("error"),
        "data": letter.text("data"),
    })
}

/// The XADD that puts the original entry back on the stream. Fields that the entry did not have are not added, so that
/// it is processed as before.
pub fn to_event(letter: &Kept, stream: &str) -> redis::Cmd {
    let mut add = redis::cmd("XADD");
    add.arg(stream).arg("*");
    for field in ["type", "data", "seq"] {
        let value = letter.fields.get(field).map(Vec::as_slice).unwrap_or_default();
        if field == "seq" || !value.is_empty() {
            add.arg(field).arg(value);
        }
    }
    add
}
