//! A handle belongs to one user: the one to which the stream assigned it last.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{identity, user_with_handle};
use crate::records::*;
use crate::support::{Stack, entries};

/// The handle of every user.
fn handles(stack: &Stack) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let users = stack.rows("users");
    users
        .iter()
        .map(|user| (text(&user["did"]), text(&user["handle"])))
        .collect()
}

#[test]
fn a_handle_that_moves_leaves_its_old_user_without_one() {
    let stack = Stack::new("handle_moves");
    let profile = profile(ALICE);
    profile.create(&stack);
    identity(&stack, ALICE, json!("moves.example"));
    identity(&stack, CAROL, json!("carol.example"));
    stack.drain();
    identity(&stack, BOB, json!("Moves.Example"));
    stack.drain();
    let all = || {
        Expected::none()
            .row("users", profile_row(&profile))
            .row("users", user_with_handle(BOB, "moves.example"))
            .row("users", user_with_handle(CAROL, "carol.example"))
    };
    all().assert(&stack);
    stack.redeliver();
    stack.drain();
    all().assert(&stack);
}

#[test]
fn a_handle_that_is_given_twice_at_once_belongs_to_whom_it_was_given_last() {
    let stack = Stack::new("handle_twice");
    let dids: Vec<String> = (0..40).map(|n| entries::did(&format!("user {n}"))).collect();
    for did in &dids {
        identity(&stack, did, json!("shared.example"));
    }
    stack.drain();
    for (did, handle) in handles(&stack) {
        let is_last = Some(&did) == dids.last();
        let expected = if is_last { "shared.example" } else { "handle.invalid" };
        assert_eq!(handle, expected, "{did}, and the last is {:?}", dids.last());
    }
}

#[test]
fn users_that_swap_handles_keep_one_each_in_any_number_of_batches() {
    let stack = Stack::new("handle_swap");
    let swap = |first: &str, second: &str| {
        identity(&stack, ALICE, json!(first));
        identity(&stack, BOB, json!(second));
    };
    let (x, y) = ("x.example", "y.example");
    swap(x, y);
    stack.drain();
    swap(y, x);
    stack.drain();
    assert_eq!(
        handles(&stack),
        [(ALICE, y), (BOB, x)].map(|(a, b)| (a.into(), b.into())).into()
    );
    swap(x, y);
    swap(y, x);
    swap(x, y);
    stack.drain();
    assert_eq!(
        handles(&stack),
        [(ALICE, x), (BOB, y)].map(|(a, b)| (a.into(), b.into())).into()
    );
}

#[test]
fn a_handle_that_its_new_user_gives_up_does_not_return_to_the_old_one() {
    let stack = Stack::new("handle_given_up");
    identity(&stack, ALICE, json!("moves.example"));
    identity(&stack, BOB, json!("moves.example"));
    identity(&stack, BOB, json!("bob.example"));
    stack.drain();
    let expected = [(ALICE, "handle.invalid"), (BOB, "bob.example")];
    assert_eq!(handles(&stack), expected.map(|(a, b)| (a.into(), b.into())).into());
}

#[test]
fn duplicates_of_older_versions_go_when_the_handle_is_given_again() {
    let stack = Stack::new("handle_older");
    stack.sql(&format!(
        "INSERT INTO users (did, handle) VALUES ('{ALICE}', 'old.example'), ('{BOB}', 'old.example'),
             ('{CAROL}', 'handle.invalid')"
    ));
    identity(&stack, DAVE, json!("old.example"));
    identity(&stack, CAROL, json!("handle.invalid"));
    stack.drain();
    let mut owners = handles(&stack);
    owners.retain(|_, handle| handle != "handle.invalid");
    assert_eq!(owners, [(DAVE.to_owned(), "old.example".to_owned())].into());
}

#[test]
fn many_workers_that_give_the_same_handles_away_leave_each_with_its_last_user() {
    let stack = Stack::new("handle_workers");
    let mut last = BTreeMap::new();
    for n in 0..3000_usize {
        let did = entries::did(&format!("user {}", n % 97));
        let handle = format!("name{}.example", n % 31);
        identity(&stack, &did, json!(handle));
        last.retain(|_, user| *user != did);
        last.insert(handle, did);
    }
    stack.drain_with(&[("PARALLEL_CONSUMERS", "8"), ("MAX_BATCH_ENTRIES", "40")]);
    stack.assert_all_acknowledged();
    let owners = handles(&stack)
        .into_iter()
        .filter(|(_, handle)| handle != "handle.invalid");
    let owners: Vec<(String, String)> = owners.map(|(did, handle)| (handle, did)).collect();
    let by_handle: BTreeMap<String, String> = owners.iter().cloned().collect();
    assert_eq!(by_handle.len(), owners.len(), "a handle has two users: {owners:?}");
    assert_eq!(by_handle, last);
}
