//! Follows, blocks and verifications; lists with what refers to them in a file of their own.
//!
//! Each test compares the whole database, so what a test does not name must not be there.

mod lists;

use serde_json::json;

use crate::records::*;
use crate::support::Stack;

// Follows

#[test]
fn a_follow_becomes_a_row_both_users_and_a_notification() {
    let stack = Stack::new("follow_create");
    let follow = follow(ALICE, "f", BOB);
    follow.create(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, BOB]).follow(&follow, 1).assert(&stack);
}

#[test]
fn an_unfollow_takes_back_row_and_notification_and_keeps_the_users() {
    let stack = Stack::new("follow_delete");
    let (gone, kept) = (follow(ALICE, "f", BOB), follow(CAROL, "f", BOB));
    gone.create(&stack);
    kept.create(&stack);
    stack.drain();
    gone.delete(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB, CAROL])
        .follow(&kept, 2)
        .assert(&stack);
}

#[test]
fn a_repeated_follow_changes_nothing() {
    let stack = Stack::new("follow_repeat");
    let follow = follow(ALICE, "f", BOB);
    follow.create(&stack);
    stack.drain();
    stack.sql("UPDATE notifications SET is_read = true");
    follow.create(&stack);
    follow.update(&stack);
    stack.drain();
    any_seq_of_equals(&stack, "follows", 1);
    let mut expected = Expected::none().users(&[ALICE, BOB]).follow(&follow, 1);
    expected.change("notifications", json!({"is_read": true}));
    expected.assert(&stack);
}

#[test]
fn an_updated_follow_moves_to_the_other_person() {
    let stack = Stack::new("follow_update");
    follow(ALICE, "f", BOB).create(&stack);
    stack.drain();
    let after = follow(ALICE, "f", CAROL).with(json!({"createdAt": LATER}));
    after.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB, CAROL])
        .follow(&after, 2)
        .assert(&stack);
}

#[test]
fn a_self_follow_is_a_row_without_a_notification() {
    let stack = Stack::new("follow_self");
    let follow = follow(ALICE, "f", ALICE);
    follow.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .row("follows", follow_row(&follow, 1))
        .assert(&stack);
}

// Blocks

#[test]
fn a_block_is_a_row_and_two_users_without_a_notification() {
    Life {
        record: block(ALICE, "b", BOB),
        updated: block(ALICE, "b", CAROL).with(json!({"createdAt": LATER})),
        other: block(CAROL, "b", BOB),
        rows: |block, seq| vec![("blocks", block_row(block, seq))],
        changes: json!({}),
        kept: json!({}),
        indexed_at: IndexedAt::Kept,
        users: &[ALICE, BOB],
        users_later: &[ALICE, BOB, CAROL],
    }
    .run(&Stack::new("block"));
}

// Verifications

#[test]
fn a_verification_is_a_row_and_its_creator_only() {
    Life {
        record: verification(ALICE, "v", BOB),
        updated: verification(ALICE, "v", CAROL).with(json!({"handle": "carol.example", "createdAt": LATER})),
        other: verification(ALICE, "w", DAVE),
        rows: |verification, _| vec![("verifications", verification_row(verification))],
        changes: json!({"handle": "carol.example"}),
        kept: json!({}),
        indexed_at: IndexedAt::Kept,
        users: &[ALICE],
        users_later: &[ALICE],
    }
    .run(&Stack::new("verification"));
}

#[test]
fn a_verification_with_a_time_and_no_handle_has_that_time_and_an_empty_handle() {
    let stack = Stack::new("verification_fields");
    let verification = verification(ALICE, "v", BOB)
        .without("handle")
        .with(json!({"verifiedAt": LATER}));
    verification.create(&stack);
    stack.drain();
    let columns = json!({"handle": "", "verified_at": LATER_ROW});
    Expected::none()
        .users(&[ALICE])
        .row("verifications", with(verification_row(&verification), columns))
        .assert(&stack);
}
