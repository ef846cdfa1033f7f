//! Redis loses its newest writes, refuses or restarts, and everything else fails in between.

use std::time::{Duration, Instant};

use crate::relay::conduct::Incident;
use crate::relay::{Conduct, Relay};
use crate::support::consumer::{Line, wait_for_log};
use crate::support::proxy::{Network, Proxy};
use crate::support::skip::is_full;
use crate::support::wait::equal;
use crate::support::{EVENTS, RedisServer, Worker, wait_until, wait_until_within};

fn url_of(proxy: &Proxy) -> String {
    format!("redis://127.0.0.1:{}", proxy.port())
}

/// A Redis whose every write survives its crash.
fn durable() -> RedisServer {
    RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
}

#[test]
fn a_lagging_replica_that_is_promoted_gets_the_events_that_it_lacks() {
    let line = Line::new();
    let link = Proxy::to(line.redis.port());
    let link_port = link.port().to_string();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &link_port]);
    let address = Proxy::to(line.redis.port());
    let consumer = line.consumer().env("REDIS_URL", &url_of(&address)).spawn();
    line.append(1, 1000);
    line.wait_until_read();
    wait_until("the replica has what the primary has", || {
        let mut length = redis::cmd("XLEN");
        let length = length.arg(EVENTS).query::<u64>(&mut replica.connection());
        equal(length.ok(), Some(line.length()))
    });
    link.set(Network::Stall);
    line.append(2, 700);
    line.wait_until_read();
    line.redis.kill();
    drop(link);
    redis::cmd("REPLICAOF")
        .arg(&["NO", "ONE"])
        .exec(&mut replica.connection())
        .expect("REPLICAOF");
    address.retarget(replica.port());
    address.reset();
    let line = Line { redis: replica, ..line };
    assert!(
        line.length() < line.relay.entries_after(0).len() as u64,
        "the replica lacks events"
    );
    line.append(3, 300);
    line.wait_until_read();
    line.assert_exact();
    wait_for_log(&consumer, "lost the cursor");
}

#[test]
fn a_crash_that_cuts_the_append_only_file_anywhere_costs_no_event_at_any_later_start() {
    let n_rounds = if is_full() { 100 } else { 6 };
    let line = Line::with(
        Relay::start(),
        RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]),
    );
    let _consumer = line.consumer().spawn();
    for round in 0..n_rounds {
        line.append(round, 300);
        line.wait_until_read();
        let durable = line.redis.log_length();
        line.append(round, 300);
        line.wait_until_read();
        wait_until("Redis has written something that it may lose", || {
            match line.redis.log_length() > durable {
                true => Ok(()),
                false => Err(format!("{durable} bytes")),
            }
        });
        // Mostly within a command, and that within a transaction.
        let length = fastrand::u64(durable..line.redis.log_length());
        println!("round {round}: {length} of {} bytes", line.redis.log_length());
        line.redis.cut_log(length);
        line.append(round, 10);
        line.wait_until_read();
        line.assert_exact();
        line.redis.restart();
        line.append(round, 10);
        line.wait_until_read();
        line.assert_exact();
    }
}

#[test]
fn whatever_fails_in_whatever_order_every_event_is_in_the_stream_once_and_in_order() {
    let n_rounds = if is_full() { 200 } else { 12 };
    let line = Line::with(Relay::with(1, Conduct::rainbow(), None), durable());
    let network = Proxy::to(line.redis.port());
    let spawn = || line.consumer().env("REDIS_URL", &url_of(&network)).spawn();
    let mut consumer = spawn();
    for round in 0..n_rounds {
        let some = line.length() + fastrand::u64(1..900);
        line.append(round, 1200);
        let reach = |consumer: &Worker| {
            wait_until("some events are appended", || {
                let length = line
                    .redis
                    .try_connection()
                    .and_then(|mut redis| redis::cmd("XLEN").arg(EVENTS).query::<u64>(&mut redis));
                match length {
                    Ok(length) if length >= some => Ok(()),
                    other => Err(format!("{other:?} of {some}; {}", tail(consumer))),
                }
            });
        };
        let fault = round % 6;
        println!("round {round}: fault {fault} at {some}");
        match fault {
            0 => {
                reach(&consumer);
                consumer.kill();
                consumer = spawn();
            }
            1 => {
                reach(&consumer);
                line.redis.kill();
                line.redis.restart();
            }
            2 => {
                network.lose_answers("XADD", 2);
                reach(&consumer);
            }
            3 => {
                line.relay.cut();
                reach(&consumer);
                line.relay.cut();
            }
            4 => {
                let incident = Some((fastrand::u64(1..800), Incident::HalfMessage));
                line.relay.conduct(|conduct| conduct.incident = incident);
                line.relay.cut();
                reach(&consumer);
                line.relay.conduct(|conduct| conduct.incident = None);
            }
            // Its answer is lost, its process dies, and another one must find out what became of the transaction.
            _ => {
                network.make_late("XADD");
                let held = network.lost();
                line.append(round, 5);
                wait_until("a transaction is under way", || network.lost() > held);
                consumer.kill();
                consumer = spawn();
                network.release();
            }
        }
    }
    line.wait_until_read();
    line.assert_exact();
}

fn tail(consumer: &Worker) -> String {
    crate::support::process::tail(&consumer.log(), 5)
}

#[test]
fn memory_stays_flat_while_redis_hangs_and_the_relay_sends_all_it_can() {
    let line = Line::new();
    let consumer = line.consumer().spawn();
    line.append(1, 20_000);
    line.wait_until_read();
    let before = resident_kib(&consumer);
    line.redis.signal(libc::SIGSTOP);
    for seed in 0..6 {
        line.append(seed, 20_000);
    }
    let mut most = 0;
    let start = Instant::now();
    wait_until_within("the consumer has long left the relay", Duration::from_secs(90), || {
        most = most.max(resident_kib(&consumer));
        line.relay.n_subscribers() == 0 && (!is_full() || start.elapsed() >= Duration::from_secs(60))
    });
    line.redis.signal(libc::SIGCONT);
    line.wait_until_read();
    line.assert_exact();
    println!("{before} KiB before, at most {most} KiB while Redis hung");
    // What may be between the socket and Redis: 8 MiB.
    assert!(most < before + 10 * 1024, "{before} KiB, then {most} KiB");
}

/// The memory that the process has now.
fn resident_kib(worker: &Worker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).expect("the worker runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse().expect("a number")
}
