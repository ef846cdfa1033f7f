//! Faults of Redis, and of what is in it.

use redis::cmd;

use super::check;
use crate::support::postgres::Database;
use crate::support::stack::{EVENTS, GROUP};
use crate::support::{PostgresServer, RedisServer, Stack, wait_until};

fn with(name: &str, arguments: &[&str]) -> Stack {
    Stack::of(
        RedisServer::start_with(arguments),
        Database::new(PostgresServer::shared(), name),
    )
}

fn run(stack: &Stack, words: &[&str]) {
    cmd(words[0])
        .arg(&words[1..])
        .exec(&mut stack.redis())
        .unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

#[test]
fn a_redis_that_is_gone_or_stalls_is_told_and_ends_the_looks_at_it() {
    let stack = Stack::new("check_redis_gone");
    stack.redis.signal(libc::SIGSTOP);
    check(&stack, &[]).assert_finds("fail", "redis", &["no answer"]);
    stack.redis.signal(libc::SIGCONT);
    stack.redis.stop();
    let checked = check(&stack, &[]);
    checked.assert_finds("fail", "redis", &["refused", "start Redis"]);
    checked.assert_finds("ok", "statements", &[]);
}

#[test]
fn a_wrong_password_is_told() {
    let stack = with("check_redis_password", &["--requirepass", "right"]);
    let url = stack.redis_url();
    for address in [url.replace("redis://", "redis://:wrong@"), url] {
        let checked = check(&stack, &[("REDIS_URL", &address)]);
        checked.assert_finds("fail", "redis", &["user and password into REDIS_URL"]);
    }
}

#[test]
fn a_replica_is_told_with_its_master() {
    let master = RedisServer::start();
    let port = master.port().to_string();
    let stack = with("check_replica", &["--replicaof", "127.0.0.1", &port]);
    let words = format!("127.0.0.1:{port}");
    check(&stack, &[]).assert_finds("fail", "redis role", &["a replica of", &words]);
}

#[test]
fn a_master_without_the_replicas_it_wants_is_told() {
    let stack = with("check_min_replicas", &["--min-replicas-to-write", "1"]);
    check(&stack, &[]).assert_finds("fail", "redis role", &["min-replicas-to-write"]);
}

#[test]
fn a_policy_that_throws_keys_away_and_full_memory_are_told() {
    let stack = with(
        "check_policy",
        &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
    );
    check(&stack, &[]).assert_finds("warn", "redis memory", &["allkeys-lru", "noeviction"]);
    run(&stack, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    check(&stack, &[]).assert_finds("ok", "redis memory", &["100 MiB"]);
    run(&stack, &["SET", "filling", &"x".repeat(8 << 20)]);
    run(&stack, &["CONFIG", "SET", "maxmemory", "9mb"]);
    check(&stack, &[]).assert_finds("warn", "redis memory", &["raise maxmemory"]);
}

#[test]
fn a_disk_that_cannot_be_written_is_told_and_an_append_only_file_is_fine() {
    let stack = with("check_disk", &["--appendonly", "yes"]);
    check(&stack, &[]).assert_finds("ok", "redis persistence", &["append-only file"]);
    let broken = with("check_broken_disk", &["--save", "3600 1", "--dbfilename", "dump.rdb"]);
    check(&broken, &[]).assert_finds("ok", "redis persistence", &["save 3600 1"]);
    // Its folder is taken away, so the snapshot fails, whoever it runs as.
    let dir: Vec<String> = cmd("CONFIG")
        .arg("GET")
        .arg("dir")
        .query(&mut broken.redis())
        .expect("CONFIG");
    std::fs::remove_dir_all(&dir[1]).expect("the server's folder");
    run(&broken, &["SET", "a", "b"]);
    run(&broken, &["BGSAVE"]);
    wait_until("the snapshot fails", || {
        let info: String = cmd("INFO").arg("persistence").query(&mut broken.redis()).expect("INFO");
        info.contains("rdb_last_bgsave_status:err")
    });
    check(&broken, &[]).assert_finds("fail", "redis persistence", &["disk"]);
    std::fs::create_dir_all(&dir[1]).expect("the server's folder");
}

#[test]
fn each_right_that_a_user_lacks_is_told_as_the_rule_that_allows_it() {
    let stack = Stack::new("check_acl");
    stack.create_group();
    let as_user = |rules: &[&str]| {
        let rules = [&["ACL", "SETUSER", "feeder", "reset", "on", ">secret"], rules].concat();
        run(&stack, &rules);
        let url = stack.redis_url().replace("redis://", "redis://feeder:secret@");
        check(&stack, &[("REDIS_URL", &url)])
    };
    let least = ["~firehose:events", "+xreadgroup", "+xack", "+xgroup", "+xautoclaim"];
    let all = [
        "~firehose:*",
        "~cluster:metrics",
        "~db:record_counts",
        "+xreadgroup",
        "+xack",
        "+xgroup",
        "+xautoclaim",
        "+xclaim",
        "+xpending",
        "+xinfo",
        "+xadd",
        "+xlen",
        "+hincrby",
        "+exists",
        "+get",
        "+set",
        "+del",
        "+pexpire",
        "+hget",
        "+hset",
        "+hgetall",
        "+watch",
        "+unwatch",
        "+multi",
        "+exec",
        "+discard",
        "+info",
    ];
    as_user(&all).assert_finds("ok", "redis rights", &["feeder"]);

    let checked = as_user(&least);
    checked.assert_finds(
        "warn",
        "redis rights",
        &[
            "dashboard",
            "ACL SETUSER feeder ",
            "~cluster:metrics",
            "~firehose:dead-letters",
            "+hincrby",
            "+exec",
        ],
    );
    checked.assert_finds("warn", "redis", &["+info"]);
    checked.assert_nothing_fails();

    for rule in &least[1..] {
        let rules: Vec<&str> = all.iter().copied().filter(|other| other != rule).collect();
        as_user(&rules).assert_finds(
            "fail",
            "redis rights",
            &[&format!("ACL SETUSER feeder ~firehose:events {rule}\"")],
        );
    }
    let others: Vec<&str> = all.iter().copied().filter(|rule| *rule != "~firehose:*").collect();
    as_user(&others).assert_finds("fail", "redis rights", &["ACL SETUSER feeder ~firehose:events\""]);
}

#[test]
fn a_stream_and_a_group_that_are_not_there_are_told() {
    let stack = Stack::new("check_stream");
    let checked = check(&stack, &[]);
    checked.assert_finds("warn", "stream", &["not there yet"]);
    stack.push_fields(&[("type", b"account"), ("data", b"{}")]);
    check(&stack, &[]).assert_finds("warn", "group", &["reads all 1 entries"]);
    run(&stack, &["XGROUP", "CREATE", EVENTS, GROUP, "0"]);
    run(&stack, &["SET", "text", "x"]);
    let other = [("REDIS_STREAM_KEY", "text")];
    check(&stack, &other).assert_finds("fail", "stream", &["holds a string", "REDIS_STREAM_KEY"]);
}

#[test]
fn what_is_pending_unread_dead_and_lost_is_told() {
    let stack = Stack::new("check_pending");
    stack.create_group();
    stack.push_fields(&[("type", b"account"), ("data", b"{}")]);
    stack.read_and_abandon("gone", 1);
    for _ in 0..9 {
        stack.push_fields(&[("type", b"account"), ("data", b"{}")]);
    }
    run(&stack, &["XADD", "firehose:dead-letters", "*", "type", "commit"]);
    run(
        &stack,
        &[
            "HSET",
            "firehose:worker:losses:firehose-processors",
            "unread_trimmed",
            "7",
        ],
    );
    run(
        &stack,
        &[
            "SET",
            "firehose:status",
            r#"{"connected":true,"url":"wss://relay","currentCursor":"42"}"#,
        ],
    );
    run(
        &stack,
        &[
            "SET",
            "firehose:worker:holder:firehose-processors:me",
            "host pid 7 boot x y start 1",
        ],
    );
    let settings = [("CONSUMER_ID", "me"), ("REDIS_MAX_STREAM_LEN", "10")];
    let checked = check(&stack, &settings);
    checked.assert_finds("ok", "stream", &["10 entries"]);
    checked.assert_finds("ok", "pending", &["1 entries pending", "gone (1 pending"]);
    checked.assert_finds("warn", "backlog", &["9 entries are unread, of 10"]);
    checked.assert_finds("ok", "dead letters", &["1 of about 10000", "dead-letters list"]);
    checked.assert_finds("warn", "losses", &["7 entries"]);
    checked.assert_finds("ok", "producer", &["cursor 42"]);
    checked.assert_finds("ok", "worker", &["host pid 7 runs as me"]);
    checked.assert_finds("ok", "trim headroom", &[]);

    run(
        &stack,
        &[
            "SET",
            "firehose:status",
            r#"{"connected":false,"url":"wss://relay","currentCursor":null}"#,
        ],
    );
    wait_until("the entry is idle for longer than 100 ms", || {
        check(&stack, &[("CLAIM_IDLE_MS", "100")])
            .findings()
            .iter()
            .any(|finding| finding["what"] == "pending" && finding["level"] == "warn")
    });
    let checked = check(&stack, &[("REDIS_DEAD_LETTER_MAXLEN", "1")]);
    checked.assert_finds("warn", "dead letters", &["replay or drop"]);
    checked.assert_finds("warn", "producer", &["not connected"]);

    run(&stack, &["XTRIM", EVENTS, "MAXLEN", "2"]);
    check(&stack, &[]).assert_finds("warn", "backlog", &["trimmed before they were read"]);
}
