//! The made-up events are what they claim to be, before any worker sees them.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::generator::cid::{Codec, cid, digest};
use crate::generator::{Event, Events, file};
use crate::sdk_dialect;
use crate::support::scratch;

/// Some time in 2026.
const BASE_MILLIS: u64 = 1_780_000_000_000;

fn events(seed: u64, n: u64) -> Vec<Event> {
    Events::new(seed, n).at(BASE_MILLIS).collect()
}

fn ops(event: &Event) -> Vec<Value> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_else(|error| panic!("{error} in {}", event.data));
    data["ops"].as_array().cloned().unwrap_or_default()
}

fn collection(op: &Value) -> String {
    op["path"]
        .as_str()
        .and_then(|path| path.split('/').next())
        .expect("an op has a path")
        .to_owned()
}

#[test]
fn the_same_seed_gives_the_same_events_and_another_gives_others() {
    assert_eq!(events(7, 2000), events(7, 2000));
    assert_ne!(events(7, 2000), events(8, 2000));
}

#[test]
fn the_mix_of_ops_is_that_of_the_public_network() {
    let mut n_ops: BTreeMap<String, u64> = BTreeMap::new();
    let mut total = 0;
    for op in events(1, 60_000).iter().flat_map(ops) {
        let what = if op["action"] == "delete" {
            "delete".to_owned()
        } else {
            collection(&op)
        };
        *n_ops.entry(what).or_default() += 1;
        total += 1;
    }
    let percent = |what: &str| n_ops.get(what).map_or(0.0, |n| 100.0 * *n as f64 / f64::from(total));
    for (what, wanted) in [
        ("app.bsky.feed.like", 48.0..52.0),
        ("app.bsky.feed.post", 16.0..20.0),
        ("app.bsky.graph.follow", 11.0..13.5),
        ("app.bsky.feed.repost", 6.0..8.0),
        ("delete", 5.0..7.0),
        ("app.bsky.graph.block", 1.5..2.5),
        ("app.bsky.actor.profile", 1.0..2.0),
    ] {
        assert!(
            wanted.contains(&percent(what)),
            "{what}: {} %, not {wanted:?}; {n_ops:?}",
            percent(what)
        );
    }
    for rare in [
        "app.bsky.graph.list",
        "app.bsky.graph.listitem",
        "app.bsky.graph.listblock",
        "app.bsky.graph.starterpack",
        "app.bsky.graph.verification",
        "app.bsky.feed.generator",
        "app.bsky.feed.threadgate",
        "app.bsky.feed.postgate",
        "app.bsky.labeler.service",
        "app.bsky.actor.status",
        "fm.teal.alpha.feed.play",
    ] {
        assert!(n_ops.contains_key(rare), "no {rare} in {n_ops:?}");
    }
}

#[test]
fn deletes_and_updates_are_of_records_that_exist() {
    let mut alive: HashSet<String> = HashSet::new();
    let (mut n_deletes, mut n_updates) = (0, 0);
    for event in events(3, 20_000) {
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        for op in ops(&event) {
            let uri = format!(
                "at://{}/{}",
                data["repo"].as_str().expect("a repo"),
                op["path"].as_str().expect("a path")
            );
            match op["action"].as_str() {
                Some("create") => drop(alive.insert(uri)),
                Some("update") => {
                    n_updates += 1;
                    assert!(alive.contains(&uri), "an update of {uri}");
                }
                _ => {
                    n_deletes += 1;
                    assert!(alive.remove(&uri), "a delete of {uri}");
                }
            }
        }
    }
    assert!(
        n_deletes > 800 && n_updates > 30,
        "{n_deletes} deletes, {n_updates} updates"
    );
}

#[test]
fn identifiers_have_their_canonical_form() {
    for event in events(4, 3000) {
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        let did = data["repo"].as_str().or(data["did"].as_str()).expect("a DID");
        assert!(did.starts_with("did:plc:") && did.len() == 32, "{did}");
        for op in ops(&event).iter().filter(|op| op["action"] != "delete") {
            let cid = op["cid"].as_str().expect("a CID");
            assert!(cid.starts_with("bafyrei") && cid.len() == 59, "{cid}");
            assert!(
                op["record"]["createdAt"].as_str().is_some_and(|time| time.len() == 24),
                "{op}"
            );
            assert_eq!(op["record"]["$type"], json!(collection(op)), "{op}");
        }
    }
    let blob = cid(Codec::Raw, &digest(&[b"x"]));
    assert!(blob.starts_with("bafkrei") && blob.len() == 59, "{blob}");
}

#[test]
fn facets_cover_exactly_their_text() {
    let mut n_facets = 0;
    for op in events(5, 20_000).iter().flat_map(ops) {
        let text = op["record"]["text"].as_str().unwrap_or_default();
        for facet in op["record"]["facets"].as_array().into_iter().flatten() {
            let offset = |name: &str| facet["index"][name].as_u64().and_then(|n| usize::try_from(n).ok());
            let range = offset("byteStart").expect("a start")..offset("byteEnd").expect("an end");
            let covered = text.get(range).unwrap_or_else(|| panic!("{facet} cuts {text:?}"));
            let feature = &facet["features"][0];
            let first = match feature["$type"].as_str() {
                Some("app.bsky.richtext.facet#mention") => covered.starts_with('@'),
                Some("app.bsky.richtext.facet#tag") => covered.strip_prefix('#') == feature["tag"].as_str(),
                _ => covered.contains("example"),
            };
            assert!(first, "{facet} covers {covered:?}");
            n_facets += 1;
        }
    }
    assert!(n_facets > 400, "{n_facets} facets");
}

#[test]
fn events_read_from_a_file_plain_or_compressed_are_those_that_were_written() {
    let events = events(6, 500);
    let lines: Vec<String> = events.iter().map(file::line).collect();
    let dir = scratch::directory("events");
    let (plain, compressed) = (dir.join("events.jsonl"), dir.join("events.jsonl.gz"));
    fs::write(&plain, lines.join("\n")).expect("writing the file");
    let mut encoder = GzEncoder::new(File::create(&compressed).expect("a file"), Compression::fast());
    encoder
        .write_all(lines.join("\n").as_bytes())
        .expect("writing the file");
    encoder.finish().expect("writing the file");
    for path in [&plain, &compressed] {
        let read = file::read(path)
            .expect("opening the file")
            .map(|event| event.expect("a line"));
        assert_eq!(read.collect::<Vec<Event>>(), events, "{}", path.display());
    }
}

#[test]
fn the_second_dialect_is_that_of_the_python_sdk() {
    let blob =
        json!({"$type": "blob", "ref": {"$link": cid(Codec::Raw, &[0xab; 32])}, "mimeType": "image/png", "size": 9});
    let image = json!({"alt": "", "image": blob, "aspectRatio": {"height": 3, "width": 4}});
    let record = json!({
        "$type": "app.bsky.feed.post", "createdAt": "2026-01-01T00:00:00.180Z", "text": "é😀", "langs": ["en"],
        "embed": {"$type": "app.bsky.embed.images", "images": [image]},
        "clientName": {"madeWith": "x"},
    });
    let wanted = json!({
        "$type": "app.bsky.feed.post", "py_type": "app.bsky.feed.post", "created_at": "2026-01-01T00:00:00.180Z",
        "text": "é😀", "langs": ["en"], "entities": null, "facets": null, "labels": null, "reply": null, "tags": null,
        "embed": {"py_type": "app.bsky.embed.images", "images": [{
            "py_type": "app.bsky.embed.images#image", "alt": "",
            "aspect_ratio": {"height": 3, "width": 4, "py_type": "app.bsky.embed.defs#aspectRatio"},
            "image": {"py_type": "blob", "mime_type": "image/png", "size": 9,
                "ref": format!("01551220{}", "ab".repeat(32))},
        }]},
        "clientName": {"madeWith": "x"},
    });
    assert_eq!(sdk_dialect::convert_record(record), Some(wanted));
    assert_eq!(
        sdk_dialect::convert_record(json!({"$type": "fm.teal.alpha.feed.play"})),
        None
    );
    assert_eq!(
        sdk_dialect::python_json(&json!({"é😀": [1, "\n"]})).ok().as_deref(),
        Some(r#"{"\u00e9\ud83d\ude00": [1, "\n"]}"#)
    );
}

#[test]
fn the_second_dialect_knows_every_member_that_is_made_up() {
    for event in events(9, 20_000) {
        let text = sdk_dialect::convert(&event.kind, &event.data).expect("JSON");
        let left = [
            "createdAt",
            "displayName",
            "$link",
            "mimeType",
            "byteStart",
            "labelValues",
            "embeddingRules",
        ];
        let known = !ops(&event).iter().any(|op| {
            op["record"]["$type"]
                .as_str()
                .is_none_or(|t| !t.starts_with("app.bsky."))
        });
        for member in left.iter().filter(|_| known) {
            assert!(!text.contains(&format!("\"{member}\"")), "{member} in {text}");
        }
    }
}
