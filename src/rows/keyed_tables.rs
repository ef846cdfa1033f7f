//! The tables whose rows depend only on their own record: their columns, and how a record fills them.

use std::borrow::Cow;

use super::keyed::{IndexedAt, Key, KeyedTable, Kind, Value};
use super::{DID_MAX, Ignored, Record, URI_MAX, json_array, optional_uri, strings};
use crate::decode::json::Json;
use crate::decode::text::{cut, fits};

/// All keyed tables.
pub static KEYED_TABLES: [&KeyedTable; 8] = [
    &FEED_GENERATORS,
    &STARTER_PACKS,
    &LABELER_SERVICES,
    &LISTS,
    &LABELS,
    &THREAD_GATES,
    &POST_GATES,
    &GENERIC_RECORDS,
];

/// The defaults; each table overrides what differs.
const USUAL: KeyedTable = KeyedTable {
    name: "",
    collection: None,
    key: Key::Record,
    columns: &[],
    indexed_at: IndexedAt::OfCreation,
    written_at: "indexed_at",
    needs_user: true,
    heeds_opt_out: true,
    has_events: false,
    values: |_| Ok(None),
};

type Values<'a> = Result<Option<Vec<Value<'a>>>, Ignored>;

static FEED_GENERATORS: KeyedTable = KeyedTable {
    name: "feed_generators",
    collection: Some("app.bsky.feed.generator"),
    columns: &[
        ("cid", Kind::Text),
        ("creator_did", Kind::Text),
        ("did", Kind::Text),
        ("display_name", Kind::Text),
        ("description", Kind::Text),
        ("avatar_url", Kind::Text),
        ("created_at", Kind::Time),
    ],
    indexed_at: IndexedAt::OfChange,
    values: feed_generator,
    ..USUAL
};

fn feed_generator<'a>(record: Record<'_, 'a>) -> Values<'a> {
    let did = record.text("did");
    Ok(Some(vec![
        Value::text(record.cid.clone()),
        Value::text(record.repo.clone()),
        Value::text(if fits(&did, DID_MAX) { did } else { Cow::Borrowed("") }),
        Value::text(record.name("displayName")),
        Value::Text(record.optional_text("description")),
        Value::Text(record.blob("avatar")),
        Value::Time(record.created_at()),
    ]))
}

static STARTER_PACKS: KeyedTable = KeyedTable {
    name: "starter_packs",
    collection: Some("app.bsky.graph.starterpack"),
    columns: &[
        ("cid", Kind::Text),
        ("creator_did", Kind::Text),
        ("name", Kind::Text),
        ("description", Kind::Text),
        ("list_uri", Kind::Text),
        ("feeds", Kind::Json),
        ("created_at", Kind::Time),
    ],
    indexed_at: IndexedAt::OfChange,
    values: starter_pack,
    ..USUAL
};

fn starter_pack<'a>(record: Record<'_, 'a>) -> Values<'a> {
    let feeds = record.json.array("feeds").into_iter().flatten();
    Ok(Some(vec![
        Value::text(record.cid.clone()),
        Value::text(record.repo.clone()),
        Value::text(record.name("name")),
        Value::Text(record.optional_text("description")),
        Value::Text(optional_uri(record.json.get("list"))),
        Value::Json(json_array(feeds.filter_map(|feed| feed.str("uri")))),
        Value::Time(record.created_at()),
    ]))
}

static LABELER_SERVICES: KeyedTable = KeyedTable {
    name: "labeler_services",
    collection: Some("app.bsky.labeler.service"),
    key: Key::Singleton,
    columns: &[
        ("cid", Kind::Text),
        ("creator_did", Kind::Text),
        ("policies", Kind::Json),
        ("created_at", Kind::Time),
    ],
    indexed_at: IndexedAt::OfChange,
    values: labeler,
    ..USUAL
};

const NO_POLICIES: &str = r#"{"labelValues":[],"labelValueDefinitions":[]}"#;

fn labeler<'a>(record: Record<'_, 'a>) -> Values<'a> {
    let policies = record.json.get("policies").filter(|policies| policies.is_object());
    Ok(Some(vec![
        Value::text(record.cid.clone()),
        Value::text(record.repo.clone()),
        Value::Json(policies.map_or_else(|| NO_POLICIES.to_owned(), Json::to_text)),
        Value::Time(record.created_at()),
    ]))
}

static LISTS: KeyedTable = KeyedTable {
    name: "lists",
    collection: Some("app.bsky.graph.list"),
    columns: &[
        ("cid", Kind::Text),
        ("creator_did", Kind::Text),
        ("name", Kind::Text),
        ("purpose", Kind::Text),
        ("description", Kind::Text),
        ("avatar_url", Kind::Text),
        ("created_at", Kind::Time),
    ],
    values: list,
    ..USUAL
};

const PURPOSE_MAX: usize = 64;

fn list<'a>(record: Record<'_, 'a>) -> Values<'a> {
    let purpose = record
        .optional_text("purpose")
        .filter(|purpose| fits(purpose, PURPOSE_MAX));
    Ok(Some(vec![
        Value::text(record.cid.clone()),
        Value::text(record.repo.clone()),
        Value::text(record.name("name")),
        Value::text(purpose.unwrap_or_default()),
        Value::Text(record.optional_text("description")),
        Value::Text(record.blob("avatar")),
        Value::Time(record.created_at()),
    ]))
}

static LABELS: KeyedTable = KeyedTable {
    name: "labels",
    collection: Some("com.atproto.label.label"),
    columns: &[
        ("src", Kind::Text),
        ("subject", Kind::Text),
        ("val", Kind::Text),
        ("neg", Kind::Bool),
        ("created_at", Kind::Time),
    ],
    needs_user: false,
    heeds_opt_out: false,
    has_events: true,
    values: label,
    ..USUAL
};

const VAL_MAX: usize = 128;

fn label<'a>(record: Record<'_, 'a>) -> Values<'a> {
    let subject = record.optional_text("uri").or_else(|| record.optional_text("did"));
    let subject = subject.ok_or(Ignored::NoSubject)?;
    let val = record.optional_text("val").ok_or(Ignored::NoSubject)?;
    if !fits(&subject, URI_MAX) {
        return Err(Ignored::KeyTooLong);
    }
    Ok(Some(vec![
        Value::text(record.repo.clone()),
        Value::text(subject),
        Value::text(cut(val, VAL_MAX)),
        Value::Bool(record.json.get("neg") == Some(&Json::Bool(true))),
        Value::Time(record.first_date(["createdAt", "cts"])),
    ]))
}

static THREAD_GATES: KeyedTable = KeyedTable {
    name: "thread_gates",
    collection: Some("app.bsky.feed.threadgate"),
    key: Key::Post,
    columns: &[
        ("owner_did", Kind::Text),
        ("allow_mentions", Kind::Bool),
        ("allow_following", Kind::Bool),
        ("allow_list_members", Kind::Bool),
        ("allow_list_uris", Kind::Json),
        ("created_at", Kind::Time),
    ],
    indexed_at: IndexedAt::Absent,
    written_at: "updated_at",
    needs_user: false,
    values: thread_gate,
    ..USUAL
};

/// A gate without rules lets everyone reply. The AppView represents this by the absence of a row.
fn thread_gate<'a>(record: Record<'_, 'a>) -> Values<'a> {
    let Some(rules) = record.json.array("allow") else {
        return Ok(None);
    };
    let of_type = |name: &'static str| {
        rules
            .iter()
            .filter(move |rule| rule.str("$type").is_some_and(|of| of == name))
    };
    let mut list_rules = of_type("app.bsky.feed.threadgate#listRule").peekable();
    Ok(Some(vec![
        Value::text(record.repo.clone()),
        Value::Bool(of_type("app.bsky.feed.threadgate#mentionRule").next().is_some()),
        Value::Bool(of_type("app.bsky.feed.threadgate#followingRule").next().is_some()),
        Value::Bool(list_rules.peek().is_some()),
        Value::Json(json_array(list_rules.filter_map(|rule| rule.str("list")))),
        Value::Time(record.created_at()),
    ]))
}

static POST_GATES: KeyedTable = KeyedTable {
    name: "post_gates",
    collection: Some("app.bsky.feed.postgate"),
    key: Key::Post,
    columns: &[("embedding_rules", Kind::Json), ("created_at", Kind::Time)],
    indexed_at: IndexedAt::Absent,
    written_at: "now()",
    needs_user: false,
    values: post_gate,
    ..USUAL
};

const DISABLE_RULE: &str = "app.bsky.feed.postgate#disableRule";

/// Stores the rules in the AppView's form: `{disableRule?, detachedEmbeddingUris?}`.
fn post_gate<'a>(record: Record<'_, 'a>) -> Values<'a> {
    let mut rules = Vec::new();
    let mut of_record = record.json.array("embeddingRules").into_iter().flatten();
    if of_record.any(|rule| rule.str("$type").is_some_and(|name| name == DISABLE_RULE)) {
        rules.push((Cow::Borrowed("disableRule"), Json::String(Cow::Borrowed(DISABLE_RULE))));
    }
    let detached = record.json.array("detachedEmbeddingUris");
    if let Some(uris) = detached.filter(|uris| !uris.is_empty()) {
        let uris = strings(uris).cloned().map(Json::String).collect();
        rules.push((Cow::Borrowed("detachedEmbeddingUris"), Json::Array(uris)));
    }
    Ok(Some(vec![
        Value::Json(Json::Object(rules).to_text()),
        Value::Time(record.created_at()),
    ]))
}

pub static GENERIC_RECORDS: KeyedTable = KeyedTable {
    name: "generic_records",
    columns: &[
        ("cid", Kind::Text),
        ("author_did", Kind::Text),
        ("record_type", Kind::Text),
        ("record", Kind::Json),
        ("created_at", Kind::Time),
    ],
    needs_user: false,
    values: generic_record,
    ..USUAL
};

fn generic_record<'a>(record: Record<'_, 'a>) -> Values<'a> {
    let own_type = record.json.str("$type");
    let own_type = own_type.filter(|name| !name.is_empty() && fits(name, DID_MAX)).cloned();
    let record_type = own_type.unwrap_or_else(|| cut(Cow::Owned(record.collection.to_owned()), DID_MAX));
    Ok(Some(vec![
        Value::text(record.cid.clone()),
        Value::text(record.repo.clone()),
        Value::text(record_type),
        Value::Json(record.json.to_text()),
        Value::Time(record.created_at()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json;
    use crate::entry::{EntryId, Position};
    use crate::micros::Micros;
    use crate::rows::Source;

    #[test]
    fn a_row_has_a_value_of_the_right_kind_for_each_column() {
        let source = Source {
            entry: 0,
            id: EntryId::ZERO,
            time: Micros(0),
            seq: Cow::Borrowed("1"),
        };
        for table in KEYED_TABLES {
            let record = Record {
                source: &source,
                position: Position::FIRST,
                repo: Cow::Borrowed("did:plc:a"),
                collection: table.collection.unwrap_or("org.example.custom"),
                uri: String::new(),
                cid: Cow::Borrowed("cid"),
                json: json::parse(r#"{"uri":"at://did:plc:a/b/c","val":"spam","allow":[]}"#).unwrap(),
            };
            let values = (table.values)(record).unwrap().unwrap();
            let kinds: Vec<Kind> = values.iter().map(Value::kind).collect();
            let columns: Vec<Kind> = table.columns.iter().map(|(_, kind)| *kind).collect();
            assert_eq!(kinds, columns, "{}", table.name);
        }
    }
}
