//! Users rows that the AppView deletes: a later op of the user creates the row again, with the handle and profile from
//! the stream.

use std::time::Duration;

use serde_json::json;

use super::{identity, user_with_handle};
use crate::records::*;
use crate::support::Stack;
use crate::support::wait::{equal, wait_until, wait_until_within};

/// Deletes all users while the worker runs, after it has met them.
fn with_pruned_users(name: &str, push: impl Fn(&Stack)) -> Stack {
    let stack = Stack::new(name);
    let worker = stack.worker().spawn();
    follow(ALICE, "f", BOB).create(&stack);
    wait_for(&stack, 1);
    stack.sql("DELETE FROM users");
    push(&stack);
    wait_for(&stack, 2);
    drop(worker);
    stack
}

fn wait_for(stack: &Stack, n: i64) {
    wait_until("the entries are acknowledged", || equal(stack.acknowledged(), n));
}

#[test]
fn an_identity_event_of_a_user_that_was_deleted_makes_the_user_again() {
    let stack = with_pruned_users("pruned_identity", |stack| {
        identity(stack, ALICE, json!("alice.example"))
    });
    assert_eq!(stack.rows("users"), [user_with_handle(ALICE, "alice.example")]);
}

#[test]
fn a_profile_of_a_user_that_was_deleted_makes_the_user_again() {
    let profile = profile(ALICE);
    let stack = with_pruned_users("pruned_profile", |stack| _ = profile.create(stack));
    assert_eq!(stack.rows("users"), [profile_row(&profile)]);
}

#[test]
fn a_deleted_profile_of_a_deleted_user_creates_no_user() {
    let stack = with_pruned_users("pruned_no_profile", |stack| _ = profile(ALICE).delete(stack));
    assert_eq!(stack.count("users"), 0);
}

#[test]
fn users_are_looked_for_anew_over_a_new_connection() {
    let stack = with_pruned_users("pruned_failover", |stack| {
        stack.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name <> 'test harness'",
        );
        follow(ALICE, "f", BOB).update(stack);
    });
    assert_eq!(stack.count("users"), 2);
}

/// Takes as long as a worker may take a row for granted, so that it runs with all long tests only.
#[test]
#[ignore = "slow; tests/run.sh --all runs it"]
fn actors_and_subjects_that_were_deleted_are_made_again_within_a_minute() {
    let stack = Stack::new("pruned_met");
    let worker = stack.worker().spawn();
    follow(ALICE, "f", BOB).create(&stack);
    wait_for(&stack, 1);
    stack.sql("DELETE FROM users");
    wait_until_within("both are there again", Duration::from_secs(70), || {
        follow(ALICE, "f", BOB).update(&stack);
        equal(stack.count("users"), 2)
    });
    drop(worker);
}
