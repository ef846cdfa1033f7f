//! Several workers with different consumer names in one group: the rows are those of a single worker, whichever process
//! applies which entry, and in whatever order.
//!
//! `Late` forces an order that otherwise occurs only by chance: one process has read entries, another applies later
//! entries of the stream, and only then does the first continue.

mod counts;
mod gone;
mod history;
mod late;
mod load;

use std::collections::HashMap;
use std::time::Duration;

use redis::cmd;

use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{EVENTS, GROUP, Stack, Worker, wait_until};

/// Longer than any test, so that no entry is taken over.
const NEVER: &str = "600000";

/// A worker with its own consumer name.
fn start(stack: &Stack, consumer: &str, claim_idle_ms: &str) -> Worker {
    let worker = stack.worker().env("CONSUMER_ID", consumer);
    worker.env("CLAIM_IDLE_MS", claim_idle_ms).spawn()
}

/// Starts a worker again that was frozen for so long that it gave up, as systemd does.
fn revive(worker: &mut Worker, start: impl FnOnce() -> Worker) {
    if !worker.runs() {
        *worker = start();
    }
}

/// Ends a worker as systemd does.
fn stop(worker: &mut Worker) {
    if worker.runs() {
        worker.signal(libc::SIGTERM);
    }
    worker.wait_exit(Duration::from_secs(60));
}

/// None before the first worker has made its tables.
fn n_members(stack: &Stack) -> i64 {
    let made = stack.query("select to_regclass('firehose_worker.members') is not null as made");
    match made[0]["made"].as_bool() {
        Some(true) => stack.count("firehose_worker.members"),
        _ => 0,
    }
}

/// Waits until so many processes are members, and one of them has made the group.
fn wait_for_members(stack: &Stack, n: i64) {
    wait_until("the members are so many", || equal(n_members(stack), n));
    wait_until("the group is made", || !stack.groups().is_empty());
}

/// The number of pending entries of a consumer.
fn pending_of(stack: &Stack, consumer: &str) -> i64 {
    number_of(stack, consumer, "pending").unwrap_or(0)
}

fn number_of(stack: &Stack, consumer: &str, field: &str) -> Option<i64> {
    let consumers: Vec<HashMap<String, redis::Value>> = cmd("XINFO")
        .arg("CONSUMERS")
        .arg(EVENTS)
        .arg(GROUP)
        .query(&mut stack.redis())
        .expect("XINFO CONSUMERS");
    let text = |value: &redis::Value| redis::from_redis_value::<String>(value.clone()).expect("text");
    let found = consumers.iter().find(|fields| text(&fields["name"]) == consumer)?;
    Some(redis::from_redis_value(found.get(field)?.clone()).expect("a number"))
}

/// Waits until so many workers wait for new entries, with nothing left that they read first.
fn wait_for_readers(stack: &Stack, n: i64) {
    wait_until("the workers wait for new entries", || equal(stack.blocked_clients(), n));
}

/// Freezes the process, and waits until Redis delivers nothing more to it.
fn freeze(stack: &Stack, worker: &Worker, consumer: &str) {
    worker.signal(libc::SIGSTOP);
    // A read waits in the server for half a second.
    wait_until("the frozen worker reads nothing any more", || {
        number_of(stack, consumer, "inactive")
            .or(number_of(stack, consumer, "idle"))
            .is_none_or(|idle| idle > 1000)
    });
}

/// The number of unread entries, as Redis reports it.
fn lag(stack: &Stack) -> String {
    stack.groups()[0]["lag"].clone()
}

fn wait_until_acknowledged(stack: &Stack, workers: &[&Worker]) {
    wait_until("all entries are acknowledged", || {
        let logs: Vec<String> = workers.iter().map(|worker| shown(&worker.log())).collect();
        equal((stack.pending(), lag(stack).as_str()), (0, "0")).map_err(|error| format!("{error}\n{}", logs.join("\n")))
    });
}
