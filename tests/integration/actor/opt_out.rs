//! Users that forbid data collection.

use serde_json::json;

use super::{assert_counted, identity, user_with_handle};
use crate::records::*;
use crate::support::Stack;

/// A stack in which Alice has forbidden that her data be collected.
fn stack_without_consent(name: &str) -> Stack {
    let stack = stack_with_user(name, ALICE);
    forbid_collection(&stack, ALICE);
    stack
}

fn forbid_collection(stack: &Stack, did: &str) {
    stack.sql(&format!(
        "INSERT INTO user_settings (user_did, data_collection_forbidden) VALUES ('{did}', true)"
    ));
}

/// One record of Alice's in each collection that an opt-out covers.
fn records_covered() -> Vec<Record> {
    let subject = post(BOB, "p", "hello");
    let list = list(ALICE, "l");
    vec![
        reply(ALICE, "p", &subject, &subject),
        like(ALICE, "l", &subject),
        repost(ALICE, "r", &subject),
        bookmark(ALICE, "b", &subject),
        generator(ALICE, "g"),
        thread_gate(ALICE, "p", json!([])),
        post_gate(ALICE, "p", &[subject.uri()]),
        follow(ALICE, "f", BOB),
        block(ALICE, "b", BOB),
        list_item(ALICE, "i", &list, BOB),
        list_block(ALICE, "b", &list),
        starter_pack(ALICE, "s", &list, &[]),
        verification(ALICE, "v", BOB),
        list,
        profile(ALICE),
        labeler(ALICE),
        custom(ALICE, "c", "note"),
    ]
}

#[test]
fn no_record_of_an_opted_out_user_is_written() {
    let stack = stack_without_consent("opt_out");
    let records = records_covered();
    for record in &records {
        record.create(&stack);
        record.update(&stack);
    }
    stack.drain();
    // There is no row for Bob, whom some of the records name: the check for an opt-out precedes the creation of users.
    Expected::none().users(&[ALICE]).assert(&stack);
    assert_counted(
        &stack,
        "commit",
        2 * i64::try_from(records.len()).expect("a short list"),
    );
    assert!(stack.dead_letters().is_empty());
}

#[test]
fn deletes_and_identity_of_an_opted_out_user_still_apply() {
    let stack = Stack::new("opt_out_deletes");
    let records = records_covered();
    for record in &records {
        record.create(&stack);
    }
    stack.drain();
    forbid_collection(&stack, ALICE);
    for record in &records {
        record.delete(&stack);
    }
    identity(&stack, ALICE, json!("alice.example"));
    stack.drain();
    Expected::none()
        .users(&[BOB])
        .row("users", user_with_handle(ALICE, "alice.example"))
        .assert(&stack);
}

#[test]
fn an_update_after_an_opt_out_leaves_the_old_row() {
    let stack = Stack::new("opt_out_update");
    let post = post(ALICE, "p", "before");
    post.create(&stack);
    stack.drain();
    forbid_collection(&stack, ALICE);
    post.with(json!({"text": "after"})).update(&stack);
    stack.drain();
    Expected::none().users(&[ALICE]).post(&post, 1).assert(&stack);
}

#[test]
fn labels_of_and_actions_upon_an_opted_out_user_are_written() {
    let stack = stack_without_consent("opt_out_subject");
    let post = post(ALICE, "p", "hello");
    let (like, follow) = (like(BOB, "l", &post), follow(BOB, "f", ALICE));
    let label = label(ALICE, "l", &post.uri());
    for record in [&like, &follow, &label] {
        record.create(&stack);
    }
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB])
        .only_like(&like, &post, 1)
        .follow(&follow, 2)
        .row("labels", label_row(&label, &post.uri()))
        .row("label_events", label_event_row(&label))
        .assert(&stack);
}

#[test]
fn a_user_with_settings_but_no_opt_out_is_written() {
    let stack = stack_with_user("opt_out_not", ALICE);
    stack.sql(&format!("INSERT INTO user_settings (user_did) VALUES ('{ALICE}')"));
    let post = post(ALICE, "p", "hello");
    post.create(&stack);
    stack.drain();
    Expected::none().users(&[ALICE]).post(&post, 1).assert(&stack);
}

#[test]
fn an_update_that_opens_a_thread_after_an_opt_out_leaves_the_gate() {
    let stack = stack_with_user("opt_out_open_thread", ALICE);
    let gate = thread_gate(ALICE, "p", json!([]));
    gate.create(&stack);
    stack.drain();
    forbid_collection(&stack, ALICE);
    gate.without("allow").update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .row("thread_gates", thread_gate_row(&gate))
        .assert(&stack);
}

#[test]
fn a_delete_after_an_opt_out_brings_forth_no_record_that_waited_for_its_row() {
    let stack = Stack::new("opt_out_rival");
    let post = post(BOB, "p", "hello");
    let records = [
        like(ALICE, "a", &post),
        like(ALICE, "b", &post),
        verification(ALICE, "a", BOB),
        verification(CAROL, "b", BOB),
    ];
    // Of two actors' verifications the one that is applied first has the row.
    for records in records.chunks(3) {
        records.iter().for_each(|record| _ = record.create(&stack));
        stack.drain();
    }
    forbid_collection(&stack, ALICE);
    forbid_collection(&stack, CAROL);
    records[0].delete(&stack);
    records[2].delete(&stack);
    stack.drain();
    assert_eq!(stack.count("likes"), 0);
    assert_eq!(stack.count("verifications"), 0);
    let remembered = stack.query("SELECT uri FROM firehose_worker.rivals");
    assert!(remembered.is_empty(), "{remembered:?}");
    stack.assert_counters_equal_rows();
}
