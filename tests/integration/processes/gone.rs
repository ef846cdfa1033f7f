//! Processes that join, leave and die: what happens to the versions, and to a process that was declared dead.

use serde_json::json;

use super::*;
use crate::records::*;
use crate::support::entries;

#[test]
fn versions_go_when_a_process_is_alone_again() {
    let stack = Stack::new("alone_again");
    let mut first = start(&stack, "first", NEVER);
    let mut second = start(&stack, "second", NEVER);
    wait_for_members(&stack, 2);
    for n in 0..200 {
        post(&entries::did(&format!("user {}", n % 7)), &n.to_string(), "hello").create(&stack);
    }
    wait_until_acknowledged(&stack, &[&first, &second]);
    assert_eq!(stack.count("posts"), 200);
    let size = "select pg_relation_size('firehose_worker.versions') as size";
    assert_ne!(stack.query(size)[0]["size"], json!(0), "no version was written");
    stop(&mut second);
    wait_for_members(&stack, 1);
    wait_until("all versions are pruned", || {
        equal(stack.count("firehose_worker.versions"), 0)
    });
    stop(&mut first);
    assert_eq!(n_members(&stack), 0);
}

#[test]
fn a_killed_process_is_taken_out_once_what_it_left_is_applied() {
    let stack = Stack::new("taken_out");
    let mut first = start(&stack, "first", "1000");
    let mut second = start(&stack, "second", "1000");
    wait_for_members(&stack, 2);
    wait_for_readers(&stack, 2);
    freeze(&stack, &first, "first");
    let mut lock = stack.database.client();
    lock.batch_execute("BEGIN; LOCK TABLE users").expect("a lock");
    post(BOB, "1", "hello").create(&stack);
    wait_until("the second has read the post", || {
        equal(pending_of(&stack, "second"), 1)
    });
    second.kill();
    drop(lock);
    first.signal(libc::SIGCONT);
    wait_until("the first has applied what the second left", || {
        equal(stack.count("posts"), 1)
    });
    wait_for_members(&stack, 1);
    wait_until_acknowledged(&stack, &[&first]);
    stop(&mut first);
}

/// One process freezes after it has read a post. Another takes the post over, applies it and its delete, and declares
/// the first dead. Nothing in the database then shows that there was a later op.
#[test]
fn a_process_that_wakes_after_it_was_declared_dead_writes_nothing() {
    let stack = Stack::new("frozen");
    let mut frozen = start(&stack, "frozen", "1000");
    wait_for_members(&stack, 1);
    wait_for_readers(&stack, 1);
    let mut lock = stack.database.client();
    lock.batch_execute("BEGIN; LOCK TABLE user_settings").expect("a lock");
    let post = post(BOB, "1", "hello");
    post.create(&stack);
    wait_until("the post is read", || equal(pending_of(&stack, "frozen"), 1));
    wait_until("its worker waits for the lock", || {
        let waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        stack.query(waiting).len() == 1
    });
    frozen.signal(libc::SIGSTOP);
    drop(lock);
    let mut other = start(&stack, "other", "1000");
    wait_until("the other process has applied the post", || {
        equal(stack.count("posts"), 1)
    });
    post.delete(&stack);
    wait_until_acknowledged(&stack, &[&other]);
    wait_for_members(&stack, 1);
    wait_until("all versions are pruned", || {
        equal(stack.count("firehose_worker.versions"), 0)
    });
    frozen.signal(libc::SIGCONT);
    assert_eq!(
        frozen.wait_exit(Duration::from_secs(60)).code(),
        Some(1),
        "{}",
        shown(&frozen.log())
    );
    assert_eq!(stack.count("posts"), 0, "{}", shown(&frozen.log()));
    stop(&mut other);
    stack.assert_all_acknowledged();
}

/// The same, but the frozen process is not yet declared dead when it wakes. Its entries have been acknowledged
/// meanwhile, and the version that shows this is kept as long as the process may hold them.
#[test]
fn a_process_that_wakes_with_entries_that_others_have_applied_writes_nothing() {
    let stack = Stack::new("woken");
    let mut third = start(&stack, "third", "1000");
    wait_for_members(&stack, 1);
    wait_for_readers(&stack, 1);
    freeze(&stack, &third, "third");
    let mut woken = start(&stack, "woken", "1000");
    wait_for_members(&stack, 2);
    wait_for_readers(&stack, 1);
    let mut lock = stack.database.client();
    lock.batch_execute("BEGIN; LOCK TABLE user_settings").expect("a lock");
    let post = post(BOB, "1", "hello");
    post.create(&stack);
    wait_until("the post is read", || equal(pending_of(&stack, "woken"), 1));
    freeze(&stack, &woken, "woken");
    drop(lock);
    third.signal(libc::SIGCONT);
    wait_until("the third process has applied the post", || {
        equal(stack.count("posts"), 1)
    });
    post.delete(&stack);
    wait_until_acknowledged(&stack, &[&third]);
    assert_ne!(stack.count("firehose_worker.versions"), 0);
    woken.signal(libc::SIGCONT);
    bookmark(CAROL, "b", &post).create(&stack);
    stop(&mut woken);
    wait_until_acknowledged(&stack, &[&third]);
    assert_eq!(stack.count("posts"), 0, "{}", shown(&woken.log()));
    stop(&mut third);
}
