//! Entries that were read and never acknowledged, by this worker before it was killed or by dead consumers.

mod holder;
mod outage;
mod poison;
mod renewal;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use redis::cmd;

use crate::generator::Events;
use crate::support::entries::{did, follow, post};
use crate::support::skip::is_full;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{EVENTS, GROUP, Sent, Stack, assert_same, wait_until};

fn push_follows(stack: &Stack, n: usize) {
    push_follows_from(stack, 0, n);
}

fn push_follows_from(stack: &Stack, first: usize, number: usize) {
    for n in first..first + number {
        stack.create(
            &did("alice"),
            &format!("app.bsky.graph.follow/{n}"),
            follow(&did(&format!("user {n}"))),
        );
    }
}

/// The number of pending entries that have been idle for this long.
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
fn idle_pending_entries_of_dead_consumers_are_taken_over() {
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
fn the_start_waits_until_pending_entries_of_a_dead_consumer_may_be_claimed() {
    let stack = Stack::new("claim_after_a_wait");
    push_follows(&stack, 20);
    stack.create_group();
    stack.read_and_abandon("python-worker-0", 16);
    stack.drain_with(&[("CLAIM_IDLE_MS", "1000")]);
    assert_eq!(stack.count("follows"), 20);
    stack.assert_all_acknowledged();
}

#[test]
fn a_user_without_xclaim_still_takes_over_entries_of_dead_consumers() {
    let stack = Stack::new("no_xclaim");
    push_follows(&stack, 20);
    stack.create_group();
    stack.read_and_abandon("python-worker-0", 8);
    let rules = ["SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-xclaim"];
    cmd("ACL").arg(&rules).exec(&mut stack.redis()).expect("ACL SETUSER");
    let url = stack.redis_url().replace("redis://", "redis://limited:secret@");
    let worker = stack.worker().env("REDIS_URL", &url).env("CLAIM_IDLE_MS", "1000");
    let worker = worker.spawn();
    wait_until("all is applied", || equal(stack.count("follows"), 20));
    // Once more while it runs.
    let id = stack.create(&did("alice"), "app.bsky.feed.post/1", post("left behind"));
    wait_until("the post is applied", || {
        equal((stack.count("posts"), stack.pending()), (1, 0))
    });
    claim_for(&stack, "python-worker-1", &id);
    wait_until("the worker has taken the entry over", || {
        equal(stack.pending(), 0).map_err(|error| format!("{error}; {}", shown(&worker.log())))
    });
}

/// Makes an acknowledged entry pending at another consumer, as if that one had been quicker.
fn claim_for(stack: &Stack, consumer: &str, id: &str) {
    let mut command = cmd("XCLAIM");
    command.arg(EVENTS).arg(GROUP).arg(consumer).arg(0).arg(id);
    command.arg("JUSTID").arg("FORCE");
    command.exec(&mut stack.redis()).expect("XCLAIM");
}

#[test]
fn pending_entries_of_a_dead_consumer_come_before_newer_ones() {
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
    wait_until("the worker has applied the entry", || equal(stack.count("posts"), 1));
    wait_until("the entry is acknowledged", || equal(stack.pending(), 0));
    claim_for(&stack, "python-worker-0", &id);
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
fn trimmed_entries_of_a_dead_consumer_are_acknowledged_and_its_others_taken_over() {
    let stack = Stack::new("claim_trimmed");
    push_follows(&stack, 20);
    stack.create_group();
    stack.read_and_abandon("python-worker-0", 12);
    let mut trim = cmd("XTRIM");
    trim.arg(EVENTS).arg("MAXLEN").arg(14);
    trim.exec(&mut stack.redis()).expect("XTRIM");
    let output = stack.drain_with(&[("CLAIM_IDLE_MS", "500")]);
    assert_eq!(stack.count("follows"), 14, "{}", shown(&output.log));
    assert_eq!(stack.metric("cluster:metrics", "totalEvents"), 14);
    assert!(output.log.contains("6 entries lost"), "{}", shown(&output.log));
    stack.assert_all_acknowledged();
}

#[test]
fn entries_of_dead_consumers_are_taken_over_in_order_across_several_replies() {
    let stack = Stack::new("claim_pages");
    for n in 0..500 {
        let path = format!("app.bsky.feed.post/{n}");
        stack.create(&did("alice"), &path, post("to be deleted"));
        stack.delete(&did("alice"), &path);
    }
    stack.create_group();
    // Each entry at another consumer than the one before.
    for n in 0..100 {
        stack.read_and_abandon(&format!("python-worker-{}", n % 5), 9);
    }
    stack.drain_with(&[("CLAIM_IDLE_MS", "500")]);
    assert_eq!(stack.count("posts"), 0, "a delete was applied before its create");
    assert_eq!(stack.metric("cluster:metrics", "totalEvents"), 1000);
    stack.assert_all_acknowledged();
}

/// IDs and repos of what was delivered, in the order of the stream, and which of them are pending still.
fn delivered(stack: &Stack) -> (Vec<(String, String)>, HashSet<String>) {
    let mut connection = stack.redis();
    let last = &stack.groups()[0]["last-delivered-id"];
    let mut range = cmd("XRANGE");
    let entries: Vec<(String, BTreeMap<String, String>)> = range
        .arg(EVENTS)
        .arg("-")
        .arg(last)
        .query(&mut connection)
        .expect("XRANGE");
    let repo = |fields: &BTreeMap<String, String>| {
        let data: serde_json::Value = serde_json::from_str(&fields["data"]).expect("JSON");
        let did = data["repo"].as_str().or(data["did"].as_str());
        did.expect("a DID").to_owned()
    };
    let entries = entries.into_iter().map(|(id, fields)| (id, repo(&fields))).collect();
    let mut pending = cmd("XPENDING");
    pending.arg(EVENTS).arg(GROUP).arg("-").arg("+").arg(1_000_000);
    let pending: Vec<(String, String, u64, u64)> = pending.query(&mut connection).expect("XPENDING");
    (entries, pending.into_iter().map(|(id, ..)| id).collect())
}

/// No entry is acknowledged while an earlier one of its repo is pending.
#[track_caller]
fn assert_acknowledged_in_order(stack: &Stack) {
    let (entries, pending) = delivered(stack);
    let mut waiting: BTreeMap<&str, &str> = BTreeMap::new();
    for (id, repo) in &entries {
        if pending.contains(id) {
            waiting.entry(repo).or_insert(id);
        } else if let Some(earlier) = waiting.get(repo.as_str()) {
            panic!("{id} of {repo} is acknowledged, {earlier} is pending");
        }
    }
}

/// The number of the last flush; empty before the first.
fn flush_number(stack: &Stack) -> String {
    let key = format!("firehose:worker:flush:{GROUP}:worker-a");
    let number: Option<String> = cmd("GET").arg(key).query(&mut stack.redis()).expect("GET");
    number.unwrap_or_default()
}

#[test]
fn a_kill_loses_at_most_the_counts_since_the_last_flush_but_one() {
    const N_FLUSHES: usize = 3;
    let stack = Stack::new("kill_counts");
    let mut worker = stack.worker().env("CONSUMER_ID", "worker-a").spawn();
    // What was acknowledged when each flush was seen. By the next one, half a second later, the worker has heard of it.
    let mut seen: Vec<(String, i64)> = vec![(String::new(), 0)];
    let mut n = 0;
    wait_until("there were some flushes", || {
        push_follows_from(&stack, n, 10);
        n += 10;
        let number = flush_number(&stack);
        if seen.iter().all(|(earlier, _)| *earlier != number) {
            seen.push((number, stack.acknowledged()));
        }
        seen.len() > N_FLUSHES
    });
    worker.kill();
    let (counted, acknowledged) = (stack.metric("cluster:metrics", "totalEvents"), stack.acknowledged());
    let last = flush_number(&stack);
    let at = seen
        .iter()
        .position(|(number, _)| *number == last)
        .unwrap_or(seen.len());
    let (_, at_least) = seen[at - 1];
    assert!(
        (at_least..=acknowledged).contains(&counted),
        "{counted} events are counted, {acknowledged} acknowledged, at the flushes {seen:?}; {}",
        shown(&worker.log())
    );
    stack.drain_with(&[("CONSUMER_ID", "worker-a")]);
    let (all, lost) = (i64::try_from(n).expect("few"), acknowledged - counted);
    assert_eq!(stack.metric("cluster:metrics", "totalEvents"), all - lost);
    stack.assert_all_acknowledged();
}

#[test]
fn a_kill_loses_no_row_counts_no_row_twice_and_acknowledges_in_order() {
    let (n_kills, n_events) = if is_full() { (30, 60_000) } else { (4, 12_000) };
    let events: Vec<_> = Events::new(21, n_events).collect();
    let stack = Stack::new("kill");
    let mut sent = Sent::default();
    let mut n_killed_while_busy = 0;
    let mut n_uncounted = 0;
    // Something new for each life, so that each has something to be killed at.
    for events in events.chunks(events.len() / n_kills) {
        let more = stack.push_events(events.iter().cloned());
        sent = sent.plus(more);
        let before = stack.count("likes");
        let mut worker = stack.worker().env("CONSUMER_ID", "worker-a").spawn();
        wait_until("the worker has committed something", || stack.count("likes") > before);
        // At any moment of its work.
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..100)));
        worker.kill();
        n_killed_while_busy += usize::from(stack.pending() > 0);
        n_uncounted = stack.acknowledged() - stack.metric("cluster:metrics", "totalEvents");
        assert!(n_uncounted >= 0, "{} entries are counted too many", -n_uncounted);
        assert_acknowledged_in_order(&stack);
    }
    println!("{n_killed_while_busy} of {n_kills} kills left entries pending; {n_uncounted} counts are lost");
    stack.drain_with(&[("CONSUMER_ID", "worker-a")]);
    stack.assert_all_acknowledged();
    assert_eq!(stack.stream_len(), sent.total, "entries were deleted or trimmed");
    stack.assert_counters_equal_rows();
    let counted = stack.metric("cluster:metrics", "totalEvents");
    assert_eq!(
        counted,
        sent.total - n_uncounted,
        "of {} sent; what a kill took along",
        sent.total
    );

    let undisturbed = Stack::new("kill_undisturbed");
    undisturbed.push_events(events);
    undisturbed.drain();
    assert_same(&stack.snapshot(), &undisturbed.snapshot());
}
