//! Turns events from lexicon JSON into what a producer built on the atproto Python SDK (0.0.73) sends.
//!
//! That producer dumps the SDK's models by field name: known members in snake_case, each absent one as null, `py_type`
//! in place of `$type` at every level (at the top both), blobs with their CID in hex. Members that a lexicon does not
//! know keep their own spelling. A record that the SDK has no model for leaves no record at all in its op. The text is
//! Python's `json.dumps`: ASCII only, with spaces after commas and colons.
//!
//! More lenient than the SDK in one thing: a record that does not fit its lexicon is converted as far as it goes.

#[path = "sdk_dialect/models.rs"]
mod models;

use std::io;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::Serialize as _;
use serde_json::ser::Formatter;
use serde_json::{Map, Value, json};

use self::models::{Kind, MODELS, Model, RECORDS};

/// The data of an event, in the second dialect.
pub(crate) fn convert(kind: &str, data: &str) -> serde_json::Result<String> {
    let mut data: Value = serde_json::from_str(data)?;
    if kind == "commit" {
        for op in data["ops"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            convert_op(op);
        }
    }
    python_json(&data)
}

fn convert_op(op: &mut Map<String, Value>) {
    if let Some(record) = op.remove("record").and_then(convert_record) {
        op.insert("record".to_owned(), record);
    }
}

/// The record as the SDK dumps it; nothing if it has no model.
pub(crate) fn convert_record(record: Value) -> Option<Value> {
    let Value::Object(record) = record else { return None };
    let model = model_of(&record).filter(|model| !model.name.contains('#') && RECORDS.contains(&model.name))?;
    let mut dumped = dump(model, record);
    dumped.insert("$type".to_owned(), json!(model.name));
    Some(Value::Object(dumped))
}

/// As `json.dumps` writes it.
pub(crate) fn python_json(value: &Value) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, PythonFormatter))?;
    Ok(String::from_utf8(bytes).expect("JSON is UTF-8"))
}

fn model_of(object: &Map<String, Value>) -> Option<&'static Model> {
    let name = object.get("$type")?.as_str()?;
    MODELS.iter().copied().find(|model| model.name == name)
}

fn dump(model: &Model, mut object: Map<String, Value>) -> Map<String, Value> {
    object.remove("$type");
    let mut dumped = Map::new();
    for (name, kind) in model.members {
        let value = object.remove(*name).unwrap_or(Value::Null);
        dumped.insert(snake_case(name), dump_member(kind, value));
    }
    for (name, value) in object {
        dumped.insert(name, dump_unknown(value));
    }
    dumped.insert("py_type".to_owned(), json!(model.name));
    dumped
}

fn dump_member(kind: &Kind, value: Value) -> Value {
    match (kind, value) {
        (Kind::Many(model), Value::Array(items)) => items.into_iter().map(|item| dump_one(model, item)).collect(),
        (Kind::Unions, Value::Array(items)) => items.into_iter().map(dump_union).collect(),
        (Kind::One(model), value) => dump_one(model, value),
        (Kind::Union, value) => dump_union(value),
        (Kind::Blob, value) => dump_blob(value),
        (_, value) => dump_unknown(value),
    }
}

fn dump_one(model: &Model, value: Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(dump(model, object)),
        other => other,
    }
}

fn dump_union(value: Value) -> Value {
    let Value::Object(mut object) = value else { return value };
    if let Some(model) = model_of(&object) {
        return Value::Object(dump(model, object));
    }
    // What is no type at all stays a plain member.
    let name = object
        .get("$type")
        .is_some_and(|name| name != "")
        .then(|| object.remove("$type"))
        .flatten();
    let mut dumped: Map<String, Value> = object
        .into_iter()
        .map(|(key, value)| (key, dump_unknown(value)))
        .collect();
    dumped.extend(name.map(|name| ("py_type".to_owned(), name)));
    Value::Object(dumped)
}

/// Blobs of the old form (`cid`, `mimeType`) have no ref and stay what they are.
fn dump_blob(value: Value) -> Value {
    let link = value
        .get("ref")
        .and_then(|link| link.get("$link"))
        .and_then(Value::as_str);
    match link.and_then(hex_of_cid) {
        Some(hex) => json!({"mime_type": value["mimeType"], "size": value["size"], "ref": hex, "py_type": "blob"}),
        None => value,
    }
}

/// What no model knows was decoded from CBOR as it is: only its links became bytes, and the bytes hex.
fn dump_unknown(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(dump_unknown).collect(),
        Value::Object(object) => match object.get("$link").and_then(Value::as_str).and_then(hex_of_cid) {
            Some(hex) if object.len() == 1 => Value::String(hex),
            _ => Value::Object(
                object
                    .into_iter()
                    .map(|(name, value)| (name, dump_unknown(value)))
                    .collect(),
            ),
        },
        other => other,
    }
}

/// The binary CID in hex, from its base32 text.
fn hex_of_cid(text: &str) -> Option<String> {
    let base32 = text.strip_prefix('b')?.to_ascii_uppercase();
    Some(HEXLOWER.encode(&BASE32_NOPAD.decode(base32.as_bytes()).ok()?))
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() {
            return out.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => out.write_all(&[byte])?,
                _ => write!(out, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }
}
