//! Several processes on a busy stream, of which some come, go, freeze and die.

use super::history::events;
use super::*;
use crate::generator::Event;
use crate::support::assert_same;

const CLAIM_IDLE: &str = "1500";

fn started(stack: &Stack, n: usize) -> Worker {
    let worker = stack.worker().env("CONSUMER_ID", &format!("worker-{n}"));
    let worker = worker.env("CLAIM_IDLE_MS", CLAIM_IDLE).env("BATCH_SIZE", "5");
    worker
        .env("MAX_BATCH_ENTRIES", "20")
        .env("PARALLEL_CONSUMERS", if n.is_multiple_of(2) { "1" } else { "2" })
        .spawn()
}

/// The stream, a part of it at a time.
struct Source {
    events: std::vec::IntoIter<Event>,
    part: usize,
}

impl Source {
    fn new(seed: u64, n_parts: usize, part: usize) -> Self {
        Self {
            events: events(seed, n_parts * part).into_iter(),
            part,
        }
    }

    fn push(&mut self, stack: &Stack) {
        stack.push_events(self.events.by_ref().take(self.part));
    }
}

/// Entries that were acknowledged, and are not counted or not yet.
fn uncounted(stack: &Stack) -> i64 {
    // What is acknowledged in between makes it more.
    let counted = stack.metric("cluster:metrics", "totalEvents");
    stack.acknowledged() - counted
}

/// Kills a worker while entries are pending for it. Returns the maximum number of counts that are lost with it.
fn kill_busy(stack: &Stack, worker: &mut Worker, consumer: &str, source: &mut Source) -> i64 {
    worker.signal(libc::SIGSTOP);
    while pending_of(stack, consumer) == 0 {
        worker.signal(libc::SIGCONT);
        source.push(stack);
        wait_until("the worker reads", || {
            pending_of(stack, consumer) > 0 || lag(stack) == "0"
        });
        worker.signal(libc::SIGSTOP);
    }
    worker.kill();
    uncounted(stack)
}

/// Asserts that every entry was counted once, except for the counts that were lost with a kill.
fn assert_counted(stack: &Stack, n_events: usize, n_lost: i64) {
    let sent = i64::try_from(n_events).expect("few events");
    for key in ["firehose:metrics", "cluster:metrics"] {
        let counted = stack.metric(key, "totalEvents");
        assert!(
            (sent - n_lost..=sent).contains(&counted),
            "{key}: {counted} of {sent} events are counted, {n_lost} counts may be lost"
        );
    }
}

fn assert_as_alone(stack: &Stack, name: &str, seed: u64, n_events: usize) {
    let alone = Stack::new(&format!("{name}_alone"));
    alone.push_events(events(seed, n_events));
    alone.drain();
    assert_same(&stack.snapshot(), &alone.snapshot());
    stack.assert_counters_equal_rows();
    stack.assert_all_acknowledged();
}

#[test]
fn two_processes_of_which_one_is_killed_for_good_end_with_the_rows_of_one_alone() {
    const SEED: u64 = 61;
    let stack = Stack::new("two_processes");
    let mut source = Source::new(SEED, 20, 200);
    let mut first = started(&stack, 0);
    source.push(&stack);
    let mut second = started(&stack, 1);
    wait_for_members(&stack, 2);
    source.push(&stack);
    let n_lost = kill_busy(&stack, &mut second, "worker-1", &mut source);
    while source.events.len() > 0 {
        source.push(&stack);
    }
    wait_until_acknowledged(&stack, &[&first]);
    stop(&mut first);
    assert_counted(&stack, 20 * 200, n_lost);
    assert_as_alone(&stack, "two_processes", SEED, 20 * 200);
}

#[test]
fn four_processes_that_die_restart_and_freeze_end_with_the_rows_of_one_alone() {
    const SEED: u64 = 62;
    let stack = Stack::new("four_processes");
    let mut source = Source::new(SEED, 30, 200);
    source.push(&stack);
    let mut workers: Vec<Worker> = (0..4).map(|n| started(&stack, n)).collect();
    source.push(&stack);
    wait_for_members(&stack, 4);
    let n_lost = kill_busy(&stack, &mut workers[1], "worker-1", &mut source);
    source.push(&stack);
    stop(&mut workers[2]);
    source.push(&stack);
    workers[2] = started(&stack, 2);
    source.push(&stack);
    workers[3].signal(libc::SIGSTOP);
    source.push(&stack);
    wait_until("the others have taken over what the frozen one had read", || {
        equal((pending_of(&stack, "worker-3"), lag(&stack).as_str()), (0, "0"))
    });
    workers[3].signal(libc::SIGCONT);
    while source.events.len() > 0 {
        source.push(&stack);
    }
    wait_until_acknowledged(&stack, &[&workers[0], &workers[2], &workers[3]]);
    for n in [0, 2, 3] {
        stop(&mut workers[n]);
    }
    assert_counted(&stack, 30 * 200, n_lost);
    assert_as_alone(&stack, "four_processes", SEED, 30 * 200);
}
