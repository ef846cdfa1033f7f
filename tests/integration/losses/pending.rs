//! Pending entries that were trimmed: they are lost only if their consumer is dead.

use super::*;

#[test]
fn own_pending_entries_that_were_trimmed_are_acknowledged_and_counted_in_one_line() {
    let stack = Stack::new("trimmed_pending");
    push_follows(&stack, 0, 20);
    stack.create_group();
    stack.read_and_abandon("worker-a", 10);
    trim(&stack, 14);
    let log = stack.drain_with(&[("CONSUMER_ID", "worker-a")]).log;
    assert_eq!(lost(&stack, "pending_trimmed"), 6, "{}", shown(&log));
    assert_eq!(lost(&stack, "unread_trimmed"), 0, "{}", shown(&log));
    assert_eq!(n_lines(&log, "6 pending entries were trimmed"), 1, "{}", shown(&log));
    assert_eq!(stack.count("follows"), 14);
    assert_eq!(stack.metric("cluster:metrics", "totalEvents"), 14);
    stack.assert_all_acknowledged();
    stack.drain_with(&[("CONSUMER_ID", "worker-a")]);
    assert_eq!(lost(&stack, "pending_trimmed"), 6);
}

#[test]
fn trimmed_pending_entries_of_a_dead_consumer_are_counted() {
    let stack = Stack::new("trimmed_pending_of_gone");
    push_follows(&stack, 0, 20);
    stack.create_group();
    stack.read_and_abandon("python-worker-0", 10);
    trim(&stack, 14);
    let log = stack.drain_with(&[("CLAIM_IDLE_MS", "500")]).log;
    assert_eq!(lost(&stack, "pending_trimmed"), 6, "{}", shown(&log));
    assert_eq!(stack.count("follows"), 14);
    stack.assert_all_acknowledged();
}

#[test]
fn entries_that_are_trimmed_while_a_live_worker_applies_them_are_not_lost() {
    let stack = Stack::new("trimmed_while_held");
    push_follows(&stack, 0, 1);
    let holding = spawn_with(&stack, &[("CONSUMER_ID", "worker-a"), ("CLAIM_IDLE_MS", "600000")]);
    wait_until("it runs", || equal(stack.metric("cluster:metrics", "totalEvents"), 1));
    let held_up = hold_up(&stack);
    let gone_from_stream: Vec<String> = (1..=5)
        .map(|n| {
            let path = format!("app.bsky.graph.follow/{n}");
            stack.create(&did("alice"), &path, follow(&did(&format!("user {n}"))))
        })
        .collect();
    wait_until("it holds them", || equal(stack.pending(), 5));
    let first: Vec<(String, redis::Value)> = cmd("XRANGE")
        .arg(&[EVENTS, "-", "+", "COUNT", "1"])
        .query(&mut stack.redis())
        .expect("XRANGE");
    cmd("XDEL")
        .arg(EVENTS)
        .arg(&gone_from_stream)
        .exec(&mut stack.redis())
        .expect("XDEL");
    // An entry to take over, so that the other worker claims.
    cmd("XCLAIM")
        .arg(&[EVENTS, GROUP, "python-worker-0", "0", &first[0].0])
        .arg(&["IDLE", "60000", "JUSTID", "FORCE"])
        .exec(&mut stack.redis())
        .expect("XCLAIM");
    let other = spawn_with(&stack, &[("CONSUMER_ID", "worker-b"), ("CLAIM_IDLE_MS", "4000")]);
    wait_until("the other has taken over what there was", || {
        let held: Vec<redis::Value> = cmd("XPENDING")
            .arg(&[EVENTS, GROUP, "-", "+", "10", "worker-b"])
            .query(&mut stack.redis())
            .expect("XPENDING");
        equal(held.len(), 1)
    });
    release(held_up);
    wait_until("all is applied and counted", || {
        equal(stack.metric("cluster:metrics", "totalEvents"), 7)
    });
    assert_eq!(lost(&stack, "pending_trimmed"), 0, "{}", shown(&other.log()));
    assert_eq!(stack.count("follows"), 6, "{}", shown(&holding.log()));
    assert_eq!(stack.pending(), 0);
}

#[test]
fn many_trimmed_entries_of_a_dead_consumer_are_counted_in_bounded_memory() {
    const N_ENTRIES: usize = 200_000;
    let stack = Stack::new("many_trimmed_pending");
    let mut connection = stack.redis();
    for _ in 0..N_ENTRIES / 1000 {
        let mut pipe = redis::pipe();
        for _ in 0..1000 {
            pipe.cmd("XADD").arg(&[EVENTS, "*", "type", "none"]).ignore();
        }
        pipe.query::<()>(&mut connection).expect("XADD");
    }
    stack.create_group();
    stack.read_and_abandon("python-worker-0", N_ENTRIES);
    trim(&stack, 0);
    let idle = ("CLAIM_IDLE_MS", "2000");
    let worker = spawn_with(&stack, &[idle, ("MAX_IN_FLIGHT_MIB", "1")]);
    wait_for_line(&worker, "waiting for entries of consumers that may be dead");
    let before = crate::memory::peak_kib(&worker);
    wait_until("all that was lost is counted", || {
        equal(lost(&stack, "pending_trimmed"), N_ENTRIES as i64)
    });
    let grown = crate::memory::peak_kib(&worker) - before;
    let log = stop(worker);
    println!("{grown} KiB more than the {before} KiB before");
    assert!(grown < 8 * 1024, "{grown} KiB more than before; {}", shown(&log));
    let warning = format!("{N_ENTRIES} pending entries were trimmed");
    assert_eq!(n_lines(&log, &warning), 1, "{}", shown(&log));
    assert_eq!(
        (stack.pending(), lost(&stack, "pending_trimmed")),
        (0, N_ENTRIES as i64)
    );
}
