//! Entries that were read and never acknowledged: by this worker before it was killed, or by others that are gone.

use std::time::{Duration, Instant};

use redis::cmd;

use crate::generator::Events;
use crate::support::entries::{did, follow, post};
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{EVENTS, GROUP, Stack, assert_same, wait_until};

fn push_follows(stack: &Stack, n: usize) {
    for n in 0..n {
        stack.create(
            &did("alice"),
            &format!("app.bsky.graph.follow/{n}"),
            follow(&did(&format!("user {n}"))),
        );
    }
}

/// How many pending entries nobody has touched for so long.
fn n_idle(stack: &Stack, millis: u64) -> usize {
    let mut command = cmd("XPENDING");
    command
        .arg(EVENTS)
        .arg(GROUP)
        .arg("IDLE")
        .arg(millis)
        .arg("-")
        .arg("+")
        .arg(1000);
    command
        .query::<Vec<redis::Value>>(&mut stack.redis())
        .expect("XPENDING")
        .len()
}

#[test]
fn own_pending_entries_of_an_earlier_run_are_applied_at_start() {
    let stack = Stack::new("own_pending");
    push_follows(&stack, 20);
    stack.create_group();
    stack.read_and_abandon("worker-a", 15);
    // Nothing is taken over here: the time is not up.
    stack.drain_with(&[("CONSUMER_ID", "worker-a"), ("CLAIM_IDLE_MS", "600000")]);
    assert_eq!(stack.count("follows"), 20);
    assert_eq!(stack.metric("cluster:metrics", "totalEvents"), 20);
    stack.assert_all_acknowledged();
}

#[test]
fn own_pending_entries_come_before_newer_ones() {
    let stack = Stack::new("own_pending_first");
    stack.create(&did("alice"), "app.bsky.feed.post/1", post("to be deleted"));
    stack.create_group();
    stack.read_and_abandon("worker-a", 1);
    stack.delete(&did("alice"), "app.bsky.feed.post/1");
    stack.drain_with(&[("CONSUMER_ID", "worker-a"), ("CLAIM_IDLE_MS", "600000")]);
    assert_eq!(stack.count("posts"), 0);
    stack.assert_all_acknowledged();
}

#[test]
fn pending_entries_of_gone_consumers_are_taken_over_when_they_were_idle_long_enough() {
    let stack = Stack::new("claim_at_start");
    push_follows(&stack, 20);
    stack.create_group();
    stack.read_and_abandon("python-worker-0", 8);
    stack.read_and_abandon("python-worker-4", 8);
    wait_until("the entries have been idle for a second", || {
        equal(n_idle(&stack, 1000), 16)
    });
    stack.drain_with(&[("CLAIM_IDLE_MS", "1000")]);
    assert_eq!(stack.count("follows"), 20);
    assert_eq!(stack.metric("cluster:metrics", "totalEvents"), 20);
    stack.assert_all_acknowledged();
}

#[test]
fn pending_entries_of_a_gone_consumer_are_waited_for_at_start_until_they_were_idle_long_enough() {
    let stack = Stack::new("claim_after_a_wait");
    push_follows(&stack, 20);
    stack.create_group();
    stack.read_and_abandon("python-worker-0", 16);
    stack.drain_with(&[("CLAIM_IDLE_MS", "1000")]);
    assert_eq!(stack.count("follows"), 20);
    stack.assert_all_acknowledged();
}

#[test]
fn pending_entries_of_a_gone_consumer_come_before_newer_ones() {
    let stack = Stack::new("claim_first");
    stack.create(&did("alice"), "app.bsky.feed.post/1", post("to be deleted"));
    stack.create_group();
    stack.read_and_abandon("python-worker-0", 1);
    stack.delete(&did("alice"), "app.bsky.feed.post/1");
    stack.drain_with(&[("CLAIM_IDLE_MS", "1500")]);
    assert_eq!(
        stack.count("posts"),
        0,
        "the delete was applied before the create that was pending"
    );
    stack.assert_all_acknowledged();
}

#[test]
fn a_running_worker_takes_over_what_a_consumer_leaves_behind_later() {
    let stack = Stack::new("claim_later");
    push_follows(&stack, 1);
    let mut worker = stack.worker().env("CLAIM_IDLE_MS", "1000").spawn();
    wait_until("the worker runs", || equal(stack.count("follows"), 1));
    // An entry that only the other consumer can have read: claimed for it, as if it had been quicker.
    let id = stack.create(&did("alice"), "app.bsky.feed.post/1", post("left behind"));
    let claim_for_other = || {
        let mut command = cmd("XCLAIM");
        command
            .arg(EVENTS)
            .arg(GROUP)
            .arg("python-worker-0")
            .arg(0)
            .arg(&id)
            .arg("JUSTID")
            .arg("FORCE");
        command.exec(&mut stack.redis()).expect("XCLAIM");
    };
    wait_until("the worker has applied the entry", || equal(stack.count("posts"), 1));
    wait_until("the entry is acknowledged", || equal(stack.pending(), 0));
    claim_for_other();
    assert_eq!(stack.pending(), 1);
    let start = Instant::now();
    wait_until("the worker has taken the entry over", || equal(stack.pending(), 0));
    assert!(
        start.elapsed() > Duration::from_millis(900),
        "taken from a consumer that was not idle long enough"
    );
    worker.signal(libc::SIGTERM);
    worker.wait_exit(Duration::from_secs(10));
    assert_eq!(stack.count("posts"), 1, "{}", shown(&worker.log()));
}

#[test]
fn a_kill_loses_no_row_and_counts_no_row_twice() {
    let events: Vec<_> = Events::new(21, 12_000).collect();
    let stack = Stack::new("kill");
    let sent = stack.push_events(events.clone());
    let mut n_killed_while_busy = 0;
    while n_killed_while_busy < 4 && stack.count("posts") < 1500 {
        let before = stack.count("likes");
        let mut worker = stack.worker().env("CONSUMER_ID", "worker-a").spawn();
        wait_until("the worker has committed something", || stack.count("likes") > before);
        worker.kill();
        n_killed_while_busy += i32::from(stack.pending() > 0);
    }
    assert!(
        n_killed_while_busy > 0,
        "the worker was never killed while it had entries"
    );
    stack.drain_with(&[("CONSUMER_ID", "worker-a")]);
    stack.assert_all_acknowledged();
    stack.assert_counters_equal_rows();
    let counted = stack.metric("cluster:metrics", "totalEvents");
    assert!(counted <= sent.total, "{counted} events counted of {} sent", sent.total);

    let undisturbed = Stack::new("kill_undisturbed");
    undisturbed.push_events(events);
    undisturbed.drain();
    assert_same(&stack.snapshot(), &undisturbed.snapshot());
}
