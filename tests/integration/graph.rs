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
fn a_follow_of_oneself_is_a_row_without_a_notification() {
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
fn a_block_becomes_a_row_and_both_users_and_notifies_nobody() {
    let stack = Stack::new("block_create");
    let block = block(ALICE, "b", BOB);
    block.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB])
        .row("blocks", block_row(&block, 1))
        .assert(&stack);
}

#[test]
fn a_deleted_block_is_gone_and_the_users_stay() {
    let stack = Stack::new("block_delete");
    let (gone, kept) = (block(ALICE, "b", BOB), block(CAROL, "b", BOB));
    gone.create(&stack);
    kept.create(&stack);
    stack.drain();
    gone.delete(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB, CAROL])
        .row("blocks", block_row(&kept, 2))
        .assert(&stack);
}

#[test]
fn a_repeated_block_changes_nothing() {
    let stack = Stack::new("block_repeat");
    let block = block(ALICE, "b", BOB);
    for _ in 0..2 {
        block.create(&stack);
        stack.drain();
    }
    any_seq_of_equals(&stack, "blocks", 1);
    Expected::none()
        .users(&[ALICE, BOB])
        .row("blocks", block_row(&block, 1))
        .assert(&stack);
}

#[test]
fn an_updated_block_moves_to_the_other_person() {
    let stack = Stack::new("block_update");
    block(ALICE, "b", BOB).create(&stack);
    stack.drain();
    let after = block(ALICE, "b", CAROL).with(json!({"createdAt": LATER}));
    after.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB, CAROL])
        .row("blocks", block_row(&after, 2))
        .assert(&stack);
}

// Verifications

#[test]
fn a_verification_becomes_a_row_and_its_creator_only() {
    let stack = Stack::new("verification_create");
    let verification = verification(ALICE, "v", BOB);
    verification.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .row("verifications", verification_row(&verification))
        .assert(&stack);
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

#[test]
fn an_updated_verification_is_what_the_update_says() {
    let stack = Stack::new("verification_update");
    verification(ALICE, "v", BOB).create(&stack);
    stack.drain();
    let after = verification(ALICE, "v", CAROL).with(json!({"handle": "carol.example", "createdAt": LATER}));
    after.update(&stack);
    stack.drain();
    let columns = json!({"handle": "carol.example"});
    Expected::none()
        .users(&[ALICE])
        .row("verifications", with(verification_row(&after), columns))
        .assert(&stack);
}

#[test]
fn a_repeated_verification_changes_nothing() {
    let stack = Stack::new("verification_repeat");
    let verification = verification(ALICE, "v", BOB);
    for _ in 0..2 {
        verification.create(&stack);
        stack.drain();
    }
    Expected::none()
        .users(&[ALICE])
        .row("verifications", verification_row(&verification))
        .assert(&stack);
}

#[test]
fn a_deleted_verification_is_gone() {
    let stack = Stack::new("verification_delete");
    let (gone, kept) = (verification(ALICE, "v", BOB), verification(ALICE, "w", CAROL));
    gone.create(&stack);
    kept.create(&stack);
    stack.drain();
    gone.delete(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .row("verifications", verification_row(&kept))
        .assert(&stack);
}
