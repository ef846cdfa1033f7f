//! Profiles, identity and account events, records of collections without a table; labels, opt-out, handles that move
//! and users that the AppView deletes in files of their own.
//!
//! Each test compares the whole database, so what a test does not name must not be there.

mod handles;
mod labels;
mod opt_out;
mod pruned;

use serde_json::{Value, json};

use crate::records::*;
use crate::support::Stack;

pub(super) fn identity(stack: &Stack, did: &str, handle: Value) {
    stack.push("identity", json!({"did": did, "handle": handle}));
}

pub(super) fn user_with_handle(did: &str, handle: &str) -> Value {
    with(user_row(did), json!({"handle": handle}))
}

// Profiles

#[test]
fn a_profile_becomes_the_columns_of_its_user() {
    let stack = Stack::new("profile_create");
    let profile = profile(ALICE);
    profile.create(&stack);
    stack.drain();
    Expected::none().row("users", profile_row(&profile)).assert(&stack);
}

#[test]
fn an_updated_profile_clears_absent_fields_and_keeps_the_handle() {
    let stack = Stack::new("profile_update");
    identity(&stack, ALICE, json!("alice.example"));
    profile(ALICE).create(&stack);
    stack.drain();
    let value = json!({"$type": PROFILE, "displayName": "Other", "createdAt": LATER});
    let after = Record::new(ALICE, PROFILE, "self", value);
    after.update(&stack);
    stack.drain();
    let columns = json!({"display_name": "Other", "profile_record": after.value});
    Expected::none()
        .row("users", with(user_with_handle(ALICE, "alice.example"), columns))
        .assert(&stack);
}

#[test]
fn a_repeated_profile_changes_nothing() {
    let stack = Stack::new("profile_repeat");
    let profile = profile(ALICE);
    for _ in 0..2 {
        profile.create(&stack);
        stack.drain();
    }
    Expected::none().row("users", profile_row(&profile)).assert(&stack);
}

#[test]
fn a_deleted_profile_leaves_the_user_with_its_handle() {
    let stack = Stack::new("profile_delete");
    identity(&stack, ALICE, json!("alice.example"));
    let profile = profile(ALICE);
    profile.create(&stack);
    stack.drain();
    profile.delete(&stack);
    stack.drain();
    Expected::none()
        .row("users", user_with_handle(ALICE, "alice.example"))
        .assert(&stack);
}

#[test]
fn empty_texts_of_a_profile_are_null() {
    let stack = Stack::new("profile_empty");
    let value = json!({"$type": PROFILE, "displayName": "", "description": ""});
    let profile = Record::new(ALICE, PROFILE, "self", value);
    profile.create(&stack);
    stack.drain();
    Expected::none()
        .row("users", with(user_row(ALICE), json!({"profile_record": profile.value})))
        .assert(&stack);
}

#[test]
fn a_profile_of_another_rkey_than_self_is_ignored() {
    let stack = stack_with_user("profile_rkey", ALICE);
    Record::new(ALICE, PROFILE, "other", profile(ALICE).value).create(&stack);
    stack.drain();
    Expected::none().users(&[ALICE]).assert(&stack);
}

#[test]
fn records_about_a_user_leave_profile_and_handle_unchanged() {
    let stack = Stack::new("profile_kept");
    identity(&stack, ALICE, json!("alice.example"));
    let profile = profile(ALICE);
    profile.create(&stack);
    stack.drain();
    let follow = follow(BOB, "f", ALICE);
    let post = post(ALICE, "p", "hello");
    follow.create(&stack);
    post.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[BOB])
        .row("users", with(profile_row(&profile), json!({"handle": "alice.example"})))
        .follow(&follow, 3)
        .post(&post, 4)
        .assert(&stack);
}

// Identity and account events

#[test]
fn an_identity_event_makes_a_user_with_its_handle_in_lower_case() {
    let stack = Stack::new("identity_create");
    identity(&stack, ALICE, json!("Alice.Example"));
    stack.drain();
    Expected::none()
        .row("users", user_with_handle(ALICE, "alice.example"))
        .assert(&stack);
}

#[test]
fn an_identity_event_sets_the_handle_of_a_user_and_touches_no_other() {
    let stack = Stack::new("identity_update");
    identity(&stack, ALICE, json!("alice.example"));
    identity(&stack, BOB, json!("bob.example"));
    let profile = profile(ALICE);
    profile.create(&stack);
    stack.drain();
    identity(&stack, ALICE, json!("other.example"));
    stack.drain();
    Expected::none()
        .row("users", with(profile_row(&profile), json!({"handle": "other.example"})))
        .row("users", user_with_handle(BOB, "bob.example"))
        .assert(&stack);
}

#[test]
fn an_identity_event_may_set_the_invalid_handle() {
    let stack = Stack::new("identity_invalid");
    identity(&stack, ALICE, json!("alice.example"));
    stack.drain();
    identity(&stack, ALICE, json!("handle.invalid"));
    stack.drain();
    Expected::none().users(&[ALICE]).assert(&stack);
}

#[test]
fn a_repeated_identity_event_changes_nothing() {
    let stack = Stack::new("identity_repeat");
    for _ in 0..2 {
        identity(&stack, ALICE, json!("alice.example"));
        stack.drain();
    }
    Expected::none()
        .row("users", user_with_handle(ALICE, "alice.example"))
        .assert(&stack);
}

#[test]
fn an_identity_event_without_a_handle_changes_nothing() {
    let stack = Stack::new("identity_no_handle");
    identity(&stack, ALICE, json!("alice.example"));
    stack.drain();
    identity(&stack, ALICE, Value::Null);
    identity(&stack, ALICE, json!(""));
    identity(&stack, ALICE, json!(ALICE));
    identity(&stack, ALICE, json!(ALICE.to_uppercase()));
    identity(&stack, ALICE, json!(5));
    stack.push("identity", json!({"did": ALICE}));
    stack.drain();
    Expected::none()
        .row("users", user_with_handle(ALICE, "alice.example"))
        .assert(&stack);
    assert_counted(&stack, "identity", 7);
}

#[test]
fn an_invalid_handle_changes_nothing_and_creates_no_user() {
    let stack = Stack::new("identity_bad_handle");
    identity(&stack, ALICE, json!("alice.example"));
    let others = [
        "@alice.example",
        " alice.example ",
        "al ice.example",
        "alice..example",
        ".example",
        "alice.example.",
        "-.example",
        "b\u{fc}cher.example",
        "\u{130}stanbul.example",
        "al\u{202e}ice.example",
    ];
    for other in others {
        identity(&stack, ALICE, json!(other));
        identity(&stack, BOB, json!(other));
    }
    stack.drain();
    Expected::none()
        .row("users", user_with_handle(ALICE, "alice.example"))
        .assert(&stack);
    assert_counted(&stack, "identity", 21);
}

#[test]
fn an_account_event_is_counted_and_changes_nothing() {
    let stack = Stack::new("account");
    let post = post(ALICE, "p", "hello");
    post.create(&stack);
    stack.push("account", json!({"did": ALICE, "active": false}));
    stack.push("account", json!({"did": BOB, "active": true}));
    stack.drain();
    Expected::none().users(&[ALICE]).post(&post, 1).assert(&stack);
    assert_counted(&stack, "account", 2);
}

/// `n` entries of `kind` were counted, and nothing was an error.
fn assert_counted(stack: &Stack, kind: &str, n: i64) {
    for key in ["firehose:metrics", "cluster:metrics"] {
        let counters = stack.metrics(key);
        assert_eq!(counters.get(&format!("#{kind}")), Some(&n), "{key}: {counters:?}");
        assert_eq!(counters.get("errors").copied().unwrap_or(0), 0, "{key}: {counters:?}");
    }
}

// Records of collections without a table

#[test]
fn a_record_of_an_unknown_collection_is_kept_as_it_came() {
    let value = json!({"$type": "com.example.notes.other", "other": [true], "createdAt": LATER});
    Life {
        record: custom(ALICE, "n", "note"),
        updated: Record::new(ALICE, CUSTOM, "n", value),
        other: custom(ALICE, "o", "other"),
        rows: |record, _| vec![("generic_records", generic_row(record))],
        changes: json!({"record_type": "com.example.notes.other"}),
        kept: json!({}),
        indexed_at: IndexedAt::Kept,
        users: &[],
        users_later: &[],
    }
    .run(&Stack::new("generic"));
}

#[test]
fn a_record_at_the_nesting_limit_is_stored_and_a_deeper_one_becomes_a_dead_letter() {
    let stack = Stack::new("generic_deep");
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (rkey, depth) in [("deep", 130), ("deeper", 980), ("deepest", 2000)] {
        // Built from texts, since the JSON of these tests goes no deeper than 128.
        let op = custom(ALICE, rkey, "instead").op("create").to_string();
        let op = op.replace("\"instead\"", &nested(depth));
        let data = format!(r#"{{"repo":"{ALICE}","ops":[{op}]}}"#);
        stack.push_fields(&[("type", b"commit"), ("data", data.as_bytes()), ("seq", b"1")]);
    }
    stack.drain();
    let lengths = "SELECT length(replace((record -> 'title')::text, ' ', '')) AS n FROM generic_records ORDER BY uri";
    assert_eq!(stack.query(lengths), [json!({"n": 260}), json!({"n": 1960})]);
    let letters = stack.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(
        letters[0]["error"].contains("nested more than 1000 levels"),
        "{letters:?}"
    );
}

#[test]
fn the_type_of_a_generic_record_is_its_own_and_else_its_collection() {
    let stack = Stack::new("generic_type");
    let other = custom(ALICE, "other", "note").with(json!({"$type": "com.example.notes.other"}));
    let none = custom(ALICE, "none", "note").without("$type");
    other.create(&stack);
    none.create(&stack);
    stack.drain();
    Expected::none()
        .row(
            "generic_records",
            with(generic_row(&other), json!({"record_type": "com.example.notes.other"})),
        )
        .row("generic_records", generic_row(&none))
        .assert(&stack);
}

#[test]
fn status_and_notification_declaration_have_no_table_at_all() {
    let stack = Stack::new("no_table");
    for collection in ["app.bsky.actor.status", "app.bsky.notification.declaration"] {
        let record = Record::new(
            ALICE,
            collection,
            "self",
            json!({"$type": collection, "createdAt": CREATED}),
        );
        record.create(&stack);
        record.update(&stack);
        record.delete(&stack);
    }
    stack.drain();
    Expected::none().assert(&stack);
    assert_counted(&stack, "commit", 6);
}
