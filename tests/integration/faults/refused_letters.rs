//! Dead letters that a full Redis refuses: later entries are not applied before them.

use redis::cmd;
use serde_json::json;

use super::{World, wait_for_line};
use crate::support::entries::{cid_for, did, like, post, uri};
use crate::support::freeze;
use crate::support::skip::skip;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{EVENTS, GROUP, Stack, wait_until};

fn fill(stack: &Stack) {
    stack.redis.configure("maxmemory-policy", "noeviction");
    stack.redis.configure("maxmemory", "1");
}

fn make_room(stack: &Stack) {
    stack.redis.configure("maxmemory", "0");
}

fn pending_ids(stack: &Stack) -> Vec<String> {
    let mut pending = cmd("XPENDING");
    pending.arg(&[EVENTS, GROUP, "-", "+", "100"]);
    let pending: Vec<(String, String, u64, u64)> = pending.query(&mut stack.redis()).expect("XPENDING");
    pending.into_iter().map(|(id, ..)| id).collect()
}

/// A commit of a record and of something that is no op.
fn push_half_bad(stack: &Stack, repo: &str, path: &str, record: serde_json::Value) -> String {
    let create = json!({"action": "create", "path": path, "cid": cid_for(path, &record), "record": record});
    stack.commit(repo, json!([create, "no op"]))
}

#[test]
fn no_acknowledgement_overtakes_that_of_a_refused_dead_letter_of_its_repo() {
    let world = World::new("full_order");
    let stack = &world.stack;
    let (alice, bob) = (did("alice"), did("bob"));
    let path = "app.bsky.feed.like/1";
    let half_bad = push_half_bad(stack, &alice, path, like(&uri(&bob, "app.bsky.feed.post/1")));
    let deleted = stack.delete(&alice, path);
    stack.create(&bob, "app.bsky.feed.post/1", post("of another repo"));
    stack.create_group();
    fill(stack);
    let start = || {
        let worker = world.worker().env("CONSUMER_ID", "worker-a");
        worker.env("PARALLEL_CONSUMERS", "1").spawn()
    };
    let mut worker = start();
    wait_until("only the other repo's entry is acknowledged", || {
        let group = &stack.groups()[0];
        let wanted = (vec![half_bad.clone(), deleted.clone()], "3");
        equal((pending_ids(stack), group["entries-read"].as_str()), wanted)
            .map_err(|error| format!("{error}; {}", shown(&worker.log())))
    });
    worker.kill();
    let mut worker = start();
    wait_for_line(&mut worker, &["redis refuses dead letters", "OOM"]);
    make_room(stack);
    wait_until("all is acknowledged and counted", || {
        let counted = ["errors", "totalEvents"].map(|field| stack.metric("cluster:metrics", field));
        // What the first process counted was lost with it, since a full Redis takes no counts.
        equal((pending_ids(stack).len(), counted), (0, [1, 1]))
    });
    assert_eq!(
        stack.count("likes"),
        0,
        "the deleted like is back; {}",
        shown(&worker.log())
    );
    assert_eq!(stack.dead_letters().len(), 1);
}

/// The network keeps the first try back, Redis refuses the second, and then the first arrives.
#[test]
fn a_dead_letter_stored_after_a_refusal_is_not_confused_with_another() {
    let world = World::new("late_burial");
    let stack = &world.stack;
    stack.push_fields(&[("type", b"commit"), ("data", b"no json"), ("seq", b"")]);
    stack.create_group();
    fill(stack);
    world.redis.make_late("XADD");
    let mut worker = world.worker().spawn();
    wait_for_line(&mut worker, &["redis refuses dead letters", "OOM"]);
    assert_eq!(world.redis.lost(), 1, "no dead letter was held back");
    // The second entry is to be the first that the thread meets then.
    let acker = match freeze::thread(worker.pid(), "acker") {
        Ok(acker) => acker,
        Err(error) => return skip("a late dead letter", format!("no thread can be traced: {error}")),
    };
    make_room(stack);
    world.redis.release();
    wait_until("the late dead letter is stored", || {
        equal(stack.dead_letters().len(), 1)
    });
    push_half_bad(
        stack,
        &did("alice"),
        "app.bsky.feed.post/1",
        post("beside what is no op"),
    );
    wait_until("the second entry is applied", || equal(stack.count("posts"), 1));
    drop(acker);
    wait_until("both errors are counted", || {
        equal(stack.metric("cluster:metrics", "errors"), 2)
            .map_err(|error| format!("{error}; {}", shown(&worker.log())))
    });
    let letters = stack.dead_letters();
    assert_eq!(letters.len(), 2, "{letters:?}; {}", shown(&worker.log()));
    assert_eq!(stack.pending(), 0);
}
