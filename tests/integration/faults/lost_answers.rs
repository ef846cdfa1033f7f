//! The server has executed a command, but its reply is lost.

use super::{World, wait_for_line};
use crate::support::proxy::Proxy;
use crate::support::stack::shown;
use crate::support::wait_until;

const N_LOST: usize = 4;

/// Loses some answers to requests with the word in them, while events flow.
fn lose(world: &mut World, proxy: impl Fn(&World) -> &Proxy, word: &'static str) {
    for n in 1..=N_LOST {
        proxy(world).lose_answers(word, 1);
        world.push(100);
        wait_until("the answer is lost", || proxy(world).lost() >= n);
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_neither_lost_nor_doubled() {
    let mut world = World::new("lost_commit");
    let worker = world.worker().spawn();
    lose(&mut world, |world| &world.postgres, "COMMIT");
    world.finish(worker);
}

#[test]
fn an_acknowledgement_whose_answer_is_lost_is_counted_once() {
    let mut world = World::new("lost_xack");
    let worker = world.worker().spawn();
    lose(&mut world, |world| &world.redis, "XACK");
    world.finish(worker);
}

#[test]
fn an_acknowledgement_whose_answer_is_lost_as_the_worker_stops_is_counted() {
    let mut world = World::new("lost_xack_stop");
    let mut worker = world.worker().spawn();
    world.push(100);
    world.settle();
    world.redis.hold("XACK");
    world.push(100);
    wait_until("an acknowledgement is on its way", || world.redis.lost() == 1);
    wait_until("all is read", || world.stack.groups()[0]["lag"] == "0");
    worker.signal(libc::SIGTERM);
    wait_for_line(&mut worker, &["stopping"]);
    let n_pending = world.stack.pending();
    world.redis.lose_held(|| world.stack.pending() < n_pending);
    let status = worker.wait_exit(std::time::Duration::from_secs(45));
    assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
    let counted = world.counted();
    assert_eq!(
        counted,
        world.sent.total - world.stack.pending(),
        "{}",
        shown(&worker.log())
    );
}

#[test]
fn a_read_whose_answer_is_lost_is_read_again() {
    let mut world = World::new("lost_read");
    let worker = world.worker().spawn();
    lose(&mut world, |world| &world.redis, "XREADGROUP");
    world.finish(worker);
}

#[test]
fn counts_whose_flush_has_no_answer_are_added_once() {
    for word in ["HINCRBY", "WATCH", "MULTI"] {
        let mut world = World::new("lost_flush");
        let worker = world.worker().spawn();
        lose(&mut world, |world| &world.redis, word);
        world.finish(worker);
    }
}

#[test]
fn a_dead_letter_whose_answer_is_lost_is_stored_once() {
    let mut world = World::new("lost_burial");
    let mut worker = world.worker().spawn();
    for n in 1..=N_LOST {
        world.redis.lose_answers("XADD", 1);
        world
            .stack
            .push_fields(&[("type", b"commit"), ("data", b"no json"), ("seq", b"")]);
        wait_until("the answer is lost", || world.redis.lost() >= n);
    }
    world.push(200);
    world.settle();
    wait_until("the errors are counted", || {
        world.stack.metric("cluster:metrics", "errors") >= N_LOST as i64
    });
    wait_for_line(&mut worker, &["is a dead letter"]);
    assert_eq!(
        world.stack.dead_letters().len(),
        N_LOST,
        "{:?}",
        world.stack.dead_letters()
    );
    assert_eq!(world.stack.metric("cluster:metrics", "errors"), N_LOST as i64);
    assert_eq!(world.stack.pending(), 0);
}
