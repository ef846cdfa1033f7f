//! Makes a post's embed safe for the AppView's readers.
//!
//! Owns what the readers rely on. They dereference `images[].image.ref.$link` without a check, so an image without a
//! CID is not stored. They know the types of embeds by their plain names, so the equivalent `…#main` is stored as the
//! plain name. Expects a record that `dialect` has normalised.

use std::borrow::Cow;

use super::json::{Json, Member, member_mut, type_of};
use super::{cid, dialect};

/// The record quoted by an embed.
#[derive(Clone, Debug, PartialEq)]
pub struct Quoted<'a> {
    pub uri: Cow<'a, str>,
    pub cid: Option<Cow<'a, str>>,
}

const RECORD: &str = "app.bsky.embed.record";
const RECORD_WITH_MEDIA: &str = "app.bsky.embed.recordWithMedia";

/// The part of an embed that is stored, or `None` if nothing remains.
pub fn sanitise(mut embed: Json) -> Option<Json> {
    let Json::Object(members) = &mut embed else {
        return None;
    };
    name_plainly(members);
    if let Some(Json::Object(record)) = member_mut(members, "record") {
        name_plainly(record);
    }
    match type_of(members) {
        Some("app.bsky.embed.external") => {
            if let Some(Json::Object(external)) = member_mut(members, "external") {
                drop_without_cid(external, "thumb");
            }
        }
        Some("app.bsky.embed.images") => {
            let Some(Json::Array(images)) = member_mut(members, "images") else {
                return None;
            };
            images.retain_mut(|image| match image {
                Json::Object(members) => member_mut(members, "image").is_some_and(make_blob),
                _ => false,
            });
            if images.is_empty() {
                return None;
            }
        }
        Some("app.bsky.embed.video") => drop_without_cid(members, "thumbnail"),
        Some(RECORD_WITH_MEDIA) => return sanitise_media(embed),
        _ => {}
    }
    Some(embed)
}

/// Removes `#main` from the type's name.
fn name_plainly(members: &mut [Member]) {
    if let Some(Json::String(name)) = member_mut(members, "$type")
        && let Some(plain) = name.strip_suffix("#main")
    {
        *name = Cow::Owned(plain.to_owned());
    }
}

/// Sanitises a record with media. If none of the media remains, the embed becomes a plain record.
fn sanitise_media(mut embed: Json) -> Option<Json> {
    let Json::Object(members) = &mut embed else {
        return None;
    };
    let media = member_mut(members, "media").map(|media| std::mem::replace(media, Json::Null));
    if let Some(media) = media.and_then(sanitise) {
        if let Some(place) = member_mut(members, "media") {
            *place = media;
        }
        return Some(embed);
    }
    let record = embed.get("record").and_then(|record| record.get("record")).cloned()?;
    Some(Json::Object(vec![
        (Cow::Borrowed("$type"), Json::String(Cow::Borrowed(RECORD))),
        (Cow::Borrowed("record"), record),
    ]))
}

/// The record quoted by a sanitised embed.
pub fn quoted<'a>(embed: &Json<'a>) -> Option<Quoted<'a>> {
    let record = match embed.str("$type")?.as_ref() {
        RECORD => embed.get("record")?,
        RECORD_WITH_MEDIA => embed.get("record")?.get("record")?,
        _ => return None,
    };
    Some(Quoted {
        uri: record.str("uri")?.clone(),
        cid: record.get("cid").and_then(cid::text),
    })
}

fn drop_without_cid(members: &mut Vec<Member>, name: &str) {
    members.retain_mut(|(key, value)| key != name || make_blob(value));
}

/// Rewrites a blob, or a bare CID, in the lexicon's form. Returns whether it has a CID.
fn make_blob(value: &mut Json) -> bool {
    if let Json::String(_) = value {
        let Some(cid) = cid::of_blob(value) else {
            return false;
        };
        *value = Json::Object(vec![(Cow::Borrowed("ref"), Json::String(cid))]);
    }
    match value {
        Json::Object(members) => dialect::rewrite_blob(members),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    fn sanitised(text: &str) -> Option<serde_json::Value> {
        let embed = sanitise(json::parse(text).unwrap())?;
        Some(serde_json::from_str(&embed.to_text()).unwrap())
    }

    fn json(text: &str) -> Option<serde_json::Value> {
        Some(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn images_without_a_cid_are_left_out_and_an_embed_without_images_too() {
        let image = r#"{"alt":"a","image":{"$type":"blob","ref":{"$link":"bafkrei"}}}"#;
        let images = |list: &str| format!(r#"{{"$type":"app.bsky.embed.images","images":[{list}]}}"#);
        assert_eq!(
            sanitised(&images(&format!(r#"{image},{{"alt":"b","image":{{}}}},{{"alt":"c"}}"#))),
            json(&images(image))
        );
        assert_eq!(sanitised(&images(r#"{"alt":"c"}"#)), None);
        assert_eq!(sanitised(&images("")), None);
    }

    #[test]
    fn a_bare_cid_becomes_a_blob() {
        assert_eq!(
            sanitised(
                r#"{"$type":"app.bsky.embed.images","images":[
                    {"image":"bafkreiaaaeambqibia4ewedqbalicqmcpqacaaabaibqibaeaucagcainq"},
                    {"image":{"ref":"bafkreia","size":1}}]}"#
            ),
            json(
                r#"{"$type":"app.bsky.embed.images","images":[
                    {"image":{"$type":"blob","ref":{"$link":"bafkreiaaaeambqibia4ewedqbalicqmcpqacaaabaibqibaeaucagcainq"}}},
                    {"image":{"$type":"blob","ref":{"$link":"bafkreia"},"size":1}}]}"#
            )
        );
    }

    #[test]
    fn a_url_in_place_of_a_cid_is_dropped() {
        for image in [
            r#""https://example.org/a.png""#,
            r#"{"$type":"blob","ref":{"$link":"https://example.org/a.png"}}"#,
            r#"{"cid":"https://example.org/a.png","mimeType":"image/png"}"#,
        ] {
            let embed = format!(r#"{{"$type":"app.bsky.embed.images","images":[{{"image":{image}}}]}}"#);
            assert_eq!(sanitised(&embed), None, "{image}");
            let embed = format!(r#"{{"$type":"app.bsky.embed.external","external":{{"uri":"u","thumb":{image}}}}}"#);
            assert_eq!(
                sanitised(&embed),
                json(r#"{"$type":"app.bsky.embed.external","external":{"uri":"u"}}"#),
                "{image}"
            );
        }
    }

    #[test]
    fn the_type_of_an_embed_is_its_plain_name_wherever_it_stands() {
        for plain in [
            r#"{"$type":"app.bsky.embed.images","images":[{"image":{"$type":"blob","ref":{"$link":"bafkrei"}}}]}"#,
            r#"{"$type":"app.bsky.embed.external","external":{"uri":"u"}}"#,
            r#"{"$type":"app.bsky.embed.video","video":{"size":1}}"#,
            r#"{"$type":"app.bsky.embed.record","record":{"$type":"com.atproto.repo.strongRef","uri":"at://x"}}"#,
            r#"{"$type":"app.bsky.embed.recordWithMedia","media":{"$type":"app.bsky.embed.video"},
                "record":{"$type":"app.bsky.embed.record","record":{"uri":"at://x"}}}"#,
        ] {
            let long = plain
                .replace(r#"","#, r#"#main","#)
                .replace(r#"video"}"#, r#"video#main"}"#);
            assert_ne!(sanitised(&long), None, "{long}");
            assert_eq!(sanitised(&long), json(plain), "{long}");
            let embed = |text| sanitise(json::parse(text).unwrap()).unwrap();
            assert_eq!(quoted(&embed(&long)), quoted(&embed(plain)), "{long}");
        }
    }

    #[test]
    fn what_an_embed_of_a_long_name_lacks_is_left_out_all_the_same() {
        assert_eq!(
            sanitised(r#"{"$type":"app.bsky.embed.images#main","images":[{"image":{"$type":"blob","size":1}}]}"#),
            None
        );
        assert_eq!(
            sanitised(
                r#"{"$type":"app.bsky.embed.recordWithMedia#main","record":{"record":{"uri":"at://x"}},
                    "media":{"$type":"app.bsky.embed.images#main","images":[{"image":{}}]}}"#
            ),
            json(r#"{"$type":"app.bsky.embed.record","record":{"uri":"at://x"}}"#)
        );
    }

    #[test]
    fn thumbs_without_a_cid_are_left_out() {
        assert_eq!(
            sanitised(r#"{"$type":"app.bsky.embed.external","external":{"uri":"u","thumb":{"size":1}}}"#),
            json(r#"{"$type":"app.bsky.embed.external","external":{"uri":"u"}}"#)
        );
        assert_eq!(
            sanitised(r#"{"$type":"app.bsky.embed.video","video":{"size":1},"thumbnail":{}}"#),
            json(r#"{"$type":"app.bsky.embed.video","video":{"size":1}}"#)
        );
    }

    #[test]
    fn a_record_whose_media_vanishes_is_a_plain_record() {
        let text = r#"{"$type":"app.bsky.embed.recordWithMedia","record":{"record":{"uri":"at://x","cid":"c"}},
            "media":{"$type":"app.bsky.embed.images","images":[]}}"#;
        let plain = r#"{"$type":"app.bsky.embed.record","record":{"uri":"at://x","cid":"c"}}"#;
        assert_eq!(sanitised(text), json(plain));
        let embed = sanitise(json::parse(text).unwrap()).unwrap();
        assert_eq!(quoted(&embed).unwrap().uri, "at://x");
    }

    #[test]
    fn other_embeds_are_kept_and_non_objects_are_dropped() {
        let other = r#"{"$type":"com.example.embed","images":[]}"#;
        assert_eq!(sanitised(other), json(other));
        assert_eq!(sanitised("[]"), None);
        assert_eq!(sanitised("\"x\""), None);
    }
}
