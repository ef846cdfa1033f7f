//! Redis returns to an earlier state: entries acknowledged since are delivered again, some of them while later entries
//! of the same repos are in flight.

use postgres::Client;
use redis::cmd;
use serde_json::json;

use super::{LIMIT, World, undisturbed};
use crate::generator::{Event, Events};
use crate::support::entries::{CREATED_AT, did, like, uri};
use crate::support::proxy::{Network, Proxy};
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{
    Database, EVENTS, GROUP, PostgresServer, RedisServer, Stack, Worker, assert_same, wait_until, wait_until_within,
};

/// The state to which Redis returns.
enum Earlier {
    Snapshot,
    /// The append-only file up to here.
    Log(u64),
    Replica {
        server: RedisServer,
        /// The connection over which the replica no longer receives anything.
        link: Proxy,
    },
    /// An earlier position of the group, while all connections stay open.
    Place,
}

impl Earlier {
    fn replica(primary: &RedisServer) -> Earlier {
        let (server, link) = (RedisServer::start(), Proxy::to(primary.port()));
        cmd("REPLICAOF")
            .arg(&["127.0.0.1", &link.port().to_string()])
            .exec(&mut server.connection())
            .expect("REPLICAOF");
        wait_until("the replica has what the primary has", || {
            let wait = cmd("WAIT").arg(1).arg(100).query(&mut primary.connection());
            equal(wait.expect("WAIT"), 1)
        });
        link.set(Network::Stall);
        Earlier::Replica { server, link }
    }

    fn come_back(self, world: &mut World) {
        match self {
            Earlier::Snapshot => world.stack.redis.go_back(),
            Earlier::Log(length) => world.stack.redis.cut_log(length),
            Earlier::Replica { server, link } => {
                cmd("REPLICAOF")
                    .arg(&["NO", "ONE"])
                    .exec(&mut server.connection())
                    .expect("REPLICAOF NO ONE");
                drop(link);
                world.redis.retarget(server.port());
                world.stack.redis = server;
                world.redis.reset();
            }
            Earlier::Place => set_place(&world.stack, "0"),
        }
    }
}

pub(super) fn set_place(stack: &Stack, id: &str) {
    cmd("XGROUP")
        .arg(&["SETID", EVENTS, GROUP, id])
        .exec(&mut stack.redis())
        .expect("XGROUP SETID");
}

/// The ID of the last entry that was delivered, and how many are pending.
pub(super) fn place(stack: &Stack) -> (String, i64) {
    let groups = stack.groups();
    let last = groups.first().map(|group| group["last-delivered-id"].clone());
    (last.unwrap_or_default(), stack.pending())
}

/// Waits until all that is in the stream is read and acknowledged.
#[track_caller]
pub(super) fn settle(stack: &Stack) {
    let newest: Vec<(String, Vec<(String, String)>)> = cmd("XREVRANGE")
        .arg(&[EVENTS, "+", "-", "COUNT", "1"])
        .query(&mut stack.redis())
        .expect("XREVRANGE");
    let (newest, _) = newest.into_iter().next().expect("an entry");
    wait_until_within("all is acknowledged", LIMIT, || {
        equal(place(stack), (newest.clone(), 0))
    });
}

pub(super) fn stop(mut worker: Worker) -> String {
    worker.signal(libc::SIGTERM);
    let status = worker.wait_exit(std::time::Duration::from_secs(45));
    assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
    worker.log()
}

/// A like is acknowledged, its delete in flight, held up by a lock; then Redis knows of neither.
fn like_comes_again_under_its_delete(redis: RedisServer, keep: impl FnOnce(&World) -> Earlier) -> String {
    let mut world = World::with_redis("earlier", redis);
    let (alice, subject) = (did("alice"), uri(&did("bob"), "app.bsky.feed.post/1"));
    let list = json!({"$type": "app.bsky.graph.list", "name": "friends", "purpose": "app.bsky.graph.defs#curatelist",
        "createdAt": CREATED_AT});
    world.stack.create_group();
    world.stack.create(&alice, "app.bsky.feed.like/1", like(&subject));
    let last = world.stack.commit(
        &alice,
        json!([
            {"action": "delete", "path": "app.bsky.feed.like/1"},
            {"action": "create", "path": "app.bsky.graph.list/1", "cid": "bafyreilist", "record": list},
        ]),
    );
    let earlier = keep(&world);
    let mut client: Client = world.stack.database.client();
    let mut lock = client.transaction().expect("a transaction");
    lock.batch_execute("lock table lists").expect("the lock");
    let worker = world.worker().env("MAX_BATCH_ENTRIES", "1").spawn();
    wait_until("the like is acknowledged, and its delete in flight", || {
        equal(
            (place(&world.stack), world.stack.count("likes")),
            ((last.clone(), 1), 1),
        )
    });
    let is_place = matches!(earlier, Earlier::Place);
    earlier.come_back(&mut world);
    wait_until("the worker has found it so", || match is_place {
        true => equal(place(&world.stack).0, last.clone()),
        // The holder of the consumer name renews its key every two seconds.
        false => equal(holders(&world.stack), 1),
    });
    lock.rollback().expect("the lock goes");
    settle(&world.stack);
    let log = stop(worker);
    assert_eq!(world.stack.count("lists"), 1, "{}", shown(&log));
    assert_eq!(
        world.stack.rows("likes"),
        Vec::<serde_json::Value>::new(),
        "{}",
        shown(&log)
    );
    world.stack.assert_counters_equal_rows();
    log
}

fn holders(stack: &Stack) -> usize {
    let keys: Vec<String> = cmd("KEYS")
        .arg("firehose:worker:holder:*")
        .query(&mut stack.redis())
        .unwrap_or_default();
    keys.len()
}

#[test]
fn a_like_that_a_restored_snapshot_delivers_again_under_its_delete_stays_deleted() {
    like_comes_again_under_its_delete(RedisServer::start(), |world| {
        world.stack.redis.keep();
        Earlier::Snapshot
    });
}

#[test]
fn a_like_that_a_cut_append_only_file_delivers_again_under_its_delete_stays_deleted() {
    let redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    like_comes_again_under_its_delete(redis, |world| Earlier::Log(world.stack.redis.log_length()));
}

#[test]
fn a_like_that_a_replica_that_lagged_delivers_again_under_its_delete_stays_deleted() {
    like_comes_again_under_its_delete(RedisServer::start(), |world| Earlier::replica(&world.stack.redis));
}

#[test]
fn a_like_that_a_group_set_back_delivers_again_under_its_delete_stays_deleted() {
    let log = like_comes_again_under_its_delete(RedisServer::start(), |_| Earlier::Place);
    assert_eq!(
        super::lines_with(&log, &["redis is in an earlier state"]),
        1,
        "{}",
        shown(&log)
    );
}

/// Workers on a backlog of these events, of which some go while others come again.
struct Load {
    world: World,
    workers: Vec<Worker>,
}

impl Load {
    fn new(redis: RedisServer, events: &[Event], n_workers: usize) -> Load {
        let world = World::with_redis("earlier_load", redis);
        world.stack.push_events(events.iter().cloned());
        world.stack.create_group();
        let start = |n: usize| {
            let worker = world.worker().env("CONSUMER_ID", &format!("worker-{n}"));
            worker.env("BATCH_SIZE", "5").env("MAX_BATCH_ENTRIES", "20").spawn()
        };
        let workers = (0..n_workers).map(start).collect();
        Load { world, workers }
    }

    fn wait_for(&self, n_acknowledged: usize) {
        wait_until_within("a part is acknowledged", LIMIT, || {
            usize::try_from(self.world.stack.acknowledged()).is_ok_and(|n| n >= n_acknowledged)
        });
    }

    /// Waits until all is acknowledged, and compares with a run of which Redis did not go back.
    fn finish(self, wanted: &crate::support::Snapshot) {
        settle(&self.world.stack);
        for worker in self.workers {
            println!("{}", shown(&stop(worker)));
        }
        assert_eq!(self.world.stack.dead_letters().len(), 0);
        self.world.stack.assert_counters_equal_rows();
        assert_same(&self.world.stack.snapshot(), wanted);
    }
}

#[test]
fn a_snapshot_that_is_restored_under_load_leaves_the_rows_of_a_run_without_it() {
    for n_workers in [1, 2] {
        let load = Load::new(RedisServer::start(), super::events(), n_workers);
        load.wait_for(100);
        load.world.stack.redis.keep();
        load.wait_for(500);
        load.world.stack.redis.go_back();
        load.finish(undisturbed());
    }
}

#[test]
fn an_append_only_file_that_loses_its_end_under_load_changes_no_result() {
    for n_workers in [1, 2] {
        let redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let load = Load::new(redis, super::events(), n_workers);
        load.wait_for(100);
        // A command may be cut in two.
        let length = load.world.stack.redis.log_length() - 3;
        load.wait_for(500);
        load.world.stack.redis.cut_log(length);
        load.finish(undisturbed());
    }
}

#[test]
fn a_failover_to_a_lagging_replica_under_load_changes_no_result() {
    for n_workers in [1, 2] {
        let mut load = Load::new(RedisServer::start(), super::events(), n_workers);
        let replica = Earlier::replica(&load.world.stack.redis);
        load.wait_for(500);
        replica.come_back(&mut load.world);
        load.finish(undisturbed());
    }
}

#[test]
fn a_group_that_is_set_back_repeatedly_under_load_changes_no_result() {
    for n_workers in [1, 2] {
        let load = Load::new(RedisServer::start(), super::events(), n_workers);
        for _ in 0..10 {
            let (before, _) = place(&load.world.stack);
            wait_until("something is read", || place(&load.world.stack).0 != before);
            set_place(&load.world.stack, "0");
        }
        load.finish(undisturbed());
    }
}

#[test]
#[ignore = "slow; tests/run.sh --all runs it"]
fn a_large_backlog_whose_redis_is_killed_and_restored_again_and_again_ends_exactly() {
    const N_EVENTS: usize = 30_000;
    let rounds = std::env::var("FIREHOSE_TEST_ROUNDS").map_or(20, |rounds| rounds.parse().expect("a number of rounds"));
    let events: Vec<Event> = Events::new(78, N_EVENTS as u64).collect();
    let alone = Stack::of(
        RedisServer::start(),
        Database::new(PostgresServer::shared(), "earlier_alone"),
    );
    alone.push_events(events.iter().cloned());
    alone.drain();
    let wanted = alone.snapshot();
    for round in 0..rounds {
        eprintln!("round {round}");
        // Redis' own defaults.
        let redis = RedisServer::start_with(&["--save", "3600 1 300 100 60 10000"]);
        let load = Load::new(redis, &events, 1 + round % 2);
        load.wait_for(N_EVENTS * 3 / 10);
        load.world.stack.redis.keep();
        load.wait_for(N_EVENTS * 6 / 10);
        load.world.stack.redis.go_back();
        load.finish(&wanted);
    }
}

#[test]
fn a_like_that_a_snapshot_makes_pending_again_stays_deleted() {
    let world = World::new("earlier_pending");
    let (alice, subject) = (did("alice"), uri(&did("bob"), "app.bsky.feed.post/1"));
    world.stack.create_group();
    let first = world.worker().env("CONSUMER_ID", "first").spawn();
    let second_redis = Proxy::to(world.stack.redis.port());
    let second = world.stack.worker().env("CONSUMER_ID", "second");
    let second = second
        .env("REDIS_URL", &format!("redis://127.0.0.1:{}", second_redis.port()))
        .spawn();
    second_redis.hold("XREADGROUP");
    wait_until("the second process does not read", || equal(second_redis.lost(), 1));
    world.redis.hold("XACK");
    world.stack.create(&alice, "app.bsky.feed.like/1", like(&subject));
    wait_until("the first process has applied the like", || {
        equal((world.redis.lost(), world.stack.count("likes")), (1, 1))
    });
    world.redis.set(Network::Stall);
    wait_until("the first process does not read", || {
        equal(world.stack.blocked_clients(), 0)
    });
    world.stack.delete(&alice, "app.bsky.feed.like/1");
    second_redis.release();
    wait_until("the second process has acknowledged the delete", || {
        equal((place(&world.stack).1, world.stack.count("likes")), (1, 0))
    });
    world.stack.redis.keep();
    world.redis.set(Network::Forward);
    world.redis.release();
    settle(&world.stack);
    wait_until("the version of the delete is pruned", || {
        equal(world.stack.count("firehose_worker.versions"), 0)
    });
    world.stack.redis.go_back();
    settle(&world.stack);
    let log = [first, second].map(stop).join("\n");
    assert_eq!(world.stack.count("likes"), 0, "{}", shown(&log));
    world.stack.assert_counters_equal_rows();
}

#[test]
fn a_stream_deleted_while_two_processes_hold_entries_costs_no_row() {
    let mut world = World::new("earlier_flushall");
    world.stack.create_group();
    let workers =
        ["first", "second"].map(|name| world.worker().env("CONSUMER_ID", name).env("BATCH_SIZE", "5").spawn());
    world.push(200);
    settle(&world.stack);
    let mut client = world.stack.database.client();
    let mut lock = client.transaction().expect("a transaction");
    lock.batch_execute("lock table users").expect("the lock");
    world.push(200);
    // The entries before the lock are acknowledged; those behind it are nowhere but in the two processes soon.
    wait_until("all is read and most of it in flight", || {
        world.stack.groups()[0]["entries-read"] == "400" && world.stack.pending() > 100
    });
    cmd("FLUSHALL").exec(&mut world.stack.redis()).expect("FLUSHALL");
    world.push(100);
    lock.rollback().expect("the lock goes");
    world.push_rest();
    settle(&world.stack);
    workers.into_iter().for_each(|worker| _ = stop(worker));
    world.stack.assert_counters_equal_rows();
    assert_same(&world.stack.snapshot(), undisturbed());
}
