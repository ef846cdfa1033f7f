//! The lexicon's JSON and the Python SDK's dump of the same record become the same rows.
//!
//! Both versions of every record are written out by hand: the second has snake_case names, `py_type`, explicit nulls,
//! and the hex of a binary CID in its blobs. The first has every `$type`, also those that a client may leave out, so
//! that the rows must be equal to the letter.

mod records;

use serde_json::{Value, json};

use self::records::{Both, all_records, image_post, reply_post, whole_profile};
use crate::records::*;
use crate::support::{Stack, assert_same};

#[test]
fn both_dialects_of_every_record_become_the_same_rows() {
    let (lexicon, sdk) = (Stack::new("dialect_lexicon"), Stack::new("dialect_sdk"));
    for both in all_records() {
        both.record().create(&lexicon);
        sdk.push("commit", commit(ALICE, vec![both.sdk_op("create")]));
    }
    lexicon.drain();
    sdk.drain();
    sdk.assert_all_acknowledged();
    lexicon.assert_all_acknowledged();
    assert_same(&lexicon.snapshot(), &sdk.snapshot());
    assert_eq!(lexicon.count("posts"), 4);
    sdk.assert_counters_equal_rows();
}

#[test]
fn an_update_in_the_other_dialect_changes_nothing() {
    let stack = Stack::new("dialect_mixed");
    for both in all_records() {
        both.record().create(&stack);
    }
    stack.drain();
    let forget_seq = |stack: &Stack| {
        stack.snapshot().map(&[], |row| {
            row.as_object_mut().expect("a row is an object").remove("commit_seq");
        })
    };
    let before = forget_seq(&stack);
    for both in all_records() {
        stack.push("commit", commit(ALICE, vec![both.sdk_op("update")]));
    }
    stack.drain();
    assert_same(&before, &forget_seq(&stack));
}

#[test]
fn a_post_of_the_sdk_has_its_embed_in_the_form_that_readers_know() {
    let stack = Stack::new("dialect_embed");
    let both = image_post();
    stack.push("commit", commit(ALICE, vec![both.sdk_op("create")]));
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&both.record(), 1, json!({"embed": both.lexicon["embed"]}))
        .assert(&stack);
}

#[test]
fn a_reply_of_the_sdk_counts_and_notifies() {
    let stack = Stack::new("dialect_reply");
    let both = reply_post();
    stack.push("commit", commit(ALICE, vec![both.sdk_op("create")]));
    stack.drain();
    let (parent, root) = (post(BOB, "p", "parent"), post(CAROL, "r", "root"));
    let columns = json!({"facets": both.lexicon["facets"], "tags": ["one", "two"]});
    let reply = both.record();
    Expected::none()
        .users(&[ALICE])
        .post_with(&reply, 1, with(reply_columns(&parent, &root), columns))
        .counts(&parent, json!({"reply_count": 1}))
        .row("notifications", reply_notification(&reply, BOB))
        .row("notifications", mention_notification(&reply, BOB))
        .assert(&stack);
}

#[test]
fn a_profile_of_the_sdk_is_stored_as_lexicon_json() {
    let stack = Stack::new("dialect_profile");
    let both = whole_profile();
    stack.push("commit", commit(ALICE, vec![both.sdk_op("create")]));
    stack.drain();
    let columns = json!({"display_name": "Alice", "description": "me"});
    Expected::none()
        .row("users", with(profile_row(&both.record()), columns))
        .assert(&stack);
}

#[test]
fn nulls_of_a_known_collection_go_and_those_of_a_custom_record_stay() {
    let stack = Stack::new("dialect_nulls");
    let value = json!({"$type": PROFILE, "displayName": "Alice", "avatar": null, "labels": null, "extra": null});
    let profile = Record::new(ALICE, PROFILE, "self", value);
    let custom = custom(ALICE, "c", "note");
    profile.create(&stack);
    custom.create(&stack);
    stack.drain();
    let kept = json!({"$type": PROFILE, "displayName": "Alice"});
    Expected::none()
        .row(
            "users",
            with(
                user_row(ALICE),
                json!({"display_name": "Alice", "profile_record": kept}),
            ),
        )
        .row("generic_records", generic_row(&custom))
        .assert(&stack);
}

#[test]
fn a_record_of_the_sdk_without_a_table_of_its_own_is_kept_as_lexicon_json() {
    let collection = "chat.bsky.actor.declaration";
    let stack = Stack::new("dialect_generic");
    let lexicon = json!({"$type": collection, "allowIncoming": "all", "createdAt": CREATED});
    let sdk = json!({
        "allow_incoming": "all", "py_type": collection, "$type": collection, "createdAt": CREATED, "nothing": null,
    });
    let both = Both::new(collection, "self", lexicon, sdk);
    stack.push("commit", commit(ALICE, vec![both.sdk_op("create")]));
    stack.drain();
    Expected::none()
        .row("generic_records", generic_row(&both.record()))
        .assert(&stack);
}

#[test]
fn a_link_that_no_model_knows_is_a_link_in_both_dialects() {
    let stack = Stack::new("dialect_link");
    let post = |link: Value| {
        json!({"$type": POST, "text": AVATAR_HEX, "createdAt": CREATED, "tags": [AVATAR_HEX],
        "embed": {"$type": "com.example.embed", "source": link, "cid": AVATAR_HEX}})
    };
    let lexicon = post(json!({"$link": AVATAR}));
    let sdk = crate::sdk_dialect::convert_record(lexicon.clone()).expect("a post has a model");
    assert_eq!(sdk["embed"]["source"], AVATAR_HEX);
    for (rkey, record) in [("a", lexicon.clone()), ("b", sdk)] {
        Record::new(ALICE, POST, rkey, record).create(&stack);
    }
    stack.drain();
    let rows = stack.query("SELECT text, tags, embed FROM posts");
    assert_eq!(
        rows,
        vec![json!({"text": AVATAR_HEX, "tags": [AVATAR_HEX], "embed": lexicon["embed"]}); 2]
    );
}
