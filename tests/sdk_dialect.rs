//! Turns events from lexicon JSON into what a producer built on the atproto Python SDK (0.0.73) sends.
//!
//! That producer dumps the SDK's models by field name: known members in snake_case, each absent one as null, `py_type`
//! in place of `$type` at every level (at the top both), blobs with their CID in hex. Members that a lexicon does not
//! know keep their own spelling. A record that the SDK has no model for leaves no record at all in its op. The text is
//! Python's `json.dumps`: ASCII only, with spaces after commas and colons.
//!
//! More lenient than the SDK in one thing: a record that does not fit its lexicon is converted as far as it goes.

use std::io;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::Serialize as _;
use serde_json::ser::Formatter;
use serde_json::{Map, Value, json};

/// What a member holds, as far as it matters here.
enum Kind {
    /// Text, numbers, lists of them: the same in both dialects.
    Plain,
    Blob,
    One(&'static Model),
    Many(&'static Model),
    /// An object that says itself what it is.
    Union,
    Unions,
}

/// A model of the SDK: its type, and the lexicon's names of its members.
struct Model {
    name: &'static str,
    members: &'static [(&'static str, Kind)],
}

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
    let name = object.remove("$type");
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

const RECORDS: [&str; 16] = [
    "app.bsky.actor.profile",
    "app.bsky.actor.status",
    "app.bsky.feed.generator",
    "app.bsky.feed.like",
    "app.bsky.feed.post",
    "app.bsky.feed.postgate",
    "app.bsky.feed.repost",
    "app.bsky.feed.threadgate",
    "app.bsky.graph.block",
    "app.bsky.graph.follow",
    "app.bsky.graph.list",
    "app.bsky.graph.listblock",
    "app.bsky.graph.listitem",
    "app.bsky.graph.starterpack",
    "app.bsky.graph.verification",
    "app.bsky.labeler.service",
];

#[rustfmt::skip]
const MODELS: [&Model; 38] = [
    &PROFILE, &STATUS, &GENERATOR, &LIKE, &POST, &POSTGATE, &REPOST, &THREADGATE, &BLOCK, &FOLLOW, &LIST, &LISTBLOCK,
    &LISTITEM, &STARTERPACK, &VERIFICATION, &LABELER, &STRONG_REF, &SELF_LABELS, &SELF_LABEL, &FACET, &BYTE_SLICE,
    &MENTION, &LINK, &TAG, &ENTITY, &REPLY_REF, &IMAGES, &IMAGE, &RATIO, &EXTERNAL, &EXTERNAL_INNER, &VIDEO, &CAPTION,
    &RECORD, &RECORD_WITH_MEDIA, &LIST_RULE, &POLICIES, &FEED_ITEM,
];

use Kind::{Blob, Many, One, Plain, Union, Unions};

static STRONG_REF: Model = Model {
    name: "com.atproto.repo.strongRef",
    members: &[("cid", Plain), ("uri", Plain)],
};
static SELF_LABELS: Model = Model {
    name: "com.atproto.label.defs#selfLabels",
    members: &[("values", Many(&SELF_LABEL))],
};
static SELF_LABEL: Model = Model {
    name: "com.atproto.label.defs#selfLabel",
    members: &[("val", Plain)],
};

static FACET: Model = Model {
    name: "app.bsky.richtext.facet",
    members: &[("features", Unions), ("index", One(&BYTE_SLICE))],
};
static BYTE_SLICE: Model = Model {
    name: "app.bsky.richtext.facet#byteSlice",
    members: &[("byteEnd", Plain), ("byteStart", Plain)],
};
static MENTION: Model = Model {
    name: "app.bsky.richtext.facet#mention",
    members: &[("did", Plain)],
};
static LINK: Model = Model {
    name: "app.bsky.richtext.facet#link",
    members: &[("uri", Plain)],
};
static TAG: Model = Model {
    name: "app.bsky.richtext.facet#tag",
    members: &[("tag", Plain)],
};

static IMAGES: Model = Model {
    name: "app.bsky.embed.images",
    members: &[("images", Many(&IMAGE))],
};
static IMAGE: Model = Model {
    name: "app.bsky.embed.images#image",
    members: &[("alt", Plain), ("image", Blob), ("aspectRatio", One(&RATIO))],
};
static RATIO: Model = Model {
    name: "app.bsky.embed.defs#aspectRatio",
    members: &[("height", Plain), ("width", Plain)],
};
static EXTERNAL: Model = Model {
    name: "app.bsky.embed.external",
    members: &[("external", One(&EXTERNAL_INNER))],
};
static EXTERNAL_INNER: Model = Model {
    name: "app.bsky.embed.external#external",
    members: &[
        ("description", Plain),
        ("title", Plain),
        ("uri", Plain),
        ("associatedRefs", Many(&STRONG_REF)),
        ("thumb", Blob),
    ],
};
static VIDEO: Model = Model {
    name: "app.bsky.embed.video",
    members: &[
        ("video", Blob),
        ("alt", Plain),
        ("aspectRatio", One(&RATIO)),
        ("captions", Many(&CAPTION)),
        ("presentation", Plain),
    ],
};
static CAPTION: Model = Model {
    name: "app.bsky.embed.video#caption",
    members: &[("file", Blob), ("lang", Plain)],
};
static RECORD: Model = Model {
    name: "app.bsky.embed.record",
    members: &[("record", One(&STRONG_REF))],
};
static RECORD_WITH_MEDIA: Model = Model {
    name: "app.bsky.embed.recordWithMedia",
    members: &[("media", Union), ("record", One(&RECORD))],
};

static POST: Model = Model {
    name: "app.bsky.feed.post",
    members: &[
        ("createdAt", Plain),
        ("text", Plain),
        ("embed", Union),
        ("entities", Many(&ENTITY)),
        ("facets", Many(&FACET)),
        ("labels", Union),
        ("langs", Plain),
        ("reply", One(&REPLY_REF)),
        ("tags", Plain),
    ],
};
static REPLY_REF: Model = Model {
    name: "app.bsky.feed.post#replyRef",
    members: &[("parent", One(&STRONG_REF)), ("root", One(&STRONG_REF))],
};
static ENTITY: Model = Model {
    name: "app.bsky.feed.post#entity",
    members: &[("index", One(&TEXT_SLICE)), ("type", Plain), ("value", Plain)],
};
static TEXT_SLICE: Model = Model {
    name: "app.bsky.feed.post#textSlice",
    members: &[("end", Plain), ("start", Plain)],
};
static LIKE: Model = Model {
    name: "app.bsky.feed.like",
    members: &[
        ("createdAt", Plain),
        ("subject", One(&STRONG_REF)),
        ("via", One(&STRONG_REF)),
    ],
};
static REPOST: Model = Model {
    name: "app.bsky.feed.repost",
    members: &[
        ("createdAt", Plain),
        ("subject", One(&STRONG_REF)),
        ("via", One(&STRONG_REF)),
    ],
};
static GENERATOR: Model = Model {
    name: "app.bsky.feed.generator",
    members: &[
        ("createdAt", Plain),
        ("did", Plain),
        ("displayName", Plain),
        ("acceptsInteractions", Plain),
        ("avatar", Blob),
        ("contentMode", Plain),
        ("description", Plain),
        ("descriptionFacets", Many(&FACET)),
        ("labels", Union),
    ],
};
static THREADGATE: Model = Model {
    name: "app.bsky.feed.threadgate",
    members: &[
        ("createdAt", Plain),
        ("post", Plain),
        ("allow", Unions),
        ("hiddenReplies", Plain),
    ],
};
static LIST_RULE: Model = Model {
    name: "app.bsky.feed.threadgate#listRule",
    members: &[("list", Plain)],
};
static POSTGATE: Model = Model {
    name: "app.bsky.feed.postgate",
    members: &[
        ("createdAt", Plain),
        ("post", Plain),
        ("detachedEmbeddingUris", Plain),
        ("embeddingRules", Unions),
    ],
};

static FOLLOW: Model = Model {
    name: "app.bsky.graph.follow",
    members: &[("createdAt", Plain), ("subject", Plain), ("via", One(&STRONG_REF))],
};
static BLOCK: Model = Model {
    name: "app.bsky.graph.block",
    members: &[("createdAt", Plain), ("subject", Plain)],
};
static LIST: Model = Model {
    name: "app.bsky.graph.list",
    members: &[
        ("createdAt", Plain),
        ("name", Plain),
        ("purpose", Plain),
        ("avatar", Blob),
        ("description", Plain),
        ("descriptionFacets", Many(&FACET)),
        ("labels", Union),
    ],
};
static LISTITEM: Model = Model {
    name: "app.bsky.graph.listitem",
    members: &[("createdAt", Plain), ("list", Plain), ("subject", Plain)],
};
static LISTBLOCK: Model = Model {
    name: "app.bsky.graph.listblock",
    members: &[("createdAt", Plain), ("subject", Plain)],
};
static STARTERPACK: Model = Model {
    name: "app.bsky.graph.starterpack",
    members: &[
        ("createdAt", Plain),
        ("list", Plain),
        ("name", Plain),
        ("description", Plain),
        ("descriptionFacets", Many(&FACET)),
        ("feeds", Many(&FEED_ITEM)),
    ],
};
static FEED_ITEM: Model = Model {
    name: "app.bsky.graph.starterpack#feedItem",
    members: &[("uri", Plain)],
};
static VERIFICATION: Model = Model {
    name: "app.bsky.graph.verification",
    members: &[
        ("createdAt", Plain),
        ("displayName", Plain),
        ("handle", Plain),
        ("subject", Plain),
    ],
};

static PROFILE: Model = Model {
    name: "app.bsky.actor.profile",
    members: &[
        ("avatar", Blob),
        ("banner", Blob),
        ("createdAt", Plain),
        ("description", Plain),
        ("displayName", Plain),
        ("joinedViaStarterPack", One(&STRONG_REF)),
        ("labels", Union),
        ("links", Many(&STRONG_REF)),
        ("pinnedPost", One(&STRONG_REF)),
        ("pronouns", Plain),
        ("website", Plain),
    ],
};
static STATUS: Model = Model {
    name: "app.bsky.actor.status",
    members: &[
        ("createdAt", Plain),
        ("status", Plain),
        ("durationMinutes", Plain),
        ("embed", Union),
    ],
};
static LABELER: Model = Model {
    name: "app.bsky.labeler.service",
    members: &[
        ("createdAt", Plain),
        ("policies", One(&POLICIES)),
        ("labels", Union),
        ("reasonTypes", Plain),
        ("subjectCollections", Plain),
        ("subjectTypes", Plain),
    ],
};
static POLICIES: Model = Model {
    name: "app.bsky.labeler.defs#labelerPolicies",
    members: &[
        ("labelValues", Plain),
        ("labelValueDefinitions", Many(&LABEL_DEFINITION)),
    ],
};
static LABEL_DEFINITION: Model = Model {
    name: "com.atproto.label.defs#labelValueDefinition",
    members: &[
        ("blurs", Plain),
        ("identifier", Plain),
        ("locales", Many(&LABEL_STRINGS)),
        ("severity", Plain),
        ("adultOnly", Plain),
        ("defaultSetting", Plain),
    ],
};
static LABEL_STRINGS: Model = Model {
    name: "com.atproto.label.defs#labelValueDefinitionStrings",
    members: &[("description", Plain), ("lang", Plain), ("name", Plain)],
};
