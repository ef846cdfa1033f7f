//! Thread gates and post gates: rows of the post with the same rkey in the gate's own repo.

use serde_json::{Value, json};

use crate::records::*;
use crate::support::Stack;

// Thread gates

fn rule(name: &str) -> Value {
    json!({"$type": format!("app.bsky.feed.threadgate#{name}")})
}

fn list_rule(list: &Record) -> Value {
    json!({"$type": "app.bsky.feed.threadgate#listRule", "list": list.uri()})
}

#[test]
fn a_thread_gate_is_a_row_of_its_post_and_makes_no_user() {
    Life {
        record: thread_gate(ALICE, "p", json!([])),
        updated: thread_gate(ALICE, "p", json!([rule("followingRule")])).with(json!({"createdAt": LATER})),
        other: thread_gate(ALICE, "q", json!([])),
        rows: |gate, _| vec![("thread_gates", thread_gate_row(gate))],
        changes: json!({"allow_following": true}),
        kept: json!({}),
        indexed_at: IndexedAt::Absent,
        users: &[],
        users_later: &[],
    }
    .run(&Stack::new("threadgate"));
}

#[test]
fn a_thread_gate_becomes_a_row_that_names_each_rule() {
    let stack = Stack::new("threadgate_create");
    let (first, second) = (list(ALICE, "one"), list(ALICE, "two"));
    let allow = json!([
        rule("mentionRule"),
        list_rule(&first),
        rule("followerRule"),
        list_rule(&second)
    ]);
    let gate = thread_gate(ALICE, "p", allow).with(json!({"hiddenReplies": [uri(BOB, POST, "rude")]}));
    gate.create(&stack);
    stack.drain();
    let columns = json!({
        "allow_mentions": true, "allow_list_members": true, "allow_list_uris": [first.uri(), second.uri()],
    });
    Expected::none()
        .row("thread_gates", with(thread_gate_row(&gate), columns))
        .assert(&stack);
}

#[test]
fn a_thread_gate_with_an_empty_list_is_a_row_and_one_without_a_list_is_not() {
    let stack = Stack::new("threadgate_allow");
    let nobody = thread_gate(ALICE, "nobody", json!([]));
    let everybody = thread_gate(ALICE, "everybody", json!([])).without("allow");
    nobody.create(&stack);
    everybody.create(&stack);
    stack.drain();
    Expected::none()
        .row("thread_gates", thread_gate_row(&nobody))
        .assert(&stack);
}

#[test]
fn an_update_that_opens_a_thread_removes_the_gate() {
    let stack = Stack::new("threadgate_opened");
    let gate = thread_gate(ALICE, "p", json!([]));
    gate.create(&stack);
    stack.drain();
    gate.without("allow").update(&stack);
    stack.drain();
    Expected::none().assert(&stack);
}

#[test]
fn a_gate_belongs_to_the_post_of_its_own_repo_and_rkey_whatever_it_names() {
    let stack = Stack::new("gates_of_others");
    let others = json!({"post": uri(BOB, POST, "victim")});
    let thread_gate = thread_gate(ALICE, "p", json!([])).with(others.clone());
    let post_gate = post_gate(ALICE, "p", &[uri(CAROL, POST, "q")]).with(others);
    thread_gate.create(&stack);
    post_gate.create(&stack);
    stack.drain();
    Expected::none()
        .row("thread_gates", thread_gate_row(&thread_gate))
        .row(
            "post_gates",
            post_gate_row(&post_gate, json!({"detachedEmbeddingUris": [uri(CAROL, POST, "q")]})),
        )
        .assert(&stack);
}

// Post gates

#[test]
fn a_post_gate_is_a_row_of_its_post_and_makes_no_user() {
    let detached = [uri(BOB, POST, "q"), uri(CAROL, POST, "q")];
    Life {
        record: post_gate(ALICE, "p", &detached),
        updated: post_gate(ALICE, "p", &detached[1..]).with(json!({"createdAt": LATER})),
        other: post_gate(ALICE, "q", &detached[..1]),
        rows: |gate, _| {
            let rules = json!({"detachedEmbeddingUris": gate.value["detachedEmbeddingUris"]});
            vec![("post_gates", post_gate_row(gate, rules))]
        },
        changes: json!({}),
        kept: json!({}),
        indexed_at: IndexedAt::Absent,
        users: &[],
        users_later: &[],
    }
    .run(&Stack::new("postgate"));
}

#[test]
fn a_post_gate_that_forbids_embedding_has_a_disable_rule() {
    let stack = Stack::new("postgate_disable");
    let rule = json!({"$type": "app.bsky.feed.postgate#disableRule"});
    let gate = post_gate(ALICE, "p", &[])
        .without("detachedEmbeddingUris")
        .with(json!({"embeddingRules": [rule]}));
    gate.create(&stack);
    stack.drain();
    // The rule's column is a text without a defined format.
    let rows = stack.rows("post_gates");
    let rule = rows.first().map(|row| &row["embedding_rules"]["disableRule"]);
    assert!(rule.is_some_and(Value::is_string), "no disableRule in {rows:?}");
}

#[test]
fn a_deleted_post_gate_is_removed_and_its_post_stays() {
    let stack = Stack::new("postgate_delete");
    let post = post(ALICE, "p", "hello");
    let gate = post_gate(ALICE, "p", &[uri(BOB, POST, "q")]);
    post.create(&stack);
    gate.create(&stack);
    stack.drain();
    gate.delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE]).post(&post, 1).assert(&stack);
}
