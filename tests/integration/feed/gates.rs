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
fn a_thread_gate_with_an_empty_list_allows_nobody_and_one_without_a_list_is_no_row() {
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
fn an_updated_thread_gate_is_what_the_update_says() {
    let stack = Stack::new("threadgate_update");
    let list = list(ALICE, "one");
    let before = thread_gate(ALICE, "p", json!([rule("mentionRule"), list_rule(&list)]));
    let after = thread_gate(ALICE, "p", json!([rule("followingRule")])).with(json!({"createdAt": LATER}));
    before.create(&stack);
    stack.drain();
    after.update(&stack);
    stack.drain();
    let columns = json!({"allow_following": true});
    Expected::none()
        .row("thread_gates", with(thread_gate_row(&after), columns))
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
fn a_repeated_thread_gate_changes_nothing() {
    let stack = Stack::new("threadgate_repeat");
    let gate = thread_gate(ALICE, "p", json!([]));
    for _ in 0..2 {
        gate.create(&stack);
        stack.drain();
    }
    Expected::none()
        .row("thread_gates", thread_gate_row(&gate))
        .assert(&stack);
}

#[test]
fn a_deleted_thread_gate_is_gone() {
    let stack = Stack::new("threadgate_delete");
    let (gone, kept) = (
        thread_gate(ALICE, "gone", json!([])),
        thread_gate(ALICE, "kept", json!([])),
    );
    gone.create(&stack);
    kept.create(&stack);
    stack.drain();
    gone.delete(&stack);
    stack.drain();
    Expected::none()
        .row("thread_gates", thread_gate_row(&kept))
        .assert(&stack);
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
fn a_post_gate_becomes_a_row_of_its_post() {
    let stack = Stack::new("postgate_create");
    let detached = [uri(BOB, POST, "q"), uri(CAROL, POST, "q")];
    let gate = post_gate(ALICE, "p", &detached);
    gate.create(&stack);
    stack.drain();
    Expected::none()
        .row(
            "post_gates",
            post_gate_row(&gate, json!({"detachedEmbeddingUris": detached})),
        )
        .assert(&stack);
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
    // The contract gives the rule's column a text and does not say which.
    let rows = stack.rows("post_gates");
    let rule = rows.first().map(|row| &row["embedding_rules"]["disableRule"]);
    assert!(rule.is_some_and(Value::is_string), "no disableRule in {rows:?}");
}

#[test]
fn an_updated_post_gate_is_what_the_update_says() {
    let stack = Stack::new("postgate_update");
    let before = post_gate(ALICE, "p", &[uri(BOB, POST, "q")]);
    let after = post_gate(ALICE, "p", &[uri(CAROL, POST, "q")]).with(json!({"createdAt": LATER}));
    before.create(&stack);
    stack.drain();
    after.update(&stack);
    stack.drain();
    let rules = json!({"detachedEmbeddingUris": [uri(CAROL, POST, "q")]});
    Expected::none()
        .row("post_gates", post_gate_row(&after, rules))
        .assert(&stack);
}

#[test]
fn a_repeated_post_gate_changes_nothing() {
    let stack = Stack::new("postgate_repeat");
    let gate = post_gate(ALICE, "p", &[uri(BOB, POST, "q")]);
    for _ in 0..2 {
        gate.create(&stack);
        stack.drain();
    }
    let rules = json!({"detachedEmbeddingUris": [uri(BOB, POST, "q")]});
    Expected::none()
        .row("post_gates", post_gate_row(&gate, rules))
        .assert(&stack);
}

#[test]
fn a_deleted_post_gate_is_gone_and_its_post_stays() {
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
