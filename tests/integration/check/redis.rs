//! Faults of Redis, and of what is in it.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::cmd;

use super::{Checked, check};
use crate::support::postgres::Database;
use crate::support::proxy::Proxy;
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
fn a_redis_in_cluster_mode_is_told() {
    let stack = with("check_cluster", &["--cluster-enabled", "yes"]);
    run(&stack, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    check(&stack, &[]).assert_finds("fail", "redis", &["cluster mode", "set cluster-enabled no"]);
}

#[test]
fn a_group_that_has_read_nothing_of_a_stream_that_was_not_trimmed_has_lost_nothing() {
    let stack = Stack::new("check_unread");
    stack.create_group();
    for _ in 0..3 {
        stack.push_fields(&[("type", b"identity"), ("data", b"{}"), ("seq", b"")]);
    }
    let checked = check(&stack, &[]);
    checked.assert_finds("ok", "backlog", &["3 unread"]);
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
fn refused_writes_are_told_to_a_user_without_info() {
    let without_info = ALL.replace(" +info", "");
    let stack = with("check_no_info", &["--replicaof", "127.0.0.1", "1"]);
    as_user(&stack, &without_info).assert_finds("fail", "redis role", &["a replica", "name its master"]);
    let stack = with("check_no_info_replicas", &["--min-replicas-to-write", "1"]);
    let words = ["CONFIG SET min-replicas-to-write 0"];
    as_user(&stack, &without_info).assert_finds("fail", "redis role", &words);
}

#[test]
fn a_master_without_the_replicas_it_wants_is_told() {
    let stack = with("check_min_replicas", &["--min-replicas-to-write", "1"]);
    check(&stack, &[]).assert_finds("fail", "redis role", &["min-replicas-to-write"]);
}

#[test]
fn a_redis_that_is_too_old_and_a_clock_that_is_off_are_told() {
    let stack = Stack::new("check_redis_version");
    let proxy = Proxy::to(stack.redis.port());
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let info: String = cmd("INFO").arg("server").query(&mut stack.redis()).expect("INFO");
    let line = info
        .lines()
        .find(|line| line.starts_with("redis_version:"))
        .expect("a version");
    // The same line from Redis 6.0, which comes with a clock of days ago.
    proxy.rewrite(&line[..17], "redis_version:6.0");
    proxy.rewrite("valkey_version", "-alkey_version");
    let (seconds, _): (String, String) = cmd("TIME").query(&mut stack.redis()).expect("TIME");
    proxy.rewrite(&format!("$10\r\n{}", &seconds[..4]), "$10\r\n1700");
    let checked = check(&stack, &[("REDIS_URL", &url)]);
    checked.assert_finds("fail", "redis", &["version 6.0", "6.2 or newer"]);
    checked.assert_finds("warn", "redis clock", &["behind this machine's", "NTP"]);
}

#[test]
fn a_redis_that_loads_its_data_is_told() {
    let load_slowly = [
        "--key-load-delay",
        "10000",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let stack = with("check_loading", &load_slowly);
    let mut pipeline = redis::pipe();
    for key in 0..200 {
        pipeline.set(format!("key-{key}"), "x".repeat(100)).ignore();
    }
    pipeline.cmd("SAVE").exec(&mut stack.redis()).expect("keys on disk");
    stack.redis.kill();
    std::thread::scope(|scope| {
        scope.spawn(|| stack.redis.restart());
        wait_until("a check finds Redis loading", || {
            let checked = check(&stack, &[]);
            let role = checked
                .findings()
                .iter()
                .find(|finding| finding["what"] == "redis role");
            let is_loading = role.is_some_and(|role| role["found"] == "Redis loads its data");
            if is_loading {
                checked.assert_finds("fail", "redis role", &["wait until it has finished"]);
            }
            is_loading
        });
    });
}

#[test]
fn a_policy_that_throws_keys_away_and_full_memory_are_told() {
    check(&Stack::new("check_no_limit"), &[]).assert_finds("ok", "redis memory", &["no limit", "set maxmemory"]);
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
fn an_append_only_file_that_cannot_be_written_is_told() {
    let redis = RedisServer::with_file_limit(1 << 18, &["--appendonly", "yes"]);
    redis.restart();
    let stack = Stack::of(redis, Database::new(PostgresServer::shared(), "check_aof"));
    run(&stack, &["SET", "large", &"x".repeat(1 << 20)]);
    wait_until("the file has refused it", || {
        let info: String = cmd("INFO").arg("persistence").query(&mut stack.redis()).expect("INFO");
        info.contains("aof_last_write_status:err")
    });
    check(&stack, &[]).assert_finds("fail", "redis persistence", &["disk"]);
}

/// With these a worker runs.
const LEAST: &str = "~firehose:events +xreadgroup +xack";

/// With these it does all that it can, and `check` sees all.
const ALL: &str = "~firehose:* ~cluster:metrics ~db:record_counts +xreadgroup +xack +xgroup +xautoclaim +xclaim +xpending +xinfo \
                   +xadd +xlen +hincrby +exists +get +set +del +pexpire +hget +hset +hgetall +watch +unwatch +multi +exec \
                   +discard +time +info";

/// Checks as a user who has these rules alone.
fn as_user(stack: &Stack, rules: &str) -> Checked {
    let mut words = vec!["ACL", "SETUSER", "feeder", "reset", "on", ">secret"];
    words.extend(rules.split_whitespace());
    run(stack, &words);
    let url = stack.redis_url().replace("redis://", "redis://feeder:secret@");
    check(stack, &[("REDIS_URL", &url)])
}

#[test]
fn each_right_that_a_user_lacks_is_told_as_the_rule_that_allows_it() {
    let stack = Stack::new("check_acl");
    stack.create_group();
    as_user(&stack, ALL).assert_finds("ok", "redis rights", &["feeder"]);
    for rule in ["+xreadgroup", "+xack"] {
        let words = [format!("ACL SETUSER feeder ~firehose:events {rule}\"")];
        as_user(&stack, &ALL.replace(rule, "")).assert_finds("fail", "redis rights", &[&words[0]]);
    }
    let without_stream = ALL.replace("~firehose:*", "");
    let words = ["ACL SETUSER feeder ~firehose:events\""];
    as_user(&stack, &without_stream).assert_finds("fail", "redis rights", &words);
}

#[test]
fn what_the_worker_does_without_is_told_with_the_rules_for_all_of_it() {
    let stack = Stack::new("check_least");
    stack.create_group();
    let checked = as_user(&stack, LEAST);
    let words = [
        "dashboard",
        "ACL SETUSER feeder ",
        "~cluster:metrics",
        "~firehose:dead-letters",
        "+hincrby",
        "+exec",
        "+xautoclaim",
        "+xgroup",
    ];
    checked.assert_finds("warn", "redis rights", &words);
    checked.assert_finds("warn", "redis", &["+info"]);
    checked.assert_finds("warn", "stream", &["may not ask", "+xinfo"]);
    checked.assert_nothing_fails();
    // Whether there are snapshots is in CONFIG.
    let checked = as_user(&stack, &format!("{LEAST} +info"));
    checked.assert_finds("ok", "redis persistence", &["may not ask"]);

    // A group that is missing is to be made by somebody.
    run(&stack, &["XGROUP", "DESTROY", EVENTS, GROUP]);
    as_user(&stack, ALL).assert_finds("ok", "redis rights", &[]);
    let words = ["ACL SETUSER feeder ~firehose:events +xgroup\""];
    as_user(&stack, LEAST).assert_finds("fail", "redis rights", &words);
}

#[test]
fn a_user_who_may_not_choose_the_database_is_told() {
    let stack = Stack::new("check_select");
    let rules = ["ACL", "SETUSER", "feeder", "on", ">secret", "~*", "+@all", "-select"];
    run(&stack, &rules);
    let url = stack.redis_url().replace("redis://", "redis://feeder:secret@");
    check(&stack, &[("REDIS_URL", &url)]).assert_finds("ok", "redis rights", &[]);
    let words = ["'select' command", "allow +select", "database 0"];
    check(&stack, &[("REDIS_URL", &format!("{url}/3"))]).assert_finds("fail", "redis", &words);
}

#[test]
fn a_stream_and_a_group_that_are_not_there_are_told() {
    let stack = Stack::new("check_stream");
    let checked = check(&stack, &[]);
    checked.assert_finds("warn", "stream", &["does not exist yet"]);
    stack.push_fields(&[("type", b"account"), ("data", b"{}")]);
    check(&stack, &[]).assert_finds("warn", "group", &["reads all 1 entries"]);
    run(&stack, &["XGROUP", "CREATE", EVENTS, GROUP, "0"]);
    run(&stack, &["SET", "text", "x"]);
    let other = [("REDIS_STREAM_KEY", "text")];
    check(&stack, &other).assert_finds("fail", "stream", &["holds a string", "REDIS_STREAM_KEY"]);
}

#[test]
fn a_stream_that_may_not_be_looked_for_is_told() {
    let stack = Stack::new("check_type");
    let rules = ["ACL", "SETUSER", "feeder", "on", ">secret", "~*", "+@all", "-type"];
    run(&stack, &rules);
    let url = stack.redis_url().replace("redis://", "redis://feeder:secret@");
    check(&stack, &[("REDIS_URL", &url)]).assert_finds("warn", "stream", &["may not ask", "+type"]);
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
    checked.assert_finds("ok", "pending", &["1 entries pending", "gone: 1 pending"]);
    checked.assert_finds("warn", "backlog", &["9 unread", "keeps 10 entries"]);
    checked.assert_finds("ok", "dead letters", &["1 of about 10,000", "dead-letters list"]);
    checked.assert_finds(
        "warn",
        "losses",
        &["trimmed before they were applied", "unread trimmed 7"],
    );
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
    check(&stack, &[]).assert_finds("warn", "producer", &["not connected"]);
    run(&stack, &["SET", "firehose:status", "up"]);
    let words = ["firehose:status is not what", "find out what writes it"];
    check(&stack, &[]).assert_finds("warn", "producer", &words);

    wait_until("the entry is idle for longer than 100 ms", || {
        check(&stack, &[("CLAIM_IDLE_MS", "100")])
            .findings()
            .iter()
            .any(|finding| finding["what"] == "pending" && finding["level"] == "warn")
    });
    let checked = check(&stack, &[("REDIS_DEAD_LETTER_MAXLEN", "1")]);
    checked.assert_finds("warn", "dead letters", &["replay or drop"]);

    run(&stack, &["XTRIM", EVENTS, "MAXLEN", "2"]);
    check(&stack, &[]).assert_finds("warn", "backlog", &["trimmed before they were read"]);
}

/// Checks while entries are added as fast as one connection can, and read if somebody is to keep up.
fn check_under_load(stack: &Stack, is_read: bool, limit: &str) -> Checked {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut redis = stack.redis();
            while !is_over.load(Ordering::Relaxed) {
                let mut pipeline = redis::pipe();
                pipeline
                    .cmd("XADD")
                    .arg(&[EVENTS, "*", "type", "account", "data", "{}"]);
                if is_read {
                    let read = ["GROUP", GROUP, "fast", "NOACK", "STREAMS", EVENTS, ">"];
                    pipeline.cmd("XREADGROUP").arg(&read);
                }
                pipeline.exec(&mut redis).expect("an entry is added");
            }
        });
        let checked = check(stack, &[("REDIS_MAX_STREAM_LEN", limit)]);
        is_over.store(true, Ordering::Relaxed);
        checked
    })
}

#[test]
fn a_producer_that_will_soon_trim_unread_entries_is_told() {
    let stack = Stack::new("check_headroom");
    stack.create_group();
    let checked = check_under_load(&stack, false, "100000");
    checked.assert_finds(
        "warn",
        "trim headroom",
        &["the backlog grows by", "slower than the producer"],
    );
    run(&stack, &["XTRIM", EVENTS, "MAXLEN", "0"]);
    let checked = check_under_load(&stack, true, "1000");
    let words = ["a standstill of", "raise the producer's limit of 1000"];
    checked.assert_finds("warn", "trim headroom", &words);
}
