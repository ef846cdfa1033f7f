//! Renewal of entries that are held for long, and the removal of a consumer that stops.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::cmd;

use crate::support::entries::{did, follow, post};
use crate::support::proxy::Proxy;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{EVENTS, GROUP, Stack, wait_until};

/// The consumers of the group, and how many entries are pending for each.
fn consumers(stack: &Stack) -> BTreeMap<String, i64> {
    let mut ask = cmd("XINFO");
    ask.arg("CONSUMERS").arg(EVENTS).arg(GROUP);
    let consumers: Vec<BTreeMap<String, String>> = ask.query(&mut stack.redis()).expect("XINFO CONSUMERS");
    let pending = |consumer: &BTreeMap<String, String>| consumer["pending"].parse().expect("a number");
    consumers
        .iter()
        .map(|consumer| (consumer["name"].clone(), pending(consumer)))
        .collect()
}

/// Milliseconds since the entry was delivered or claimed last; how often it was.
fn idle_and_deliveries(stack: &Stack, id: &str) -> (u64, u64) {
    let mut ask = cmd("XPENDING");
    ask.arg(EVENTS).arg(GROUP).arg(id).arg(id).arg(1);
    let answer: Vec<(String, String, u64, u64)> = ask.query(&mut stack.redis()).expect("XPENDING");
    let (_, _, idle, deliveries) = answer.first().expect("the entry is pending");
    (*idle, *deliveries)
}

#[test]
fn entries_that_a_live_worker_holds_for_long_are_renewed() {
    const IDLE_MS: u64 = 8000;
    let stack = Stack::new("renewal");
    let spawn = |name: &str| {
        let worker = stack.worker().env("CONSUMER_ID", name);
        worker.env("CLAIM_IDLE_MS", &IDLE_MS.to_string()).spawn()
    };
    let mut lock = stack.database.client();
    let mut lock = lock.transaction().expect("a transaction");
    let id = stack.create(&did("alice"), "app.bsky.feed.post/1", post("behind a lock"));
    lock.batch_execute("lock table posts").expect("the lock");
    let holding = spawn("worker-a");
    wait_until("the entry is held", || equal(stack.pending(), 1));
    let other = spawn("worker-b");
    // Without a renewal its idle time only grows; each time it falls, it has been renewed.
    let (mut last, mut n_renewals) = (0, 0);
    wait_until("the entry was renewed twice", || {
        let (idle, _) = idle_and_deliveries(&stack, &id);
        n_renewals += u32::from(idle < last);
        last = idle;
        match n_renewals >= 2 {
            true => Ok(()),
            false => Err(format!("renewed {n_renewals} times; {}", shown(&holding.log()))),
        }
    });
    assert_eq!(consumers(&stack)["worker-a"], 1, "{}", shown(&other.log()));
    assert_eq!(idle_and_deliveries(&stack, &id).1, 1, "a renewal counts as a delivery");
    lock.rollback().expect("the lock goes");
    wait_until("the entry is acknowledged and counted", || {
        let counted = stack.metric("cluster:metrics", "totalEvents");
        equal((stack.pending(), counted, stack.count("posts")), (0, 1, 1))
    });
}

#[test]
fn the_consumer_is_removed_at_a_stop_that_leaves_nothing_pending_and_only_then() {
    let stack = Stack::new("removal");
    let stop = |stack: &Stack| {
        let worker = stack.worker().env("CONSUMER_ID", "worker-a");
        let mut worker = worker.env("STOP_TIMEOUT_MS", "4000").spawn();
        wait_until("the worker reads", || consumers_if_any(stack).contains_key("worker-a"));
        let n_entries = stack.stream_len();
        wait_until("all is read", || {
            equal(stack.groups()[0]["entries-read"].clone(), n_entries.to_string())
        });
        worker.signal(libc::SIGTERM);
        let status = worker.wait_exit(Duration::from_secs(60));
        assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
    };
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    stop(&stack);
    assert_eq!(consumers(&stack), BTreeMap::new());

    let mut lock = stack.database.client();
    let mut lock = lock.transaction().expect("a transaction");
    lock.batch_execute("lock table posts").expect("the lock");
    stack.create(&did("alice"), "app.bsky.feed.post/1", post("behind a lock"));
    stop(&stack);
    assert_eq!(consumers(&stack), BTreeMap::from([("worker-a".to_owned(), 1)]));
    lock.rollback().expect("the lock goes");

    stack.drain_with(&[("CONSUMER_ID", "worker-a")]);
    assert_eq!(consumers(&stack), BTreeMap::new());
    assert_eq!(stack.count("posts"), 1);
    stack.assert_all_acknowledged();
}

#[test]
fn entries_read_under_the_name_while_it_is_removed_are_reported_as_lost() {
    let stack = Stack::new("removal_lost");
    let proxy = Proxy::to(stack.redis.port());
    let worker = stack.worker().env("CONSUMER_ID", "worker-a");
    let through = format!("redis://127.0.0.1:{}", proxy.port());
    let mut worker = worker.env("REDIS_URL", &through).spawn();
    wait_until("the worker reads", || consumers_if_any(&stack).contains_key("worker-a"));
    proxy.hold("DELCONSUMER");
    worker.signal(libc::SIGTERM);
    wait_until("the consumer is about to be removed", || equal(proxy.lost(), 1));
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    stack.read_and_abandon("worker-a", 1);
    proxy.release();
    let status = worker.wait_exit(Duration::from_secs(60));
    let log = worker.log();
    assert_eq!(status.code(), Some(0), "{}", shown(&log));
    let reports_loss = |line: &str| {
        ["ERROR", "1 entries", "worker-a", "lost"]
            .iter()
            .all(|word| line.contains(word))
    };
    assert!(log.lines().any(reports_loss), "{}", shown(&log));
}

fn consumers_if_any(stack: &Stack) -> BTreeMap<String, i64> {
    match stack.groups().is_empty() {
        true => BTreeMap::new(),
        false => consumers(stack),
    }
}
