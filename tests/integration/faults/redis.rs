//! Redis stops, hangs, loads its data, is full, is a replica, or has lost everything.

use std::time::Duration;

use redis::cmd;

use super::{World, lines_with, wait_for_line};
use crate::support::entries::{did, like, uri};
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{EVENTS, GROUP, RedisServer, wait_until};

/// A server that has persisted every command that it has answered, and loads its data slowly.
fn durable() -> RedisServer {
    RedisServer::start_with(&[
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--aof-use-rdb-preamble",
        "no",
        "--key-load-delay",
        "200",
    ])
}

#[test]
fn a_redis_in_cluster_mode_is_waited_for_in_one_line() {
    let world = World::with_redis("cluster", RedisServer::start_with(&["--cluster-enabled", "yes"]));
    let stack = &world.stack;
    cmd("CLUSTER")
        .arg(&["ADDSLOTSRANGE", "0", "16383"])
        .exec(&mut stack.redis())
        .expect("CLUSTER ADDSLOTSRANGE");
    let mut worker = world.worker().spawn();
    wait_for_line(
        &mut worker,
        &["cluster mode", "cluster-enabled no", "paused until this is fixed"],
    );
    assert_eq!(lines_with(&worker.log(), &["cluster mode"]), 1, "{}", worker.log());
    assert!(stack.groups().is_empty(), "{:?}", stack.groups());
}

/// The cause of a refused first write, the worker's log line, and the remedy.
const FIRST_WRITES: [(&[&str], &str, &[&str], &str); 6] = [
    (
        &["--min-replicas-to-write", "1"],
        "",
        &["NOREPLICAS", "redis-cli CONFIG SET min-replicas-to-write 0"],
        "CONFIG SET min-replicas-to-write 0",
    ),
    (
        &[],
        "LPUSH firehose:worker:holder:firehose-processors:worker x",
        &[
            "WRONGTYPE",
            "redis-cli DEL firehose:worker:holder:firehose-processors:worker",
        ],
        "DEL firehose:worker:holder:firehose-processors:worker",
    ),
    (
        &[],
        "LPUSH firehose:worker:flush:firehose-processors:worker x",
        &[
            "WRONGTYPE",
            "redis-cli DEL firehose:worker:flush:firehose-processors:worker",
        ],
        "DEL firehose:worker:flush:firehose-processors:worker",
    ),
    (
        &[],
        "SET firehose:worker:losses:firehose-processors x",
        &["WRONGTYPE", "firehose:worker:losses:firehose-processors"],
        "DEL firehose:worker:losses:firehose-processors",
    ),
    (
        &[],
        "REPLICAOF 127.0.0.1 1",
        &["READONLY", "let REDIS_URL name the master"],
        "REPLICAOF NO ONE",
    ),
    (
        &["--maxmemory-policy", "noeviction"],
        "CONFIG SET maxmemory 1",
        &["OOM", "raise its maxmemory", "the group"],
        "CONFIG SET maxmemory 0",
    ),
];

#[test]
fn a_first_write_that_redis_refuses_is_logged_at_once_with_a_remedy() {
    let run = |world: &World, command: &str| {
        let mut words = command.split(' ');
        let name = words.next().unwrap_or_default();
        cmd(name)
            .arg(words.collect::<Vec<_>>())
            .exec(&mut world.stack.redis())
            .unwrap_or_else(|error| panic!("{command}: {error}"));
    };
    for (arguments, fault, words, end) in FIRST_WRITES {
        let world = World::with_redis("first_write", RedisServer::start_with(arguments));
        if !fault.is_empty() {
            run(&world, fault);
        }
        let mut worker = world.worker().env("CONSUMER_ID", "worker").spawn();
        // Counters are sent once there are any.
        if fault.contains("flush") {
            push_a_like(&world);
        }
        wait_for_line(&mut worker, words);
        run(&world, end);
        push_a_like(&world);
        wait_until("the like is applied", || equal(world.stack.count("likes"), 1));
    }
}

fn push_a_like(world: &World) {
    let subject = like(&uri(&did("bob"), "app.bsky.feed.post/1"));
    world.stack.create(&did("alice"), "app.bsky.feed.like/1", subject);
}

#[test]
fn a_first_write_refused_after_a_failed_snapshot_is_logged_at_once() {
    let world = World::with_redis("first_snapshot", RedisServer::start_with(&["--save", "3600 1"]));
    let dir: Vec<String> = cmd("CONFIG")
        .arg("GET")
        .arg("dir")
        .query(&mut world.stack.redis())
        .expect("CONFIG");
    // Whoever the server runs as, it cannot put its file there.
    let in_the_way = std::path::Path::new(&dir[1]).join("dump.rdb");
    std::fs::create_dir(&in_the_way).expect("a folder under the snapshot's name");
    cmd("BGSAVE").exec(&mut world.stack.redis()).expect("BGSAVE");
    wait_until("writes are refused", || {
        let set: redis::RedisResult<()> = cmd("SET").arg("a").arg("b").query(&mut world.stack.redis());
        set.is_err()
    });
    let mut worker = world.worker().spawn();
    wait_for_line(&mut worker, &["MISCONF", "check its disk", "redis-cli BGSAVE"]);
    std::fs::remove_dir(&in_the_way).expect("the folder goes");
    cmd("BGSAVE").exec(&mut world.stack.redis()).expect("BGSAVE");
    wait_until("writes are taken", || {
        let set: redis::RedisResult<()> = cmd("SET").arg("a").arg("b").query(&mut world.stack.redis());
        set.is_ok()
    });
    push_a_like(&world);
    wait_until("the like is applied", || equal(world.stack.count("likes"), 1));
}

#[test]
fn a_redis_that_is_killed_and_loads_what_it_kept_loses_nothing() {
    let mut world = World::with_redis("redis_restarts", durable());
    let worker = world.worker().spawn();
    for _ in 0..3 {
        world.push(300);
        wait_until("something is counted", || world.counted() > 0);
        world.stack.redis.kill();
        world.stack.redis.restart();
    }
    world.finish(worker);
}

#[test]
#[ignore = "slow; tests/run.sh --all runs it"]
fn both_servers_restarted_several_times_under_load_lose_nothing() {
    let server = crate::support::PostgresServer::start(crate::support::PostgresOptions::default());
    let database = crate::support::Database::new(server.clone(), "both_restart");
    let mut world = World::of(crate::support::Stack::of(durable(), database));
    let worker = world.worker().spawn();
    for n in 0..8 {
        world.push(140);
        if n % 2 == 0 {
            world.stack.redis.kill();
            server.stop_immediate();
            world.stack.redis.restart();
            server.restart();
        } else {
            server.restart();
            world.stack.redis.restart();
        }
    }
    world.finish(worker);
}

#[test]
fn a_redis_that_hangs_and_goes_on_loses_nothing() {
    let mut world = World::new("redis_hangs");
    world.push(200);
    let mut worker = world.worker().spawn();
    world.settle();
    world.push(200);
    world.stack.redis.signal(libc::SIGSTOP);
    wait_for_line(&mut worker, &["waiting for redis", "no answer"]);
    world.stack.redis.signal(libc::SIGCONT);
    world.finish(worker);
}

#[test]
fn a_pause_of_all_clients_loses_nothing() {
    let mut world = World::new("redis_pause");
    let worker = world.worker().spawn();
    world.push(200);
    cmd("CLIENT")
        .arg(&["PAUSE", "1500", "ALL"])
        .exec(&mut world.stack.redis())
        .expect("CLIENT PAUSE");
    world.finish(worker);
}

#[test]
fn a_full_redis_has_counts_and_dead_letters_wait_while_acknowledgements_go_on() {
    let mut world = World::new("redis_full");
    world
        .stack
        .push_fields(&[("type", b"commit"), ("data", b"no json"), ("seq", b"")]);
    world.push_rest();
    world.stack.redis.configure("maxmemory-policy", "noeviction");
    world.stack.create_group();
    world.stack.redis.configure("maxmemory", "1");
    let mut worker = world.worker().spawn();
    wait_until("all but the poison is acknowledged", || {
        let group = &world.stack.groups()[0];
        equal(
            (world.stack.pending(), group["entries-read"].parse()),
            (1, Ok(world.sent.total + 1)),
        )
    });
    wait_for_line(&mut worker, &["redis refuses the counters", "OOM"]);
    wait_for_line(&mut worker, &["redis refuses dead letters", "OOM"]);
    assert_eq!(world.counted(), 0);
    world.stack.redis.configure("maxmemory", "0");
    wait_until("the error is counted", || {
        equal(world.stack.metric("cluster:metrics", "errors"), 1)
    });
    world.settle();
    assert_eq!(world.stack.dead_letters().len(), 1);
    assert_eq!(world.stack.pending(), 0);
    assert_eq!(
        lines_with(&worker.log(), &["redis refuses the counters"]),
        1,
        "{}",
        worker.log()
    );
    crate::support::assert_same(&world.stack.snapshot(), super::undisturbed());
}

#[test]
fn a_key_that_takes_no_dead_letters_keeps_their_entries_pending() {
    let mut world = World::new("no_dead_letters");
    cmd("SET")
        .arg(&["firehose:dead-letters", "something else"])
        .exec(&mut world.stack.redis())
        .expect("SET");
    world
        .stack
        .push_fields(&[("type", b"commit"), ("data", b"no json"), ("seq", b"")]);
    world.push_rest();
    let mut worker = world.worker().spawn();
    wait_for_line(&mut worker, &["redis refuses dead letters", "WRONGTYPE"]);
    world.settle();
    assert_eq!(world.stack.pending(), 1);
    cmd("DEL")
        .arg("firehose:dead-letters")
        .exec(&mut world.stack.redis())
        .expect("DEL");
    wait_until("the dead letter is stored", || {
        equal(world.stack.metric("cluster:metrics", "errors"), 1)
    });
    assert_eq!(world.stack.dead_letters().len(), 1);
    assert_eq!(world.stack.pending(), 0);
}

#[test]
fn counts_for_a_key_that_is_no_hash_are_kept_for_it_and_it_alone() {
    let mut world = World::new("no_hash");
    cmd("SET")
        .arg(&["cluster:metrics", "something else"])
        .exec(&mut world.stack.redis())
        .expect("SET");
    world.push(300);
    let mut worker = world.worker().spawn();
    wait_for_line(&mut worker, &["redis cannot add to", "cluster:metrics", "WRONGTYPE"]);
    world.push(300);
    wait_until("the other key has all counts", || {
        equal(world.stack.metric("firehose:metrics", "totalEvents"), world.sent.total)
    });
    cmd("DEL")
        .arg("cluster:metrics")
        .exec(&mut world.stack.redis())
        .expect("DEL");
    world.settle();
    let log = world.finish(worker);
    assert_eq!(lines_with(&log, &["redis cannot add to"]), 1, "{log}");
    assert_eq!(lines_with(&log, &["redis adds to all counters again"]), 1, "{log}");
}

#[test]
fn two_processes_of_which_both_servers_are_killed_count_and_write_everything_once() {
    let server = crate::support::PostgresServer::start(crate::support::PostgresOptions::default());
    let database = crate::support::Database::new(server.clone(), "two_killed");
    let mut world = World::of(crate::support::Stack::of(durable(), database));
    let mut workers = ["first", "second"].map(|name| world.worker().env("CONSUMER_ID", name).spawn());
    world.push(300);
    wait_until("something is counted", || world.counted() > 0);
    world.push(300);
    world.stack.redis.kill();
    world.stack.redis.restart();
    world.push(300);
    server.stop_immediate();
    server.restart();
    world.push_rest();
    world.settle();
    for worker in &mut workers {
        worker.signal(libc::SIGTERM);
        let status = worker.wait_exit(Duration::from_secs(45));
        assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
    }
    world.assert_as_without_faults();
}

#[test]
fn a_failover_to_a_replica_is_followed() {
    let mut world = World::new("redis_failover");
    world.push(300);
    let mut worker = world.worker().spawn();
    world.settle();
    let replica = RedisServer::start();
    let of = world.stack.redis.port().to_string();
    cmd("REPLICAOF")
        .arg(&["127.0.0.1", &of])
        .exec(&mut replica.connection())
        .expect("REPLICAOF");
    wait_until("the replica is in step, as its primary sees it", || {
        let info: String = cmd("INFO")
            .arg("replication")
            .query(&mut world.stack.redis())
            .expect("INFO");
        info.contains("state=online")
    });
    cmd("FAILOVER")
        .arg(&["TO", "127.0.0.1", &replica.port().to_string(), "TIMEOUT", "30000"])
        .exec(&mut world.stack.redis())
        .expect("FAILOVER");
    wait_for_line(&mut worker, &["waiting for redis", "READONLY"]);
    world.redis.retarget(replica.port());
    world.stack.redis = replica;
    world.finish(worker);
}

#[test]
fn a_stream_or_group_deleted_under_a_blocked_reader_is_recreated_without_a_hot_loop() {
    let mut world = World::new("redis_forgets");
    let worker = world.worker().env("LOG_LEVEL", "DEBUG").spawn();
    let gone: [&[&str]; 3] = [&["FLUSHALL"], &["XGROUP", "DESTROY", EVENTS, GROUP], &["DEL", EVENTS]];
    let mut counted = 0;
    for command in gone {
        world.push(200);
        wait_until("all is acknowledged", || {
            equal(world.counted() + counted, world.sent.total)
        });
        if command[0] == "FLUSHALL" {
            counted = world.counted();
        }
        let before = worker.log().lines().count();
        cmd(command[0])
            .arg(&command[1..])
            .exec(&mut world.stack.redis())
            .expect("a command that takes away");
        if command[0] == "XGROUP" {
            // What is left in the stream is read again from its start, and counted again.
            let left = world.stack.stream_len();
            wait_until("it is read again", || {
                equal(world.counted() + counted, world.sent.total + left)
            });
            counted -= left;
        }
        wait_until("the group is made again", || !world.stack.groups().is_empty());
        let lines = worker.log().lines().count() - before;
        assert!(lines < 30, "{lines} lines; {}", shown(&worker.log()));
    }
    world.push(N_REST);
    wait_until("the rest is applied", || {
        equal(world.counted() + counted, world.sent.total)
    });
    wait_until("nothing is pending", || equal(world.stack.pending(), 0));
    assert_eq!(world.stack.dead_letters().len(), 0);
    crate::support::assert_same(&world.stack.snapshot(), super::undisturbed());
    worker.signal(libc::SIGTERM);
    let mut worker = worker;
    assert_eq!(worker.wait_exit(Duration::from_secs(45)).code(), Some(0));
}

#[test]
fn a_stream_or_group_deleted_while_entries_are_applied_costs_no_row() {
    for gone in [&["FLUSHALL"][..], &["XGROUP", "DESTROY", EVENTS, GROUP]] {
        let mut world = World::new("redis_forgets_in_flight");
        let worker = world.worker().env("CLAIM_IDLE_MS", "1000").spawn();
        world.push(200);
        world.settle();
        let mut lock = world.stack.database.client();
        let mut lock = lock.transaction().expect("a transaction");
        lock.batch_execute("lock table users").expect("the lock");
        world.push(200);
        wait_until("all is read and most of it in flight", || {
            let is_read = world.stack.groups()[0]["entries-read"] == "400";
            is_read && world.stack.pending() > 100
        });
        cmd(gone[0])
            .arg(&gone[1..])
            .exec(&mut world.stack.redis())
            .expect("a command that takes away");
        lock.rollback().expect("the lock goes");
        world.push_rest();
        wait_until("all is read and acknowledged", || {
            let groups = world.stack.groups();
            let lag = groups.first().map(|group| group["lag"].clone()).unwrap_or_default();
            equal((lag.as_str(), world.stack.pending()), ("0", 0))
        });
        world.stack.assert_counters_equal_rows();
        crate::support::assert_same(&world.stack.snapshot(), super::undisturbed());
        let again = cmd("HGET")
            .arg(format!("firehose:worker:losses:{GROUP}"))
            .arg("groups_recreated")
            .to_owned();
        wait_until("it is counted", || {
            equal(again.query(&mut world.stack.redis()).expect("HGET"), Some(1))
        });
        let mut worker = worker;
        assert!(worker.runs(), "{}", shown(&worker.log()));
    }
}

/// What is left of the stream after three parts of 200.
const N_REST: usize = super::N_EVENTS - 600;
