//! A repair beside a worker under load, while others miscount.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{EXIT_LIMIT, filled, n_wrong, repair};
use crate::generator::Events;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{Stack, wait_until};

#[test]
fn counters_are_corrected_while_workers_write_and_others_miscount() {
    let stack = filled("repair_under_load");
    stack.sql("UPDATE post_aggregations SET like_count = 5, reply_count = -1; DELETE FROM quotes; DELETE FROM post_viewer_states");
    let mut worker = stack
        .worker()
        .env("PARALLEL_CONSUMERS", "4")
        .env("MAX_BATCH_ENTRIES", "100")
        .spawn();
    let done = AtomicBool::new(false);
    let miscounted = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| feed(&stack, &done));
        scope.spawn(|| miscount(&stack, &miscounted));
        let _end = Finally(&[&done, &miscounted]);
        let before = stack.count("likes");
        wait_until("the worker writes", || stack.count("likes") > before);
        repair(&stack, &["--slice", "500"]);
        miscounted.store(true, Ordering::Relaxed);
        // What was miscounted behind the first repair, with the workers still at it.
        let before = stack.count("likes");
        wait_until("the worker writes on", || stack.count("likes") > before);
        repair(&stack, &["--slice", "500"]);
    });
    wait_until("everything is applied", || {
        let groups = stack.groups();
        equal((groups[0]["lag"].as_str(), groups[0]["pending"].as_str()), ("0", "0"))
    });
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.wait_exit(EXIT_LIMIT).code(), Some(0), "{}", shown(&worker.log()));
    stack.assert_all_acknowledged();
    stack.assert_counters_equal_rows();
    assert_eq!(
        n_wrong(&repair(&stack, &["--dry-run"])),
        [0; 4],
        "nothing else is left wrong"
    );
}

/// Ends the threads of a test that fails, too.
struct Finally<'a>(&'a [&'a AtomicBool]);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|flag| flag.store(true, Ordering::Relaxed));
    }
}

/// Keeps the worker busy until `end` is requested.
fn feed(stack: &Stack, done: &AtomicBool) {
    let mut events = Events::new(22, 1_000_000);
    while !done.load(Ordering::Relaxed) {
        stack.push_events(events.by_ref().take(500));
        wait_until("the worker has caught up", || {
            let lag = stack
                .groups()
                .first()
                .and_then(|group| group["lag"].parse::<u64>().ok());
            done.load(Ordering::Relaxed) || lag.is_some_and(|lag| lag < 500)
        });
    }
}

/// Miscounts one row at a time, as other programs do beside the worker, until `end` is requested.
fn miscount(stack: &Stack, done: &AtomicBool) {
    let mut client = stack.database.client();
    while !done.load(Ordering::Relaxed) {
        client
            .batch_execute(
                "UPDATE post_aggregations SET like_count = like_count + 1, quote_count = 0
                 WHERE post_uri = (
                     SELECT post_uri FROM post_aggregations
                     WHERE post_uri > 'at://did:plc:' || chr((97 + random() * 25)::integer)
                     ORDER BY post_uri LIMIT 1
                 )",
            )
            .expect("a row is updated");
        thread::sleep(Duration::from_millis(1));
    }
}
