//! Records written out by hand in both dialects.

use serde_json::{Value, json};

use crate::records::*;

/// One record in both dialects.
pub(super) struct Both {
    collection: &'static str,
    rkey: &'static str,
    pub(super) lexicon: Value,
    sdk: Value,
}

impl Both {
    pub(super) fn new(collection: &'static str, rkey: &'static str, lexicon: Value, sdk: Value) -> Self {
        Self {
            collection,
            rkey,
            lexicon,
            sdk,
        }
    }

    pub(super) fn record(&self) -> Record {
        Record::new(ALICE, self.collection, self.rkey, self.lexicon.clone())
    }

    /// The op with the record in the SDK's dialect. The CID is the record's own, so it is the same in both.
    pub(super) fn sdk_op(&self, action: &str) -> Value {
        json!({"action": action, "path": self.record().path(), "cid": self.record().cid, "record": self.sdk})
    }
}

fn sdk_blob(hex: &str, mime_type: &str) -> Value {
    json!({"mime_type": mime_type, "size": 12345, "ref": hex, "py_type": "blob"})
}

const STRONG_REF: &str = "com.atproto.repo.strongRef";

fn lexicon_ref(of: &Record) -> Value {
    json!({"$type": STRONG_REF, "uri": of.uri(), "cid": of.cid})
}

fn sdk_ref(of: &Record) -> Value {
    json!({"uri": of.uri(), "cid": of.cid, "py_type": STRONG_REF})
}

pub(super) fn image_post() -> Both {
    let lexicon = json!({
        "$type": POST, "text": "with an image", "langs": ["en"], "createdAt": CREATED,
        "embed": {
            "$type": "app.bsky.embed.images",
            "images": [{
                "$type": "app.bsky.embed.images#image", "alt": "", "image": blob(IMAGE, "image/jpeg"),
                "aspectRatio": {"$type": "app.bsky.embed.defs#aspectRatio", "height": 3, "width": 4},
            }],
        },
    });
    let sdk = json!({
        "created_at": CREATED, "text": "with an image",
        "embed": {
            "images": [{
                "alt": "", "image": sdk_blob(IMAGE_HEX, "image/jpeg"),
                "aspect_ratio": {"height": 3, "width": 4, "py_type": "app.bsky.embed.defs#aspectRatio"},
                "py_type": "app.bsky.embed.images#image",
            }],
            "py_type": "app.bsky.embed.images",
        },
        "entities": null, "facets": null, "labels": null, "langs": ["en"], "reply": null, "tags": null,
        "py_type": POST, "$type": POST,
    });
    Both::new(POST, "image", lexicon, sdk)
}

pub(super) fn reply_post() -> Both {
    let (parent, root) = (post(BOB, "p", "parent"), post(CAROL, "r", "root"));
    let lexicon = json!({
        "$type": POST, "text": "@bob hello", "langs": ["en"], "tags": ["one", "two"], "createdAt": CREATED,
        "reply": {"$type": "app.bsky.feed.post#replyRef", "parent": lexicon_ref(&parent), "root": lexicon_ref(&root)},
        "facets": [{
            "$type": "app.bsky.richtext.facet",
            "index": {"$type": "app.bsky.richtext.facet#byteSlice", "byteStart": 0, "byteEnd": 4},
            "features": [{"$type": "app.bsky.richtext.facet#mention", "did": BOB}],
        }],
    });
    let sdk = json!({
        "created_at": CREATED, "text": "@bob hello", "embed": null, "entities": null,
        "facets": [{
            "features": [{"did": BOB, "py_type": "app.bsky.richtext.facet#mention"}],
            "index": {"byte_end": 4, "byte_start": 0, "py_type": "app.bsky.richtext.facet#byteSlice"},
            "py_type": "app.bsky.richtext.facet",
        }],
        "labels": null, "langs": ["en"],
        "reply": {"parent": sdk_ref(&parent), "root": sdk_ref(&root), "py_type": "app.bsky.feed.post#replyRef"},
        "tags": ["one", "two"], "py_type": POST, "$type": POST,
    });
    Both::new(POST, "reply", lexicon, sdk)
}

fn quote_with_link_post() -> Both {
    let quoted = post(BOB, "q", "quoted");
    let lexicon = json!({
        "$type": POST, "text": "", "langs": ["en"], "createdAt": CREATED,
        "embed": {
            "$type": "app.bsky.embed.recordWithMedia",
            "record": {"$type": "app.bsky.embed.record", "record": lexicon_ref(&quoted)},
            "media": {
                "$type": "app.bsky.embed.external",
                "external": {
                    "$type": "app.bsky.embed.external#external", "uri": "https://example.com/a_page", "title": "t",
                    "description": "d", "thumb": blob(IMAGE, "image/png"),
                },
            },
        },
    });
    let sdk = json!({
        "created_at": CREATED, "text": "",
        "embed": {
            "media": {
                "external": {
                    "description": "d", "title": "t", "uri": "https://example.com/a_page",
                    "thumb": sdk_blob(IMAGE_HEX, "image/png"), "py_type": "app.bsky.embed.external#external",
                },
                "py_type": "app.bsky.embed.external",
            },
            "record": {"record": sdk_ref(&quoted), "py_type": "app.bsky.embed.record"},
            "py_type": "app.bsky.embed.recordWithMedia",
        },
        "entities": null, "facets": null, "labels": null, "langs": ["en"], "reply": null, "tags": null,
        "py_type": POST, "$type": POST,
    });
    Both::new(POST, "quote", lexicon, sdk)
}

fn video_post() -> Both {
    let lexicon = json!({
        "$type": POST, "text": "", "langs": ["en"], "createdAt": CREATED,
        "embed": {
            "$type": "app.bsky.embed.video", "video": blob(IMAGE, "video/mp4"),
            "captions": [{"$type": "app.bsky.embed.video#caption", "lang": "en", "file": blob(BANNER, "text/vtt")}],
        },
    });
    let sdk = json!({
        "created_at": CREATED, "text": "",
        "embed": {
            "video": sdk_blob(IMAGE_HEX, "video/mp4"), "alt": null, "aspect_ratio": null,
            "captions": [{
                "file": sdk_blob(BANNER_HEX, "text/vtt"), "lang": "en", "py_type": "app.bsky.embed.video#caption",
            }],
            "py_type": "app.bsky.embed.video",
        },
        "entities": null, "facets": null, "labels": null, "langs": ["en"], "reply": null, "tags": null,
        "py_type": POST, "$type": POST,
    });
    Both::new(POST, "video", lexicon, sdk)
}

fn like_and_repost() -> [Both; 2] {
    let subject = post(BOB, "p", "hello");
    let via = repost(CAROL, "r", &subject);
    let lexicon = |collection: &str| {
        json!({
            "$type": collection, "subject": lexicon_ref(&subject), "via": lexicon_ref(&via), "createdAt": CREATED,
        })
    };
    let sdk = |collection: &str| {
        json!({
            "created_at": CREATED, "subject": sdk_ref(&subject), "via": sdk_ref(&via), "py_type": collection,
            "$type": collection,
        })
    };
    [
        Both::new(LIKE, "l", lexicon(LIKE), sdk(LIKE)),
        Both::new(REPOST, "r", lexicon(REPOST), sdk(REPOST)),
    ]
}

fn feed_generator() -> Both {
    let lexicon = json!({
        "$type": GENERATOR, "did": "did:web:feeds.example", "displayName": "Cats", "createdAt": CREATED,
        "avatar": blob(AVATAR, "image/png"), "contentMode": "app.bsky.feed.defs#contentModeVideo",
    });
    let sdk = json!({
        "created_at": CREATED, "did": "did:web:feeds.example", "display_name": "Cats", "accepts_interactions": null,
        "avatar": sdk_blob(AVATAR_HEX, "image/png"), "content_mode": "app.bsky.feed.defs#contentModeVideo",
        "description": null, "description_facets": null, "labels": null, "py_type": GENERATOR, "$type": GENERATOR,
    });
    Both::new(GENERATOR, "g", lexicon, sdk)
}

fn gates() -> [Both; 3] {
    let (list, post_uri) = (list(BOB, "l"), uri(ALICE, POST, "p"));
    let rule = |name: &str| format!("app.bsky.feed.threadgate#{name}");
    let disable = "app.bsky.feed.postgate#disableRule";
    let thread_gate = Both::new(
        THREADGATE,
        "p",
        json!({
            "$type": THREADGATE, "post": post_uri, "createdAt": CREATED,
            "allow": [{"$type": rule("followingRule")}, {"$type": rule("listRule"), "list": list.uri()}],
        }),
        json!({
            "created_at": CREATED, "post": post_uri, "hidden_replies": null, "py_type": THREADGATE,
            "allow": [{"py_type": rule("followingRule")}, {"list": list.uri(), "py_type": rule("listRule")}],
            "$type": THREADGATE,
        }),
    );
    let open_thread = Both::new(
        THREADGATE,
        "open",
        json!({"$type": THREADGATE, "post": post_uri, "createdAt": CREATED}),
        json!({
            "created_at": CREATED, "post": post_uri, "hidden_replies": null, "allow": null, "py_type": THREADGATE,
            "$type": THREADGATE,
        }),
    );
    let post_gate = Both::new(
        POSTGATE,
        "p",
        json!({
            "$type": POSTGATE, "post": post_uri, "createdAt": CREATED, "embeddingRules": [{"$type": disable}],
            "detachedEmbeddingUris": [uri(BOB, POST, "q")],
        }),
        json!({
            "created_at": CREATED, "post": post_uri, "detached_embedding_uris": [uri(BOB, POST, "q")],
            "embedding_rules": [{"py_type": disable}], "py_type": POSTGATE, "$type": POSTGATE,
        }),
    );
    [thread_gate, open_thread, post_gate]
}

fn people() -> [Both; 2] {
    [FOLLOW, BLOCK].map(|collection| {
        Both::new(
            collection,
            "x",
            json!({"$type": collection, "subject": BOB, "createdAt": CREATED}),
            json!({"created_at": CREATED, "subject": BOB, "py_type": collection, "$type": collection}),
        )
    })
}

fn lists() -> [Both; 4] {
    let list = list(BOB, "l");
    let purpose = "app.bsky.graph.defs#modlist";
    let feed = uri(BOB, GENERATOR, "g");
    [
        Both::new(
            LIST,
            "l",
            json!({
                "$type": LIST, "name": "people", "purpose": purpose, "avatar": blob(AVATAR, "image/png"),
                "createdAt": CREATED,
            }),
            json!({
                "created_at": CREATED, "name": "people", "purpose": purpose, "description": null,
                "avatar": sdk_blob(AVATAR_HEX, "image/png"), "description_facets": null, "labels": null,
                "py_type": LIST, "$type": LIST,
            }),
        ),
        Both::new(
            LISTITEM,
            "i",
            json!({"$type": LISTITEM, "list": list.uri(), "subject": BOB, "createdAt": CREATED}),
            json!({
                "created_at": CREATED, "list": list.uri(), "subject": BOB, "py_type": LISTITEM, "$type": LISTITEM,
            }),
        ),
        Both::new(
            LISTBLOCK,
            "b",
            json!({"$type": LISTBLOCK, "subject": list.uri(), "createdAt": CREATED}),
            json!({"created_at": CREATED, "subject": list.uri(), "py_type": LISTBLOCK, "$type": LISTBLOCK}),
        ),
        Both::new(
            STARTERPACK,
            "s",
            json!({
                "$type": STARTERPACK, "name": "newcomers", "list": list.uri(), "createdAt": CREATED,
                "feeds": [{"$type": "app.bsky.graph.starterpack#feedItem", "uri": feed}],
            }),
            json!({
                "created_at": CREATED, "list": list.uri(), "name": "newcomers", "description": null,
                "description_facets": null, "py_type": STARTERPACK, "$type": STARTERPACK,
                "feeds": [{"uri": feed, "py_type": "app.bsky.graph.starterpack#feedItem"}],
            }),
        ),
    ]
}

/// A starter pack without feeds, which the SDK sends as an explicit null, and a verification.
fn nulls_and_verification() -> [Both; 2] {
    [
        Both::new(
            STARTERPACK,
            "empty",
            json!({"$type": STARTERPACK, "name": "alone", "list": list(BOB, "l").uri(), "createdAt": CREATED}),
            json!({
                "created_at": CREATED, "list": list(BOB, "l").uri(), "name": "alone", "description": null,
                "description_facets": null, "feeds": null, "py_type": STARTERPACK, "$type": STARTERPACK,
            }),
        ),
        Both::new(
            VERIFICATION,
            "v",
            json!({
                "$type": VERIFICATION, "subject": BOB, "handle": "bob.example", "displayName": "Bob",
                "createdAt": CREATED,
            }),
            json!({
                "created_at": CREATED, "display_name": "Bob", "handle": "bob.example", "subject": BOB,
                "py_type": VERIFICATION, "$type": VERIFICATION,
            }),
        ),
    ]
}

/// A profile with members that no lexicon knows, which keep their spelling in either dialect.
pub(super) fn whole_profile() -> Both {
    let pinned = post(ALICE, "pinned", "look");
    let lexicon = json!({
        "$type": PROFILE, "displayName": "Alice", "description": "me", "createdAt": CREATED,
        "avatar": blob(AVATAR, "image/png"), "banner": blob(BANNER, "image/jpeg"), "pinnedPost": lexicon_ref(&pinned),
        "labels": {
            "$type": "com.atproto.label.defs#selfLabels",
            "values": [{"$type": "com.atproto.label.defs#selfLabel", "val": "bot"}],
        },
        "favourite_colour": "red", "favouriteNumber": 7,
    });
    let sdk = json!({
        "avatar": sdk_blob(AVATAR_HEX, "image/png"), "banner": sdk_blob(BANNER_HEX, "image/jpeg"),
        "created_at": CREATED, "description": "me", "display_name": "Alice", "joined_via_starter_pack": null,
        "labels": {
            "values": [{"val": "bot", "py_type": "com.atproto.label.defs#selfLabel"}],
            "py_type": "com.atproto.label.defs#selfLabels",
        },
        "pinned_post": sdk_ref(&pinned), "favourite_colour": "red", "favouriteNumber": 7, "py_type": PROFILE,
        "$type": PROFILE,
    });
    Both::new(PROFILE, "self", lexicon, sdk)
}

fn whole_labeler() -> Both {
    let definition = "com.atproto.label.defs#labelValueDefinition";
    let strings = "com.atproto.label.defs#labelValueDefinitionStrings";
    let lexicon = json!({
        "$type": LABELER, "createdAt": CREATED,
        "policies": {
            "$type": "app.bsky.labeler.defs#labelerPolicies", "labelValues": ["rude"],
            "labelValueDefinitions": [{
                "$type": definition, "identifier": "rude", "blurs": "none", "severity": "inform",
                "adultOnly": false, "defaultSetting": "warn",
                "locales": [{"$type": strings, "lang": "en", "name": "Rude", "description": "not nice"}],
            }],
        },
    });
    let sdk = json!({
        "created_at": CREATED, "labels": null, "reason_types": null, "subject_collections": null,
        "subject_types": null, "py_type": LABELER, "$type": LABELER,
        "policies": {
            "label_values": ["rude"],
            "label_value_definitions": [{
                "blurs": "none", "identifier": "rude", "severity": "inform", "adult_only": false,
                "default_setting": "warn", "py_type": definition,
                "locales": [{"description": "not nice", "lang": "en", "name": "Rude", "py_type": strings}],
            }],
            "py_type": "app.bsky.labeler.defs#labelerPolicies",
        },
    });
    Both::new(LABELER, "self", lexicon, sdk)
}

pub(super) fn all_records() -> Vec<Both> {
    let mut records = vec![
        image_post(),
        reply_post(),
        quote_with_link_post(),
        video_post(),
        feed_generator(),
    ];
    records.extend([whole_profile(), whole_labeler()]);
    records.extend(like_and_repost());
    records.extend(gates());
    records.extend(people());
    records.extend(lists());
    records.extend(nulls_and_verification());
    records
}
