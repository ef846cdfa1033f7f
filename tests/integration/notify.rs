//! The reports to the service manager: readiness, status, heartbeats, the stop.

use std::time::{Duration, Instant};

use crate::support::entries::{did, follow};
use crate::support::manager::Manager;
use crate::support::skip::skip;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{RedisServer, Stack, Worker, WorkerBuilder, freeze, wait_until};

/// Far above any time that a server needs to be noticed.
const WATCHDOG: &str = "120000000";

/// The time in which a worker has to end after SIGTERM, whatever it waits for.
const STOP_LIMIT: Duration = Duration::from_secs(45);

fn notifying(worker: WorkerBuilder, manager: &Manager, watchdog_usec: &str) -> Worker {
    worker
        .env("NOTIFY_SOCKET", manager.address())
        .env("WATCHDOG_USEC", watchdog_usec)
        .spawn()
}

#[track_caller]
fn wait_for_status(manager: &Manager, part: &str) {
    wait_until(&format!("the status has {part:?}"), || {
        let status = manager.status();
        if status.contains(part) { Ok(()) } else { Err(status) }
    });
}

/// Waits until the watchdog has been fed some times more.
#[track_caller]
fn wait_for_food(manager: &Manager, worker: &Worker) {
    let before = manager.count("WATCHDOG=1");
    wait_until("the watchdog is fed", || match manager.count("WATCHDOG=1") - before {
        3.. => Ok(()),
        times => Err(format!("fed {times} times; {}", shown(&worker.log()))),
    });
}

#[test]
fn readiness_status_and_stop_are_reported_and_an_idle_worker_feeds_the_watchdog() {
    let stack = Stack::new("notify");
    let manager = Manager::new();
    let start = Instant::now();
    // However long entries may be held, the thread that renews them beats often enough.
    let builder = stack.worker().env("CLAIM_IDLE_MS", "86400000");
    let mut worker = notifying(builder, &manager, WATCHDOG);
    wait_until("the worker is ready", || manager.count("READY=1") == 1);
    println!("ready after {} ms", start.elapsed().as_millis());
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    wait_for_status(&manager, "; 1 events, 0 errors, 0 lost");
    wait_for_status(&manager, "events/s, newest entry ");
    wait_for_food(&manager, &worker);
    worker.signal(libc::SIGTERM);
    let status = worker.wait_exit(STOP_LIMIT);
    assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
    wait_until("the stop is reported", || {
        equal(
            manager.status(),
            "stopping: finishing the entries that were read, for at most 25 s".to_owned(),
        )
    });
    let lines = manager.lines();
    let stopping = lines.iter().position(|line| line == "STOPPING=1").expect("STOPPING=1");
    assert_eq!(lines[stopping + 1], "EXTEND_TIMEOUT_USEC=35000000", "{lines:#?}");
    assert_eq!(lines.len(), stopping + 3, "nothing comes after the stop: {lines:#?}");
    assert_eq!(manager.count("READY=1"), 1, "{lines:#?}");
}

#[test]
fn servers_that_are_away_are_named_and_starve_no_watchdog() {
    let redis = RedisServer::not_started(&[]);
    let manager = Manager::new();
    let builder = WorkerBuilder::new()
        .env("REDIS_URL", &redis.url())
        // The discard port, on which no program listens.
        .env("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nothing");
    let mut worker = notifying(builder, &manager, WATCHDOG);
    wait_until("the worker is ready", || manager.count("READY=1") == 1);
    wait_for_status(&manager, "waiting for redis: ");
    wait_for_food(&manager, &worker);
    redis.restart();
    wait_for_status(&manager, "waiting for postgresql: ");
    wait_for_food(&manager, &worker);
    worker.signal(libc::SIGTERM);
    let status = worker.wait_exit(STOP_LIMIT);
    assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
}

#[test]
fn a_standby_is_ready_and_starves_no_watchdog() {
    let stack = Stack::new("notify_standby");
    let manager = Manager::new();
    let holder = notifying(stack.worker(), &manager, WATCHDOG);
    wait_for_food(&manager, &holder);
    let standby_manager = Manager::new();
    let standby = notifying(stack.worker(), &standby_manager, WATCHDOG);
    wait_until("the standby is ready", || standby_manager.count("READY=1") == 1);
    wait_for_status(&standby_manager, "waiting for the consumer name");
    wait_for_status(&standby_manager, "standby: the consumer name");
    wait_for_food(&standby_manager, &standby);
}

#[test]
fn full_channels_before_a_missing_table_starve_no_watchdog() {
    let stack = Stack::new("notify_full");
    let follow = |number: usize| {
        let path = format!("app.bsky.graph.follow/{number}");
        stack.create(&did("alice"), &path, follow(&did(&format!("bob{number}"))));
    };
    let manager = Manager::new();
    // The channel of the one worker takes 20 entries: the reader waits for room in it.
    let builder = stack
        .worker()
        .env("PARALLEL_CONSUMERS", "1")
        .env("MAX_BATCH_ENTRIES", "10");
    let worker = notifying(builder, &manager, WATCHDOG);
    follow(0);
    wait_until("an entry is applied", || {
        stack.metric("cluster:metrics", "totalEvents") == 1
    });
    stack.sql("alter table follows rename to follows_away");
    (1..200).for_each(follow);
    wait_for_status(&manager, "paused until this is fixed");
    wait_for_food(&manager, &worker);
    stack.sql("alter table follows_away rename to follows");
    wait_until("all is applied", || equal(stack.count("follows"), 200));
}

#[test]
fn a_thread_that_hangs_starves_the_watchdog_until_it_is_back() {
    let stack = Stack::new("notify_hang");
    let manager = Manager::new();
    let worker = notifying(stack.worker(), &manager, "16000000");
    wait_for_food(&manager, &worker);
    let frozen = match freeze::thread(worker.pid(), "worker-0") {
        Ok(frozen) => frozen,
        Err(error) => return skip("a thread that hangs", format!("it cannot be traced: {error}")),
    };
    wait_until("the log names the thread", || {
        let log = worker.log();
        log.lines()
            .any(|line| line.contains("no heartbeat from") && line.contains("worker-0"))
    });
    let fed = manager.count("WATCHDOG=1");
    let reported = manager.count("STATUS=");
    wait_until("the other threads continue", || manager.count("STATUS=") > reported);
    assert_eq!(manager.count("WATCHDOG=1"), fed, "fed while a thread hangs");
    drop(frozen);
    wait_until("the log reports that it is back", || {
        worker.log().contains("all threads respond again")
    });
    wait_for_food(&manager, &worker);
}
