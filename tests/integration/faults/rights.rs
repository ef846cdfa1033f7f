//! A Redis user and a PostgreSQL role that lack rights.

use redis::cmd;

use super::postgres::{as_role, make_role};
use super::{World, lines_with, wait_for_line};
use crate::support::wait::equal;
use crate::support::{RedisServer, wait_until};

fn acl(server: &RedisServer, rules: &[&str]) {
    let mut command = cmd("ACL");
    command.arg(&["SETUSER", "feeder"]).arg(rules);
    command.exec(&mut server.connection()).expect("ACL SETUSER");
}

fn redis_url_of(world: &World, user: &str) -> String {
    format!("redis://{user}@127.0.0.1:{}", world.redis.port())
}

#[test]
fn a_redis_user_that_may_only_read_and_acknowledge_is_enough() {
    let mut world = World::new("acl_least");
    let least = ["on", ">pw", "~firehose:events", "+xreadgroup", "+xack"];
    acl(&world.stack.redis, &least);
    world.stack.create_group();
    world
        .stack
        .push_fields(&[("type", b"commit"), ("data", b"no json"), ("seq", b"")]);
    world.push(300);
    let mut worker = world
        .worker()
        .env("REDIS_URL", &redis_url_of(&world, "feeder:pw"))
        .spawn();
    wait_until("all but the poison is acknowledged", || {
        let group = &world.stack.groups()[0];
        equal(
            (world.stack.pending(), group["entries-read"].parse()),
            (1, Ok(world.sent.total + 1)),
        )
    });
    let rules = [
        "firehose:worker:*",
        "+hincrby",
        "+xgroup|create",
        "+xautoclaim",
        "+xadd",
        "+xpending",
        "+multi",
        "+time",
    ];
    for rule in rules {
        wait_for_line(&mut worker, &["allow", rule]);
    }
    wait_for_line(&mut worker, &["refuses the counters"]);
    assert_eq!(
        lines_with(&worker.log(), &["refuses the counters"]),
        1,
        "{}",
        worker.log()
    );
    assert_eq!(lines_with(&worker.log(), &["+xgroup|create"]), 1, "{}", worker.log());
    // One right after the other: what lacks one still waits.
    acl(
        &world.stack.redis,
        &[
            "~firehose:*",
            "~cluster:metrics",
            "+hincrby",
            "+get",
            "+set",
            "+watch",
            "+unwatch",
            "+xadd",
        ],
    );
    acl(&world.stack.redis, &["+exec", "+multi"]);
    wait_until("the error is counted", || {
        equal(world.stack.metric("cluster:metrics", "errors"), 1)
    });
    world.settle();
    assert_eq!(world.stack.dead_letters().len(), 1);
    world.push_rest();
    world.settle();
    for key in ["firehose:metrics", "cluster:metrics"] {
        assert_eq!(world.stack.metric(key, "totalEvents"), world.sent.total, "{key}");
    }
    wait_until("nothing is pending", || equal(world.stack.pending(), 0));
    crate::support::assert_same(&world.stack.snapshot(), super::undisturbed());
}

#[test]
fn commands_that_the_worker_needs_are_waited_for_until_they_are_allowed() {
    let mut world = World::new("acl_needed");
    acl(
        &world.stack.redis,
        &["on", ">pw", "~*", "+@all", "-xreadgroup", "-xack"],
    );
    world.push(200);
    let mut worker = world
        .worker()
        .env("REDIS_URL", &redis_url_of(&world, "feeder:pw"))
        .spawn();
    wait_for_line(&mut worker, &["cannot read from redis", "NOPERM", "+xreadgroup"]);
    acl(&world.stack.redis, &["+xreadgroup"]);
    wait_for_line(&mut worker, &["refuses acknowledgements", "NOPERM", "+xack"]);
    wait_until("all is read", || equal(world.stack.pending(), 200));
    assert_eq!(world.counted(), 0);
    acl(&world.stack.redis, &["+xack"]);
    world.settle();
    let log = world.finish(worker);
    assert_eq!(lines_with(&log, &["refuses acknowledgements"]), 1, "{log}");
    assert_eq!(lines_with(&log, &["cannot read from redis"]), 1, "{log}");
}

#[test]
fn a_user_without_multi_or_exec_gets_no_half_of_a_transaction() {
    for missing in ["-multi", "-exec"] {
        let mut world = World::new("acl_multi");
        acl(&world.stack.redis, &["on", ">pw", "~*", "+@all", missing]);
        world
            .stack
            .push_fields(&[("type", b"commit"), ("data", b"no json"), ("seq", b"")]);
        world.push(200);
        let mut worker = world
            .worker()
            .env("REDIS_URL", &redis_url_of(&world, "feeder:pw"))
            .spawn();
        wait_for_line(&mut worker, &["refuses the counters", "NOPERM", "+multi +exec"]);
        wait_for_line(&mut worker, &["refuses dead letters", "NOPERM", "+multi +exec"]);
        wait_until("all but the poison is acknowledged", || equal(world.stack.pending(), 1));
        assert_eq!(world.counted(), 0);
        assert_eq!(world.stack.dead_letters().len(), 0);
        acl(&world.stack.redis, &[&missing.replace('-', "+")]);
        world.settle();
        wait_until("the error is counted", || {
            equal(world.stack.metric("cluster:metrics", "errors"), 1)
        });
        assert_eq!(world.stack.dead_letters().len(), 1);
    }
}

#[test]
fn a_redis_password_that_is_wrong_or_missing_is_waited_for() {
    for user in ["feeder:wrong", ""] {
        let mut world = World::new("acl_password");
        acl(&world.stack.redis, &["on", ">pw", "~*", "+@all"]);
        world.push(200);
        let url = match user {
            "" => format!("redis://127.0.0.1:{}", world.redis.port()),
            user => redis_url_of(&world, user),
        };
        if user.is_empty() {
            world.stack.redis.configure("requirepass", "pw");
        }
        let mut worker = world.worker().env("REDIS_URL", &url).spawn();
        wait_for_line(&mut worker, &["waiting for redis"]);
        if user.is_empty() {
            let url = format!("redis://:pw@127.0.0.1:{}", world.stack.redis.port());
            let client = redis::Client::open(url).expect("a URL");
            let mut connection = client.get_connection().expect("a connection");
            cmd("CONFIG")
                .arg(&["SET", "requirepass", ""])
                .exec(&mut connection)
                .expect("CONFIG SET");
        } else {
            acl(&world.stack.redis, &[">wrong"]);
        }
        world.finish(worker);
    }
}

#[test]
fn a_role_without_a_right_is_waited_for_with_what_to_grant() {
    let mut world = World::new("role_rights");
    make_role(&world.stack);
    world.stack.sql("revoke insert on likes from feeder");
    let url = as_role(&world.stack.database_url());
    world.push(300);
    let mut worker = world.worker().env("DATABASE_URL", &url).spawn();
    wait_for_line(
        &mut worker,
        &[
            "permission denied for table likes",
            "42501",
            "grant",
            "paused until this is fixed",
        ],
    );
    world.stack.sql("grant insert on likes to feeder");
    world.finish(worker);
}

/// The commands that the worker does without if Redis does not know them, except those that this test would wait for.
const OPTIONAL: [&str; 9] = [
    "XAUTOCLAIM",
    "XCLAIM",
    "XPENDING",
    "XINFO",
    "XLEN",
    "TIME",
    "HGET",
    "HSET",
    "EXISTS",
];

#[test]
fn a_redis_that_lacks_some_commands_is_enough_and_no_right_is_suggested() {
    let mut renamed: Vec<Vec<&str>> = vec![
        OPTIONAL.to_vec(),
        vec!["WATCH", "UNWATCH", "MULTI", "EXEC", "SET", "GET"],
    ];
    renamed.extend(
        OPTIONAL
            .into_iter()
            .filter(|_| crate::support::skip::is_full())
            .map(|command| vec![command]),
    );
    for commands in renamed {
        let renames: Vec<&str> = commands
            .iter()
            .flat_map(|&name| ["--rename-command", name, ""])
            .collect();
        let mut world = World::with_redis("renamed", RedisServer::start_with(&renames));
        world.push_rest();
        let output = world.stack.worker().arg("--drain").run_to_exit();
        let log = output.log;
        assert!(output.status.success(), "{commands:?}: {log}");
        let remedy = ["unknown command", "take its rename-command out of redis.conf"];
        assert!(lines_with(&log, &remedy) > 0, "{commands:?}: {log}");
        assert_eq!(
            lines_with(&log, &["unknown command", "allow"]),
            0,
            "{commands:?}: {log}"
        );
        crate::support::assert_same(&world.stack.snapshot(), super::undisturbed());
    }
}
