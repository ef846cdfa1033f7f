//! Ops on records that a prune has deleted: no row is left of nothing, and all counts stay exact.

use super::{age, assert_exact, assert_rows_counted, count_rows, prune};
use crate::records::*;
use crate::support::Stack;

/// A post of a stranger with one of each row about it, pruned. Answers the records, the post first.
fn pruned(stack: &Stack) -> Vec<Record> {
    let subject = post(BOB, "p", "old");
    let parent = post(ALICE, "parent", "stays");
    let records = vec![
        subject.clone(),
        like(CAROL, "l", &subject),
        repost(CAROL, "r", &subject),
        bookmark(CAROL, "b", &subject),
        reply(DAVE, "a", &subject, &subject),
        quote(DAVE, "q", &subject),
        quote(BOB, "q", &parent),
        reply(BOB, "a", &parent, &parent),
    ];
    parent.create(stack);
    records.iter().for_each(|record| _ = record.create(stack));
    stack.drain();
    count_rows(stack);
    age(stack, "14 days");
    prune(stack, ALICE, &[]);
    assert_eq!(stack.count("posts"), 1, "the one of the local account");
    assert_rows_counted(stack);
    records
}

#[track_caller]
fn assert_only_the_parent_is_left(stack: &Stack) {
    for (table, n_rows) in [
        ("posts", 1),
        ("likes", 0),
        ("reposts", 0),
        ("bookmarks", 0),
        ("quotes", 0),
        ("feed_items", 1),
        ("post_aggregations", 1),
        ("post_viewer_states", 0),
        ("notifications", 0),
        ("firehose_worker.rivals", 0),
    ] {
        assert_eq!(stack.count(table), n_rows, "{table}");
    }
    assert_exact(stack);
    assert_rows_counted(stack);
}

#[test]
fn deletes_of_pruned_records_change_nothing() {
    let stack = Stack::new("prune_late_deletes");
    for record in pruned(&stack) {
        record.delete(&stack);
    }
    stack.drain();
    assert_only_the_parent_is_left(&stack);
}

#[test]
fn creates_that_are_delivered_again_make_records_that_go_with_the_next_prune() {
    let stack = Stack::new("prune_late_creates");
    let records = pruned(&stack);
    stack.redeliver();
    stack.drain();
    assert_exact(&stack);
    assert_rows_counted(&stack);
    assert_eq!(stack.count("likes"), 1);
    age(&stack, "14 days");
    prune(&stack, ALICE, &[]);
    assert_only_the_parent_is_left(&stack);
    drop(records);
}

#[test]
fn updates_of_pruned_records_make_records_that_go_with_the_next_prune() {
    let stack = Stack::new("prune_late_updates");
    for record in pruned(&stack) {
        record.update(&stack);
    }
    stack.drain();
    assert_exact(&stack);
    assert_rows_counted(&stack);
    age(&stack, "14 days");
    prune(&stack, ALICE, &[]);
    assert_only_the_parent_is_left(&stack);
}

#[test]
fn likes_of_a_pruned_post_that_come_late_leave_nothing_for_ever() {
    let stack = Stack::new("prune_late_likes");
    let subject = pruned(&stack).swap_remove(0);
    let late = [
        like(DAVE, "l", &subject),
        repost(DAVE, "r", &subject),
        bookmark(DAVE, "b", &subject),
        like(CAROL, "second", &subject),
    ];
    late.iter().for_each(|record| _ = record.create(&stack));
    stack.drain();
    assert_exact(&stack);
    prune(&stack, ALICE, &[]);
    assert_eq!(stack.count("likes"), 2, "young likes stay");
    late[3].delete(&stack);
    stack.drain();
    assert_exact(&stack);
    age(&stack, "14 days");
    prune(&stack, ALICE, &[]);
    assert_only_the_parent_is_left(&stack);
}
