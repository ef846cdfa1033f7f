//! Each event is in the stream exactly once, in the relay's order.

use std::time::Duration;

use crate::relay::Conduct;
use crate::support::consumer::{Line, STATE, wait_for_log};
use crate::support::proxy::{Network, Proxy};
use crate::support::skip::is_full;
use crate::support::wait::{equal, wait_until};
use crate::support::{RedisServer, Worker};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn every_event_becomes_one_entry_and_the_cursor_moves_with_them() {
    let line = Line::new();
    line.append(1, 3000);
    let mut consumer = line.consumer().spawn();
    line.wait_until_read();
    line.append(2, 100);
    line.wait_until_read();
    line.assert_exact();
    let state: Vec<(String, String)> = line.query(redis::cmd("HGETALL").arg(STATE));
    let authority = line.relay.url().replace("ws://", "");
    assert!(state.contains(&("relay".to_owned(), authority.clone())), "{state:?}");
    let (_, position) = state
        .iter()
        .find(|(field, _)| *field == authority)
        .expect("the relay's position");
    assert!(position.starts_with("3100 "), "{position}");
    consumer.signal(libc::SIGTERM);
    assert!(consumer.wait_exit(LIMIT).success(), "{}", consumer.log());
    wait_until("the relay is told of the stop", || {
        let codes: Vec<u16> = line.relay.seen().closes.iter().map(|(code, _)| *code).collect();
        equal(codes, vec![1000])
    });
    let seen = line.relay.seen();
    assert!(
        seen.requests[0]
            .header("user-agent")
            .is_some_and(|agent| agent.starts_with("firehose-consumer/")),
        "{seen:?}"
    );
}

#[test]
fn a_restart_continues_after_the_cursor_at_every_kind_of_relay() {
    for conduct in [Conduct::pds(), Conduct::indigo(), Conduct::rainbow()] {
        let line = Line::like(conduct);
        for seed in 1..4 {
            line.append(seed, 200);
            let mut consumer = line.consumer().spawn();
            line.wait_until_read();
            consumer.signal(libc::SIGTERM);
            assert!(consumer.wait_exit(LIMIT).success(), "{}", consumer.log());
        }
        line.assert_exact();
    }
}

#[test]
fn a_consumer_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let line = Line::new();
    let n_rounds = if is_full() { 200 } else { 15 };
    for round in 0..n_rounds {
        line.append(round, 2000);
        let before = line.length();
        let mut consumer = line.consumer().spawn();
        // Killed in the middle of the events, at another moment each time.
        let some = before + fastrand::u64(1..1500);
        wait_until("some events are appended", || line.length() >= some);
        consumer.kill();
    }
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    line.assert_exact();
}

#[test]
fn a_lost_answer_neither_loses_nor_doubles_a_batch() {
    let line = Line::new();
    let proxy = Proxy::to(line.redis.port());
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let _consumer = line.consumer().env("REDIS_URL", &url).spawn();
    for round in 0..8 {
        proxy.lose_answers("XADD", 1);
        line.append(round, 400);
        line.wait_until_read();
        line.assert_exact();
    }
    assert!(proxy.lost() >= 8, "answers were lost: {}", proxy.lost());
}

#[test]
fn a_redis_that_restarts_or_cannot_be_reached_costs_nothing() {
    let line = Line::with(
        crate::relay::Relay::start(),
        RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]),
    );
    let proxy = Proxy::to(line.redis.port());
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let consumer = line.consumer().env("REDIS_URL", &url).spawn();
    for round in 0..3 {
        line.append(round, 1000);
        line.redis.kill();
        line.append(round + 10, 500);
        line.redis.restart();
        line.wait_until_read();
        proxy.set(Network::Refuse);
        line.append(round + 20, 500);
        wait_for_log(&consumer, "waiting for redis");
        proxy.set(Network::Forward);
        line.wait_until_read();
    }
    line.assert_exact();
}

#[test]
fn a_redis_that_comes_back_in_an_earlier_state_gets_the_lost_events_again() {
    let line = Line::new();
    let consumer = line.consumer().spawn();
    line.append(1, 500);
    line.wait_until_read();
    line.redis.keep();
    line.append(2, 500);
    line.wait_until_read();
    line.redis.go_back();
    line.append(3, 10);
    line.wait_until_read();
    line.assert_exact();
    wait_for_log(&consumer, "lost the cursor");
}

#[test]
fn a_redis_that_is_full_or_read_only_gets_everything_once_it_accepts_writes() {
    let line = Line::new();
    let consumer = line.consumer().spawn();
    line.append(1, 100);
    line.wait_until_read();
    line.redis.configure("maxmemory", "1");
    line.append(2, 300);
    wait_for_log(&consumer, "redis refuses the consumer's commands: OOM");
    line.redis.configure("maxmemory", "0");
    line.wait_until_read();
    let mut redis = line.redis.connection();
    redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(1)
        .exec(&mut redis)
        .expect("REPLICAOF");
    line.append(3, 300);
    wait_for_log(&consumer, "READONLY");
    redis::cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .exec(&mut redis)
        .expect("REPLICAOF");
    line.wait_until_read();
    line.assert_exact();
}

#[test]
fn of_two_consumers_one_writes_and_the_other_takes_over() {
    let line = Line::new();
    let mut first = line.consumer().spawn();
    line.append(1, 100);
    line.wait_until_read();
    let second = line.consumer().spawn();
    wait_for_log(&second, "standby: the cursor firehose:python_cursor is held by");
    line.append(2, 100);
    line.wait_until_read();
    first.kill();
    line.append(3, 100);
    line.wait_until_read();
    line.assert_exact();
    wait_for_log(&second, "took over the cursor firehose:python_cursor");
}

#[test]
fn a_consumer_that_was_frozen_becomes_the_standby_and_writes_nothing() {
    let line = Line::new();
    let first = line.consumer().spawn();
    line.append(1, 100);
    line.wait_until_read();
    first.signal(libc::SIGSTOP);
    line.append(2, 300);
    let second = line.consumer().spawn();
    line.wait_until_read();
    wait_for_log(&second, "took over");
    first.signal(libc::SIGCONT);
    wait_for_log(&first, "standing by");
    line.append(3, 300);
    line.wait_until_read();
    line.assert_exact();
    wait_until("only one is subscribed", || equal(line.relay.n_subscribers(), 1));
}

#[test]
fn catching_up_takes_a_twentieth_of_a_core_at_the_networks_rate() {
    const N_EVENTS: u64 = 60_000;
    let line = Line::new();
    line.append(1, N_EVENTS);
    let consumer = line.consumer().spawn();
    line.wait_until_read();
    let micros = cpu_time(&consumer).as_micros() as u64 / N_EVENTS;
    println!("{micros} µs of CPU per event");
    // The network has some 500 events a second.
    assert!(micros < 100, "{micros} µs of CPU per event");
}

/// The CPU time that the process has had.
fn cpu_time(worker: &Worker) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{}/task", worker.pid())).expect("the process runs");
    let of_thread = |entry: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(entry.expect("a thread").path().join("schedstat")).unwrap_or_default();
        let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(nanos.unwrap_or_default())
    };
    threads.map(of_thread).sum()
}
