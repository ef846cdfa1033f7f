//! Events from a file of JSON lines, plain or compressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Event;

/// `data` keeps its text to the letter, so that oddities of it reach the stream.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    data: &'a RawValue,
    seq: Option<Value>,
}

/// The events of a file with a `{"type","data","seq"}` on each line; `.gz` is unpacked.
pub(crate) fn read(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Event>> + use<>> {
    let file = File::open(path)?;
    let reader: Box<dyn BufRead> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    Ok(reader.lines().map(|line| parse(&line?)))
}

/// The event as a line of such a file.
pub(crate) fn line(event: &Event) -> String {
    let seq = json!(event.seq);
    format!(r#"{{"type":"{}","data":{},"seq":{seq}}}"#, event.kind, event.data)
}

fn parse(line: &str) -> io::Result<Event> {
    let line: Line<'_> = serde_json::from_str(line)?;
    let seq = match line.seq {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    Ok(Event {
        kind: line.kind,
        data: line.data.get().to_owned(),
        seq,
    })
}
