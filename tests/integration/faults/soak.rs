//! Minutes of random faults, every few seconds: nothing grows, and in the end all rows and counts are correct.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::{LIMIT, World};
use crate::generator::Events;
use crate::support::proxy::Network;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{Stack, Worker, assert_same, wait_until_within};

/// Seconds that the soak takes.
const SECONDS: &str = "FIREHOSE_SOAK_SECONDS";

/// Events for each fault.
const N_PART: u64 = 300;

#[test]
#[ignore = "slow; tests/run.sh --all runs it"]
fn a_soak_with_random_faults_leaves_memory_and_threads_flat_and_everything_right() {
    let seconds = std::env::var_os(SECONDS).map_or(600, |text| {
        let text = text.to_string_lossy();
        text.parse().expect("a number of seconds")
    });
    let mut world = World::new("soak");
    let mut worker = world.worker().spawn();
    let start = Instant::now();
    let base_time = u64::try_from(chrono::Utc::now().timestamp_millis()).expect("a time after 1970");
    let mut early = None;
    let mut n_parts = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        let sent = world.stack.push_events(part(n_parts, base_time));
        world.sent = world.sent.plus(sent);
        n_parts += 1;
        fail_somehow(&world);
        assert!(worker.runs(), "{}", shown(&worker.log()));
        if n_parts == 20 {
            early = Some(usage(&worker));
        }
    }
    wait_until_within("all events are counted", LIMIT, || {
        equal(world.counted(), world.sent.total)
    });
    let (early, late) = (early.expect("more than 20 faults"), usage(&worker));
    eprintln!("{n_parts} faults in {seconds} s; [KiB, threads, files]: {early:?} early, {late:?} at the end");
    assert!(late[0] < early[0] + 16 * 1024, "memory grows: {early:?} {late:?} KiB");
    assert!(late[1] <= early[1] + 3, "threads grow: {early:?} {late:?}");
    assert!(late[2] <= early[2] + 6, "files grow: {early:?} {late:?}");
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.wait_exit(Duration::from_secs(45)).code(), Some(0));
    let lines = worker.log().lines().count();
    assert!(
        lines < 20 + 8 * n_parts as usize,
        "{lines} lines for {n_parts} faults; {}",
        shown(&worker.log())
    );
    world.stack.assert_all_acknowledged();
    world.stack.assert_counted(world.sent);
    world.stack.assert_counters_equal_rows();
    let undisturbed = Stack::new("soak_undisturbed");
    for n in 0..n_parts {
        undisturbed.push_events(part(n, base_time));
    }
    undisturbed.drain();
    assert_same(&world.stack.snapshot(), &undisturbed.snapshot());
}

/// The same again for the same time: `base_time` is in milliseconds since 1970.
fn part(n: u64, base_time: u64) -> Events {
    Events::new(1000 + n, N_PART).at(base_time)
}

fn fail_somehow(world: &World) {
    let proxy = if fastrand::bool() {
        &world.redis
    } else {
        &world.postgres
    };
    match fastrand::u32(..6) {
        0 => proxy.set(Network::Refuse),
        1 => proxy.set(Network::Stall),
        2 => proxy.set(Network::Reset),
        3 => proxy.reset(),
        4 => world
            .redis
            .lose_answers(["XACK", "HINCRBY", "XREADGROUP"][fastrand::usize(..3)], 1),
        _ => world.postgres.lose_answers("COMMIT", 1),
    }
    thread::sleep(Duration::from_millis(fastrand::u64(200..3000)));
    proxy.set(Network::Forward);
    thread::sleep(Duration::from_millis(fastrand::u64(200..1500)));
}

/// Resident KiB, threads and open files of the worker.
fn usage(worker: &Worker) -> [usize; 3] {
    let status = fs::read_to_string(format!("/proc/{}/status", worker.pid())).expect("a process that runs");
    let number = |name: &str| -> usize {
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .expect("a line of the status");
        line.split_whitespace()
            .nth(1)
            .and_then(|text| text.parse().ok())
            .expect("a number")
    };
    let files = fs::read_dir(format!("/proc/{}/fd", worker.pid()))
        .expect("its files")
        .count();
    [number("VmRSS:"), number("Threads:"), files]
}
