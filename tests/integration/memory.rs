//! Memory stays bounded whatever the entries.

use serde_json::json;

use crate::support::entries::{did, post};
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{Stack, Worker, wait_until};

/// Entries of a MiB come in answers of this many before their size is known.
const N_FIRST: i64 = 16;

/// The most memory that the worker has had, in MiB.
fn peak_mib(worker: &Worker) -> u64 {
    peak_kib(worker) / 1024
}

/// The same in KiB.
pub(crate) fn peak_kib(worker: &Worker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).expect("the worker runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse().expect("a number")
}

#[test]
fn large_entries_behind_a_stalled_database_are_read_up_to_the_limit_only() {
    const N_ENTRIES: i64 = 100;
    const LIMIT_MIB: i64 = 4;
    let stack = Stack::new("memory_large");
    let text = "x".repeat(1 << 20);
    for n in 0..N_ENTRIES {
        stack.create(&did(&format!("user {n}")), "app.bsky.feed.post/1", post(&text));
    }
    let mut lock = stack.database.client();
    let mut lock = lock.transaction().expect("a transaction");
    lock.batch_execute("lock table posts").expect("the lock");
    let worker = stack.worker().env("MAX_IN_FLIGHT_MIB", &LIMIT_MIB.to_string()).spawn();
    let waits = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    wait_until("both worker threads wait for the database", || {
        equal(stack.query(waits).len(), 2)
    });
    wait_until("the worker holds as much as it may", || stack.pending() >= LIMIT_MIB);
    assert!(
        stack.pending() <= LIMIT_MIB + N_FIRST,
        "{} entries of a MiB read; {}",
        stack.pending(),
        shown(&worker.log())
    );
    lock.rollback().expect("the lock goes");
    wait_until("all is applied", || {
        equal(stack.metric("cluster:metrics", "totalEvents"), N_ENTRIES)
    });
    let peak = peak_mib(&worker);
    assert!(
        peak < 96,
        "{peak} MiB for {N_ENTRIES} entries of a MiB; {}",
        shown(&worker.log())
    );
    assert_eq!(stack.count("posts"), N_ENTRIES);
    println!("peak {peak} MiB");
}

#[test]
fn a_long_backlog_of_small_entries_takes_no_more_memory_than_a_short_one() {
    let n_entries = if crate::support::skip::is_full() {
        1_000_000
    } else {
        100_000
    };
    let stack = Stack::new("memory_backlog");
    let mut connection = stack.redis();
    for first in (0..n_entries).step_by(1000) {
        let mut pipe = redis::pipe();
        for n in first..first + 1000 {
            let data = json!({"did": did(&format!("user {}", n % 100)), "active": true}).to_string();
            pipe.cmd("XADD")
                .arg(crate::support::EVENTS)
                .arg("*")
                .arg("type")
                .arg("account");
            pipe.arg("data").arg(data).arg("seq").arg(n).ignore();
        }
        pipe.query::<()>(&mut connection).expect("XADD");
    }
    let worker = stack.worker().spawn();
    wait_until("all is counted", || {
        equal(stack.metric("cluster:metrics", "#account"), n_entries)
    });
    let peak = peak_mib(&worker);
    assert!(
        peak < 96,
        "{peak} MiB for {n_entries} entries; {}",
        shown(&worker.log())
    );
    println!("peak {peak} MiB");
}

#[test]
fn entries_that_take_many_times_their_size_are_applied_one_at_a_time() {
    const N_ENTRIES: i64 = 8;
    let stack = Stack::new("memory_heavy");
    // Three bytes a value, which takes 32 of memory: four of these at once would take 400 MiB.
    let record = format!(r#"{{"values":[{}""]}}"#, r#""","#.repeat(1_500_000));
    for n in 0..N_ENTRIES {
        let repo = did(&format!("user {n}"));
        let op = format!(r#"{{"action":"create","path":"org.example.list/1","cid":"c","record":{record}}}"#);
        let data = format!(r#"{{"repo":"{repo}","ops":[{op}]}}"#);
        stack.push_fields(&[("type", b"commit"), ("data", data.as_bytes()), ("seq", b"1")]);
    }
    let worker = stack
        .worker()
        .env("PARALLEL_CONSUMERS", "4")
        .env("MAX_IN_FLIGHT_MIB", "64")
        .spawn();
    wait_until("all is applied", || {
        equal(stack.metric("cluster:metrics", "totalEvents"), N_ENTRIES)
    });
    let peak = peak_mib(&worker);
    println!("peak {peak} MiB");
    assert!(
        peak < 280,
        "{peak} MiB for {N_ENTRIES} entries; {}",
        shown(&worker.log())
    );
    assert_eq!(stack.count("generic_records"), N_ENTRIES);
}
