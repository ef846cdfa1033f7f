//! The forms in which a CID arrives, blobs in all of them, and embeds whose blobs lack one.

use serde_json::{Value, json};

use crate::records::*;
use crate::support::{Stack, entries};

/// The SHA-256 multihash of `AVATAR` with its digest in this form.
fn multihash(digest: Value) -> Value {
    json!({"code": 85, "version": 1, "multihash": {"code": 18, "size": 32, "digest": digest}})
}

/// Every form of a blob whose CID is `AVATAR`, with a name.
fn blob_forms() -> Vec<(&'static str, Value)> {
    let typed = |reference: Value| json!({"$type": "blob", "ref": reference, "mimeType": "image/png", "size": 12345});
    let numbered: serde_json::Map<String, Value> = AVATAR_DIGEST
        .iter()
        .enumerate()
        .map(|(n, byte)| (n.to_string(), json!(byte)))
        .collect();
    vec![
        ("link", typed(json!({"$link": AVATAR}))),
        ("text", typed(json!(AVATAR))),
        ("slash", typed(json!({"/": AVATAR}))),
        ("hex", typed(json!(AVATAR_HEX))),
        ("digest array", typed(multihash(json!(AVATAR_DIGEST)))),
        ("digest object", typed(multihash(Value::Object(numbered)))),
        (
            "sdk",
            json!({"mime_type": "image/png", "size": 12345, "ref": AVATAR_HEX, "py_type": "blob"}),
        ),
    ]
}

#[test]
fn an_avatar_in_any_form_becomes_the_text_of_its_cid_and_a_blob_with_a_link() {
    let stack = Stack::new("cid_avatar_forms");
    let mut expected = Expected::none();
    for (name, form) in blob_forms() {
        let did = entries::did(name);
        let profile = Record::new(&did, PROFILE, "self", json!({"$type": PROFILE, "avatar": form}));
        profile.create(&stack);
        let record = json!({"$type": PROFILE, "avatar": blob(AVATAR, "image/png")});
        expected = expected.row(
            "users",
            with(user_row(&did), json!({"avatar_url": AVATAR, "profile_record": record})),
        );
    }
    stack.drain();
    expected.assert(&stack);
}

#[test]
fn an_old_avatar_becomes_the_text_of_its_cid() {
    let stack = Stack::new("cid_avatar_old");
    let forms = [
        json!(AVATAR),
        json!({"cid": AVATAR, "mimeType": "image/png"}),
        json!({"ref": {"$link": AVATAR}}),
    ];
    for (form, n) in forms.into_iter().zip(0..) {
        generator(ALICE, &format!("g{n}"))
            .with(json!({"avatar": form}))
            .create(&stack);
    }
    stack.drain();
    let found: Vec<Value> = stack
        .rows("feed_generators")
        .iter()
        .map(|row| row["avatar_url"].clone())
        .collect();
    assert_eq!(found, [AVATAR; 3]);
}

#[test]
fn an_avatar_without_a_cid_is_null() {
    let stack = Stack::new("cid_avatar_none");
    let forms = [
        json!({}),
        json!(5),
        json!([]),
        json!({"$type": "blob", "mimeType": "image/png", "size": 1}),
    ];
    for (form, n) in forms.iter().zip(0..) {
        list(ALICE, &format!("l{n}"))
            .with(json!({"avatar": form}))
            .create(&stack);
    }
    stack.drain();
    let found: Vec<Value> = stack
        .rows("lists")
        .iter()
        .map(|row| row["avatar_url"].clone())
        .collect();
    assert_eq!(found, vec![Value::Null; forms.len()]);
}

#[test]
fn an_avatar_that_is_a_url_or_other_text_is_null_in_every_table() {
    let stack = Stack::new("cid_avatar_address");
    let forms = [
        json!("http://example.org/a.png"),
        json!("https://example.org/a.png"),
        json!("undefined"),
        json!("bafkrei"),
        json!({"$link": "https://example.org/a.png"}),
        json!({"$type": "blob", "ref": {"$link": "https://example.org/a.png"}, "mimeType": "image/png", "size": 1}),
        json!({"$type": "blob", "ref": "https://example.org/a.png"}),
        json!({"cid": "https://example.org/a.png", "mimeType": "image/png"}),
    ];
    for (form, n) in forms.iter().zip(0..) {
        let pictures = json!({"avatar": form, "banner": form});
        profile(&entries::did(&n.to_string()))
            .with(pictures.clone())
            .create(&stack);
        list(ALICE, &format!("l{n}")).with(pictures.clone()).create(&stack);
        generator(ALICE, &format!("g{n}")).with(pictures).create(&stack);
    }
    stack.drain();
    let stored = "SELECT coalesce(avatar_url, banner_url) AS picture FROM users
        UNION ALL SELECT avatar_url FROM lists
        UNION ALL SELECT avatar_url FROM feed_generators";
    let rows = stack.query(stored);
    assert_eq!(rows, vec![json!({"picture": null}); 3 * forms.len() + 1]);
}

fn images(images: Value) -> Value {
    json!({"$type": "app.bsky.embed.images", "images": images})
}

/// Stores one post per embed and answers the embeds that are stored, in the same order.
fn stored_embeds(name: &str, embeds: &[Value]) -> Vec<Value> {
    let stack = Stack::new(name);
    for (embed, n) in embeds.iter().zip(0..) {
        post(ALICE, &format!("p{n:02}"), "look")
            .with(json!({"embed": embed}))
            .create(&stack);
    }
    stack.drain();
    stack.assert_all_acknowledged();
    let rows = stack.query("SELECT embed FROM posts ORDER BY uri");
    assert_eq!(rows.len(), embeds.len(), "posts stored");
    rows.iter().map(|row| row["embed"].clone()).collect()
}

#[test]
fn an_image_in_any_form_becomes_a_blob_with_a_link() {
    let forms = blob_forms();
    let embeds: Vec<Value> = forms
        .iter()
        .map(|(_, form)| images(json!([{"alt": "", "image": form}])))
        .collect();
    let expected = images(json!([{"alt": "", "image": blob(AVATAR, "image/png")}]));
    for (stored, (name, _)) in stored_embeds("cid_image_forms", &embeds).iter().zip(&forms) {
        assert_eq!(*stored, expected, "{name}");
    }
}

#[test]
fn an_old_image_becomes_a_blob_with_a_link() {
    let old = json!({"cid": IMAGE, "mimeType": "image/jpeg"});
    let stored = stored_embeds("cid_image_old", &[images(json!([{"alt": "old", "image": old}]))]);
    let image = &stored[0]["images"][0]["image"];
    assert_eq!(image["$type"], "blob", "{image}");
    assert_eq!(image["ref"], json!({"$link": IMAGE}), "{image}");
    assert_eq!(image["mimeType"], "image/jpeg", "{image}");
    assert_eq!(image.get("cid"), None, "{image}");
}

#[test]
fn images_without_a_cid_are_dropped_and_the_embed_with_the_last_of_them() {
    let good = json!({"alt": "good", "image": blob(IMAGE, "image/jpeg")});
    let bad = json!({"alt": "bad", "image": {"$type": "blob", "mimeType": "image/jpeg", "size": 1}});
    let stored = stored_embeds(
        "cid_image_none",
        &[
            images(json!([bad, good])),
            images(json!([bad])),
            images(json!([])),
            images(json!([{"alt": "none"}])),
        ],
    );
    assert_eq!(stored, [images(json!([good])), Value::Null, Value::Null, Value::Null]);
}

#[test]
fn an_embed_type_with_main_is_stored_under_its_plain_name() {
    let stack = Stack::new("cid_embed_main");
    let quoted = post(BOB, "q", "quoted");
    let typed = |name: &str| json!(format!("app.bsky.embed.{name}#main"));
    let record = json!({"$type": typed("record"), "record": strong_ref(&quoted)});
    let image = json!({"alt": "good", "image": blob(IMAGE, "image/jpeg")});
    let media =
        json!({"$type": typed("images"), "images": [image, {"alt": "bad", "image": {"$type": "blob", "size": 1}}]});
    let both = json!({"$type": typed("recordWithMedia"), "record": record, "media": media});
    let plain_record = json!({"$type": "app.bsky.embed.record", "record": strong_ref(&quoted)});
    let plain_media = images(json!([image]));
    let cases = [
        (record, plain_record.clone(), true),
        (media.clone(), plain_media.clone(), false),
        (
            both,
            json!({"$type": "app.bsky.embed.recordWithMedia", "record": plain_record, "media": plain_media}),
            true,
        ),
    ];
    let mut expected = Expected::none().users(&[ALICE]);
    for ((embed, stored, quotes), n) in cases.into_iter().zip(1..) {
        let post = post(ALICE, &format!("p{n}"), "look").with(json!({"embed": embed}));
        post.create(&stack);
        expected = expected.post_with(&post, n, json!({"embed": stored}));
        if quotes {
            expected = expected
                .row("quotes", quote_row(&post, &quoted))
                .row("notifications", quote_notification(&post, BOB));
        }
    }
    stack.drain();
    expected.counts(&quoted, json!({"quote_count": 2})).assert(&stack);
}

#[test]
fn a_quote_whose_media_vanishes_is_a_plain_quote() {
    let stack = Stack::new("cid_media_none");
    let quoted = post(BOB, "q", "quoted");
    let record = json!({"$type": "app.bsky.embed.record", "record": strong_ref(&quoted)});
    let embed = json!({"$type": "app.bsky.embed.recordWithMedia", "record": record, "media": images(json!([]))});
    let quote = post(ALICE, "p", "look").with(json!({"embed": embed}));
    quote.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&quote, 1, json!({"embed": record}))
        .counts(&quoted, json!({"quote_count": 1}))
        .row("quotes", quote_row(&quote, &quoted))
        .row("notifications", quote_notification(&quote, BOB))
        .assert(&stack);
}

#[test]
fn thumbnails_without_a_cid_are_dropped() {
    let external = |thumb: Option<Value>| {
        let mut external = json!({"uri": "https://example.com", "title": "t", "description": "d"});
        thumb.into_iter().for_each(|thumb| external["thumb"] = thumb);
        json!({"$type": "app.bsky.embed.external", "external": external})
    };
    let video = |thumbnail: Option<Value>| {
        let mut embed = json!({"$type": "app.bsky.embed.video", "video": blob(IMAGE, "video/mp4")});
        thumbnail
            .into_iter()
            .for_each(|thumbnail| embed["thumbnail"] = thumbnail);
        embed
    };
    let beside = |media: Value| {
        let quoted = strong_ref(&post(BOB, "q", "quoted"));
        let record = json!({"$type": "app.bsky.embed.record", "record": quoted});
        json!({"$type": "app.bsky.embed.recordWithMedia", "record": record, "media": media})
    };
    let bad = Some(json!({"$type": "blob", "mimeType": "image/jpeg", "size": 1}));
    let good = Some(blob(BANNER, "image/jpeg"));
    let embeds = [
        external(bad.clone()),
        external(good.clone()),
        video(bad.clone()),
        video(good.clone()),
        beside(external(bad)),
        beside(video(good)),
    ];
    let expected = [
        external(None),
        embeds[1].clone(),
        video(None),
        embeds[3].clone(),
        beside(external(None)),
        embeds[5].clone(),
    ];
    assert_eq!(stored_embeds("cid_thumbnails", &embeds), expected);
}

#[test]
fn embeds_of_other_types_are_kept_as_they_are() {
    let quoted = json!({"$type": "app.bsky.embed.record", "record": strong_ref(&generator(BOB, "g"))});
    let unknown = json!({"$type": "com.example.embed.poll", "options": ["a", {"b": [1, 2]}], "open_until": 5});
    assert_eq!(
        stored_embeds("cid_other_types", &[quoted.clone(), unknown.clone()]),
        [quoted, unknown]
    );
}
