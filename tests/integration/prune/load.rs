//! Prunes beside two workers under load, killed at random moments.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;

use super::{EXIT_LIMIT, age, assert_exact, assert_rows_counted, command, oracle, prune};
use crate::generator::Events;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{Stack, Worker, wait_until};

/// Kills, each at another moment.
const N_KILLS: usize = 8;

/// Events that are applied meanwhile, in portions: more would take the time of the prunes.
const N_EVENTS: usize = 3000;
const PORTION: usize = 300;

#[test]
fn counts_stay_exact_while_two_workers_write_and_prunes_are_killed() {
    let stack = Stack::new("prune_load");
    let local = super::interrupted::filled(&stack);
    let mut workers: Vec<Worker> = ["one", "two"]
        .into_iter()
        .map(|name| {
            let worker = stack.worker().env("CONSUMER_ID", name).env("PARALLEL_CONSUMERS", "2");
            worker.env("MAX_BATCH_ENTRIES", "100").spawn()
        })
        .collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| feed(&stack, &done));
        scope.spawn(|| grow_old(&stack, &done));
        let _end = Finally(&done);
        let mut rng = Rng::with_seed(5);
        for _ in 0..N_KILLS {
            let mut prune = command(&stack, &local, &["--pause-ms", "1"]).spawn();
            // Somewhere in one of its first transactions, or at its end.
            let mut last = progress(&stack);
            for _ in 0..rng.u32(0..10) {
                wait_until("the prune goes on", || progress(&stack) != last || !prune.runs());
                last = progress(&stack);
            }
            prune.kill();
        }
        prune(&stack, &local, &[]);
    });
    wait_until("everything is applied", || {
        let groups = stack.groups();
        equal((groups[0]["lag"].as_str(), groups[0]["pending"].as_str()), ("0", "0"))
    });
    for worker in &mut workers {
        worker.signal(libc::SIGTERM);
        assert_eq!(worker.wait_exit(EXIT_LIMIT).code(), Some(0), "{}", shown(&worker.log()));
    }
    stack.assert_all_acknowledged();
    assert_exact(&stack);
    assert_rows_counted(&stack);
    age(&stack, "14 days");
    let expected = oracle::expect(&stack, &local);
    prune(&stack, &local, &[]);
    expected.check(&stack, "after the last prune");
    assert_exact(&stack);
    assert_rows_counted(&stack);
}

/// The time of the last transaction of an unfinished prune.
fn progress(stack: &Stack) -> Vec<Value> {
    stack.query("SELECT updated_at FROM firehose_worker.progress WHERE job = 'prune'")
}

/// Ends the threads of a test that fails, too.
struct Finally<'a>(&'a AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Keeps the workers busy with events about the same records, some of which are pruned.
fn feed(stack: &Stack, done: &AtomicBool) {
    let mut events = Events::new(41, 1_000_000);
    // The first ones are in the stream already; the others refer to them.
    let mut rest = events.by_ref().skip(4000);
    for _ in 0..N_EVENTS / PORTION {
        stack.push_events(rest.by_ref().take(PORTION));
        wait_until("the workers have caught up", || {
            let lag = stack
                .groups()
                .first()
                .and_then(|group| group["lag"].parse::<u64>().ok());
            done.load(Ordering::Relaxed) || lag.is_some_and(|lag| lag < PORTION as u64)
        });
    }
}

/// Makes posts and likes old, a few at a time, with as short locks as it can.
fn grow_old(stack: &Stack, done: &AtomicBool) {
    let mut client = stack.database.client();
    while !done.load(Ordering::Relaxed) {
        for (table, column) in super::TIMES {
            let statement = format!(
                "SET lock_timeout = '200ms';
                 UPDATE {table} SET {column} = {column} - '14 days'::interval
                 WHERE ctid IN (
                     SELECT ctid FROM {table} WHERE {column} > now() - '7 days'::interval LIMIT 100 FOR UPDATE SKIP LOCKED
                 )"
            );
            // A lock that takes longer is left for the next round.
            let _ = client.batch_execute(&statement);
        }
        thread::sleep(Duration::from_millis(20));
    }
}
