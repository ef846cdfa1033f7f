//! Ops that are applied late, after another process has applied later ones.

use postgres::Client;
use serde_json::{Value, json};

use super::*;
use crate::records::*;
use crate::support::{assert_same, entries};

/// The events of one repo. One process reads the first part, and applies it after another has applied the second. The
/// third part follows when both have finished.
struct History {
    repo: String,
    parts: [Vec<Event>; 3],
}

enum Event {
    Put(Record),
    Delete(Record),
    Handle(&'static str),
}
use Event::{Delete, Handle, Put};

impl History {
    fn push(&self, stack: &Stack, part: usize) {
        for event in &self.parts[part] {
            let op = match event {
                Put(record) => record.op("create"),
                Delete(record) => record.delete_op(),
                Handle(handle) => {
                    stack.push("identity", json!({"did": self.repo, "handle": handle}));
                    continue;
                }
            };
            stack.push("commit", commit(&self.repo, vec![op]));
        }
    }
}

fn later(record: &Record) -> Record {
    record.with(json!({"createdAt": LATER}))
}

/// Records of every kind of a repo; `n` distinguishes two of one kind and pair.
fn records(repo: &str, n: usize) -> Vec<Record> {
    let subject = post(ALICE, "p", "hello");
    let own_list = list(repo, "l");
    let rkey = &format!("r{n}");
    vec![
        post(repo, rkey, "hello"),
        quote(repo, &format!("q{n}"), &subject),
        reply(repo, &format!("a{n}"), &subject, &subject),
        like(repo, rkey, &subject),
        repost(repo, rkey, &subject),
        bookmark(repo, rkey, &subject),
        follow(repo, rkey, ALICE),
        block(repo, rkey, ALICE),
        list_block(repo, rkey, &list(ALICE, "l")),
        list_item(repo, rkey, &own_list, BOB),
        starter_pack(repo, rkey, &own_list, &[]),
        generator(repo, rkey),
        thread_gate(repo, rkey, json!([])),
        post_gate(repo, rkey, &[]),
        list(repo, rkey),
        custom(repo, rkey, "note"),
        profile(repo),
        labeler(repo),
    ]
}

fn history(name: &str, parts: impl Fn(&str) -> [Vec<Event>; 3]) -> History {
    let repo = entries::did(name);
    let parts = parts(&repo);
    History { repo, parts }
}

/// Each for every kind of record.
fn histories() -> Vec<History> {
    let puts = |records: Vec<Record>| records.into_iter().map(Put).collect::<Vec<_>>();
    let deletes = |records: Vec<Record>| records.into_iter().map(Delete).collect::<Vec<_>>();
    let updates = |repo: &str| puts(records(repo, 1).iter().map(later).collect());
    vec![
        history("created, deleted", |repo| {
            [puts(records(repo, 1)), deletes(records(repo, 1)), vec![]]
        }),
        history("created, updated", |repo| {
            [puts(records(repo, 1)), updates(repo), vec![]]
        }),
        history("deleted, created again", |repo| {
            let mut first = puts(records(repo, 1));
            first.extend(deletes(records(repo, 1)));
            [first, updates(repo), vec![]]
        }),
        history("created, deleted, created again", |repo| {
            [puts(records(repo, 1)), deletes(records(repo, 1)), updates(repo)]
        }),
        history("a second record of each pair", |repo| {
            [puts(records(repo, 1)), puts(records(repo, 2)), vec![]]
        }),
        history("the second record takes the place of the first", |repo| {
            [
                puts(records(repo, 1)),
                puts(records(repo, 2)),
                deletes(records(repo, 1)),
            ]
        }),
        history("the second record is deleted before the first is there", |repo| {
            let mut second = puts(records(repo, 2));
            second.extend(deletes(records(repo, 2)));
            [puts(records(repo, 1)), second, vec![]]
        }),
        history("the first record moves behind the second", |repo| {
            let mut second = puts(records(repo, 2));
            second.extend(updates(repo));
            [puts(records(repo, 1)), second, vec![]]
        }),
        history("the first is deleted and the second waits", |repo| {
            let mut first = puts(records(repo, 1));
            first.extend(puts(records(repo, 2)));
            [first, deletes(records(repo, 1)), vec![]]
        }),
        history("handles", |_| {
            [vec![Handle("old.example")], vec![Handle("new.example")], vec![]]
        }),
    ]
}

/// The rows that one worker alone makes of it.
fn assert_as_alone(stack: &Stack, histories: &[History], name: &str) {
    let alone = Stack::new(&format!("{name}_alone"));
    for part in 0..3 {
        histories.iter().for_each(|history| history.push(&alone, part));
    }
    alone.drain();
    assert_same(&stack.snapshot(), &alone.snapshot());
    stack.assert_counters_equal_rows();
    stack.assert_all_acknowledged();
}

/// Keeps every worker that meets new users from going on.
struct Barrier {
    _session: Client,
}

impl Barrier {
    fn new(stack: &Stack) -> Self {
        let mut client = stack.database.client();
        client
            .batch_execute("BEGIN; LOCK TABLE user_settings IN ACCESS EXCLUSIVE MODE")
            .expect("a lock");
        Self { _session: client }
    }

    fn wait_for_workers(&self, stack: &Stack, n: i64) {
        wait_until("the workers wait for the lock", || {
            let waiting = "select count(*) as n from pg_stat_activity
                where datname = current_database() and wait_event_type = 'Lock'";
            equal(stack.query(waiting)[0]["n"].as_i64(), Some(n))
        });
    }
}

fn one_worker(stack: &Stack, consumer: &str) -> Worker {
    let worker = stack.worker().env("CONSUMER_ID", consumer);
    worker
        .env("CLAIM_IDLE_MS", NEVER)
        .env("PARALLEL_CONSUMERS", "1")
        .spawn()
}

/// How the process that has read the first parts continues.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    GoesOn,
    /// Killed while the second parts are applied, and started again.
    Restarts,
}

/// Has `early` read the first parts and stop before it has written anything, `other` apply the second.
fn play(stack: &Stack, histories: &[History], [mut early, mut other]: [Worker; 2], barrier: Barrier, then: Then) {
    barrier.wait_for_workers(stack, 1);
    freeze(stack, &early, "early");
    assert!(pending_of(stack, "early") > 0 && pending_of(stack, "other") == 0);
    drop(barrier);
    other.signal(libc::SIGCONT);
    let n_first = stack.pending();
    histories.iter().for_each(|history| history.push(stack, 1));
    wait_until("the second parts are applied", || {
        revive(&mut other, || one_worker(stack, "other"));
        equal((stack.pending(), lag(stack).as_str()), (n_first, "0"))
    });
    if then == Then::Restarts {
        early.kill();
    } else {
        early.signal(libc::SIGCONT);
    }
    wait_until("the first parts are applied", || {
        revive(&mut early, || one_worker(stack, "early"));
        equal(stack.pending(), 0)
    });
    histories.iter().for_each(|history| history.push(stack, 2));
    wait_until_acknowledged(stack, &[&early, &other]);
    stop(&mut early);
    stop(&mut other);
}

fn between_members(name: &str, then: Then) {
    let stack = Stack::new(name);
    let histories = histories();
    let early = one_worker(&stack, "early");
    let other = one_worker(&stack, "other");
    wait_for_members(&stack, 2);
    wait_for_readers(&stack, 2);
    freeze(&stack, &other, "other");
    let barrier = Barrier::new(&stack);
    histories.iter().for_each(|history| history.push(&stack, 0));
    play(&stack, &histories, [early, other], barrier, then);
    assert_as_alone(&stack, &histories, name);
}

#[test]
fn ops_that_are_applied_after_later_ones_of_their_record_change_nothing() {
    between_members("late", Then::GoesOn);
}

#[test]
fn ops_that_a_killed_process_left_behind_change_nothing_that_came_later() {
    between_members("late_restart", Then::Restarts);
}

/// The first process started alone and therefore without versions. Another takes the first parts over, and applies the
/// second, before the first continues.
fn joined_meanwhile(name: &str, isolation: &str) {
    let stack = Stack::new(name);
    let database = stack.database.name();
    stack.sql(&format!(
        "alter database {database} set default_transaction_isolation = '{isolation}'"
    ));
    let histories = histories();
    let mut early = one_worker(&stack, "early");
    wait_for_members(&stack, 1);
    wait_for_readers(&stack, 1);
    let barrier = Barrier::new(&stack);
    histories.iter().for_each(|history| history.push(&stack, 0));
    barrier.wait_for_workers(&stack, 1);
    wait_until("all of the first parts are read", || equal(lag(&stack).as_str(), "0"));
    freeze(&stack, &early, "early");
    let mut other = start(&stack, "other", "2000");
    wait_until("the other has taken the first parts over", || {
        equal(pending_of(&stack, "early"), 0)
    });
    drop(barrier);
    histories.iter().for_each(|history| history.push(&stack, 1));
    wait_until_acknowledged(&stack, &[&early, &other]);
    early.signal(libc::SIGCONT);
    histories.iter().for_each(|history| history.push(&stack, 2));
    stop(&mut early);
    wait_until_acknowledged(&stack, &[&early, &other]);
    stop(&mut other);
    assert_as_alone(&stack, &histories, name);
}

#[test]
fn a_batch_begun_before_another_process_joined_is_rewritten_with_versions() {
    joined_meanwhile("late_joined", "read committed");
}

#[test]
fn a_joining_process_is_seen_at_any_default_isolation_level() {
    joined_meanwhile("late_isolated", "repeatable read");
}

#[test]
fn a_worker_alone_writes_versions_of_handles_only() {
    let stack = Stack::new("versions_alone");
    let histories = histories();
    for part in 0..3 {
        histories.iter().for_each(|history| history.push(&stack, part));
        stack.drain();
    }
    let others = stack.query("SELECT key FROM firehose_worker.versions WHERE key ~ '^(at://|did:)'");
    assert_eq!(others, Vec::<Value>::new());
    assert_eq!(n_members(&stack), 0, "who was alone leaves nothing behind");
}
