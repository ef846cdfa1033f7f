//! Entries that are trimmed before they are read or applied: counted once, logged, and forecast while there is time.

mod pending;

use std::time::Duration;

use redis::cmd;

use crate::support::entries::{did, follow};
use crate::support::postgres::Database;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{EVENTS, GROUP, PostgresServer, RedisServer, Stack, Worker, wait_until};

const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Follows of users that are numbered from `first`.
fn push_follows(stack: &Stack, first: usize, n: usize) {
    for n in first..first + n {
        let subject = did(&format!("user {n}"));
        stack.create(&did("alice"), &format!("app.bsky.graph.follow/{n}"), follow(&subject));
    }
}

/// Keeps the newest entries, as the producer does.
fn trim(stack: &Stack, n_kept: usize) {
    cmd("XTRIM")
        .arg(EVENTS)
        .arg("MAXLEN")
        .arg(n_kept)
        .exec(&mut stack.redis())
        .expect("XTRIM");
}

fn destroy_group(stack: &Stack) {
    cmd("XGROUP")
        .arg(&["DESTROY", EVENTS, GROUP])
        .exec(&mut stack.redis())
        .expect("XGROUP DESTROY");
}

/// What is counted of the group's losses.
fn lost(stack: &Stack, field: &str) -> i64 {
    let count: Option<i64> = cmd("HGET")
        .arg(format!("firehose:worker:losses:{GROUP}"))
        .arg(field)
        .query(&mut stack.redis())
        .expect("HGET");
    count.unwrap_or(0)
}

/// Lines of a log that contain the text.
fn n_lines(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

#[track_caller]
fn wait_for_line(worker: &Worker, text: &str) {
    wait_until(&format!("the worker logs {text:?}"), || match worker.log() {
        log if log.contains(text) => Ok(()),
        log => Err(shown(&log)),
    });
}

#[track_caller]
fn stop(mut worker: Worker) -> String {
    worker.signal(libc::SIGTERM);
    let status = worker.wait_exit(STOP_LIMIT);
    assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
    worker.log()
}

#[test]
fn entries_that_were_trimmed_unread_are_counted_once_over_restarts() {
    let stack = Stack::new("trimmed_unread");
    push_follows(&stack, 0, 10);
    stack.drain();
    push_follows(&stack, 10, 100);
    trim(&stack, 40);
    let log = stack.drain().log;
    assert_eq!(lost(&stack, "unread_trimmed"), 60, "{}", shown(&log));
    assert_eq!(
        n_lines(&log, "60 entries were trimmed from firehose:events"),
        1,
        "{}",
        shown(&log)
    );
    assert_eq!(stack.count("follows"), 50);
    let log = stack.drain().log;
    assert_eq!(n_lines(&log, "were trimmed"), 0, "{}", shown(&log));
    push_follows(&stack, 110, 5);
    trim(&stack, 2);
    stack.drain();
    assert_eq!(lost(&stack, "unread_trimmed"), 63);
    assert_eq!(stack.count("follows"), 52);
    stack.assert_all_acknowledged();
}

#[test]
fn a_gap_that_another_worker_has_left_is_counted_at_the_first_start() {
    let stack = Stack::new("gap_of_another");
    push_follows(&stack, 0, 50);
    stack.create_group();
    stack.read_and_abandon("worker-a", 10);
    trim(&stack, 25);
    stack.drain_with(&[("CONSUMER_ID", "worker-a")]);
    assert_eq!(lost(&stack, "unread_trimmed"), 15);
    assert_eq!(lost(&stack, "pending_trimmed"), 10);
    assert_eq!(stack.count("follows"), 25);
    stack.assert_all_acknowledged();
}

#[test]
fn entries_that_are_trimmed_while_the_worker_is_held_up_are_counted_exactly() {
    let stack = Stack::new("trimmed_while_held_up");
    let settings = [
        ("MAX_BATCH_ENTRIES", "1"),
        ("BATCH_SIZE", "5"),
        ("PARALLEL_CONSUMERS", "1"),
    ];
    let held_up = hold_up(&stack);
    push_follows(&stack, 0, 1);
    let worker = spawn_with(&stack, &settings);
    wait_until("the worker reads, and has looked at the stream", || {
        let has_looked: bool = cmd("HEXISTS")
            .arg(format!("firehose:worker:losses:{GROUP}"))
            .arg("seen")
            .query(&mut stack.redis())
            .expect("HEXISTS");
        equal((stack.pending(), has_looked), (1, true))
    });
    for round in 0..4 {
        push_follows(&stack, 1 + round * 200, 200);
        trim(&stack, 50);
    }
    release(held_up);
    wait_until("everything that is left is read and acknowledged", || all_done(&stack));
    push_follows(&stack, 801, 10);
    wait_until("the rest is read and acknowledged", || all_done(&stack));
    let log = stop(worker);
    let applied = stack.count("follows");
    assert!(applied < 700, "{applied} of 811 were applied");
    assert_eq!(lost(&stack, "unread_trimmed"), 811 - applied, "{}", shown(&log));
    assert_eq!(stack.metric("cluster:metrics", "totalEvents"), applied);
}

/// Nothing unread, nothing pending.
fn all_done(stack: &Stack) -> Result<(), String> {
    let newest: String = cmd("XREVRANGE")
        .arg(&[EVENTS, "+", "-", "COUNT", "1"])
        .query::<Vec<(String, redis::Value)>>(&mut stack.redis())
        .expect("XREVRANGE")
        .remove(0)
        .0;
    let delivered = stack.groups().first().map(|group| group["last-delivered-id"].clone());
    equal((delivered, stack.pending()), (Some(newest), 0))
}

/// Keeps the worker from writing follows, until it is released.
fn hold_up(stack: &Stack) -> postgres::Client {
    let mut client = stack.database.client();
    client
        .batch_execute("BEGIN; LOCK TABLE follows IN ACCESS EXCLUSIVE MODE")
        .expect("a lock");
    client
}

fn release(mut client: postgres::Client) {
    client.batch_execute("ROLLBACK").expect("the lock's end");
}

fn spawn_with(stack: &Stack, settings: &[(&str, &str)]) -> Worker {
    let worker = stack.worker();
    settings
        .iter()
        .fold(worker, |worker, (name, value)| worker.env(name, value))
        .spawn()
}

#[test]
fn deleted_entries_are_distinguished_from_trimmed_ones() {
    let stack = Stack::new("deleted");
    push_follows(&stack, 0, 10);
    stack.drain();
    let unread: Vec<String> = (10..15)
        .map(|n| {
            stack.create(
                &did("alice"),
                &format!("app.bsky.graph.follow/{n}"),
                follow(&did("bob")),
            )
        })
        .collect();
    push_follows(&stack, 15, 5);
    cmd("XDEL")
        .arg(EVENTS)
        .arg(&unread)
        .exec(&mut stack.redis())
        .expect("XDEL");
    let log = stack.drain().log;
    assert_eq!(lost(&stack, "unread_trimmed"), 0, "{}", shown(&log));
    assert_eq!(n_lines(&log, "deletes entries"), 1, "{}", shown(&log));
    // What is trimmed afterwards counts again.
    push_follows(&stack, 20, 10);
    trim(&stack, 4);
    stack.drain();
    assert_eq!(lost(&stack, "unread_trimmed"), 6);
}

#[test]
fn groups_and_streams_that_are_made_again_are_counted() {
    let stack = Stack::new("made_again");
    push_follows(&stack, 0, 5);
    let worker = stack.worker().spawn();
    wait_until("the follows are there", || equal(stack.count("follows"), 5));
    assert_eq!(lost(&stack, "groups_recreated"), 0);
    destroy_group(&stack);
    wait_until("the group's end is counted", || {
        equal(lost(&stack, "groups_recreated"), 1)
    });
    cmd("FLUSHALL").exec(&mut stack.redis()).expect("FLUSHALL");
    wait_until("the stream's end is counted", || {
        equal(lost(&stack, "groups_recreated"), 1)
    });
    push_follows(&stack, 5, 5);
    wait_until("new follows are there", || equal(stack.count("follows"), 10));
    let log = stop(worker);
    assert_eq!(lost(&stack, "unread_trimmed"), 0, "{}", shown(&log));
    assert!(
        n_lines(&log, "no longer exists: creating it again") >= 1,
        "{}",
        shown(&log)
    );
    assert!(n_lines(&log, "created the group") >= 3, "{}", shown(&log));
}

#[test]
fn a_group_that_was_destroyed_while_no_worker_ran_is_counted() {
    let stack = Stack::new("destroyed_while_away");
    push_follows(&stack, 0, 5);
    stack.drain();
    destroy_group(&stack);
    let log = stack.drain().log;
    assert_eq!(lost(&stack, "groups_recreated"), 1, "{}", shown(&log));
    assert_eq!(
        n_lines(&log, "the group firehose-processors no longer exists"),
        1,
        "{}",
        shown(&log)
    );
    stack.drain();
    assert_eq!(lost(&stack, "groups_recreated"), 1);
}

#[test]
fn a_redis_that_counts_wrongly_after_a_restart_makes_up_no_loss() {
    let redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let stack = Stack::of(redis, Database::new(PostgresServer::shared(), "redis_counts_wrongly"));
    push_follows(&stack, 0, 20);
    let worker = stack.worker().spawn();
    wait_until("the follows are there", || equal(stack.count("follows"), 20));
    rewrite_log(&stack);
    push_follows(&stack, 20, 30);
    wait_until("all is acknowledged", || all_done(&stack));
    stack.redis.kill();
    stack.redis.restart();
    // It replays deliveries from its log without counting them.
    assert_eq!(stack.groups()[0]["entries-read"], "20");
    push_follows(&stack, 50, 10);
    wait_until("the newer follows are there", || equal(stack.count("follows"), 60));
    wait_until("all is acknowledged", || all_done(&stack));
    let log = stop(worker);
    assert_eq!(lost(&stack, "unread_trimmed"), 0, "{}", shown(&log));
    let log = stack.drain().log;
    assert_eq!(lost(&stack, "unread_trimmed"), 0, "{}", shown(&log));
}

#[test]
fn a_redis_that_counts_wrongly_after_a_restart_makes_up_no_loss_of_what_a_dead_worker_has_read() {
    let redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let stack = Stack::of(
        redis,
        Database::new(PostgresServer::shared(), "redis_counts_wrongly_of_dead"),
    );
    push_follows(&stack, 0, 20);
    stack.drain();
    rewrite_log(&stack);
    push_follows(&stack, 20, 30);
    stack.read_and_abandon("worker-a", 30);
    stack.redis.kill();
    stack.redis.restart();
    assert_eq!(stack.groups()[0]["entries-read"], "20");
    push_follows(&stack, 50, 10);
    let log = stack.drain_with(&[("CONSUMER_ID", "worker-a")]).log;
    assert_eq!(stack.count("follows"), 60);
    assert_eq!(lost(&stack, "unread_trimmed"), 0, "{}", shown(&log));
}

/// Makes Redis save its state, including entries-read.
fn rewrite_log(stack: &Stack) {
    let mut connection = stack.redis();
    cmd("BGREWRITEAOF").exec(&mut connection).expect("BGREWRITEAOF");
    wait_until("the log is rewritten", || {
        let info: String = cmd("INFO").arg("persistence").query(&mut connection).expect("INFO");
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    });
}

#[test]
fn a_backlog_that_the_producer_will_trim_is_forecast_once_until_it_shrinks() {
    let stack = Stack::new("foretold");
    let held_up = hold_up(&stack);
    let settings = [
        ("REDIS_MAX_STREAM_LEN", "1000"),
        ("MAX_BATCH_ENTRIES", "20"),
        ("PARALLEL_CONSUMERS", "1"),
    ];
    let worker = spawn_with(&stack, &settings);
    let mut n_pushed = 0;
    wait_until("the worker predicts the loss", || {
        push_follows(&stack, n_pushed, 20);
        n_pushed += 20;
        match worker.log() {
            log if log.contains("the producer trims unread entries") => Ok(()),
            log => Err(shown(&log)),
        }
    });
    release(held_up);
    wait_for_line(&worker, "no longer approaches the producer's limit");
    wait_until("all is acknowledged", || all_done(&stack));
    let log = stop(worker);
    assert_eq!(n_lines(&log, "trims unread entries"), 1, "{}", shown(&log));
    assert_eq!(lost(&stack, "unread_trimmed"), 0, "{}", shown(&log));
}

#[test]
fn dead_letters_near_their_limit_are_logged() {
    let stack = Stack::new("dead_letters_near_limit");
    for _ in 0..8 {
        stack.push_fields(&[("type", b"commit"), ("data", b"{"), ("seq", b"1")]);
    }
    let log = stack.drain_with(&[("REDIS_DEAD_LETTER_MAXLEN", "10")]).log;
    assert_eq!(n_lines(&log, "holds 8 dead letters"), 1, "{}", shown(&log));
    let log = stack.drain().log;
    assert_eq!(n_lines(&log, "dead letters, and the oldest"), 0, "{}", shown(&log));
}

#[test]
fn without_the_right_to_inspect_the_stream_the_worker_logs_it_and_continues() {
    let stack = Stack::new("no_xinfo");
    push_follows(&stack, 0, 5);
    cmd("ACL")
        .arg(&[
            "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-xinfo", "-xlen", "-info",
        ])
        .exec(&mut stack.redis())
        .expect("ACL SETUSER");
    let url = stack.redis_url().replace("redis://", "redis://limited:secret@");
    let log = stack.drain_with(&[("REDIS_URL", &url)]).log;
    assert_eq!(n_lines(&log, "+xinfo +multi +exec"), 1, "{}", shown(&log));
    assert_eq!(n_lines(&log, "+xlen"), 1, "{}", shown(&log));
    assert_eq!(n_lines(&log, "+info"), 1, "{}", shown(&log));
    assert_eq!(stack.count("follows"), 5);
    stack.assert_all_acknowledged();
}

#[test]
fn losses_are_logged_even_if_their_counts_may_not_be_stored() {
    let stack = Stack::new("no_losses_key");
    push_follows(&stack, 0, 5);
    stack.create_group();
    stack.read_and_abandon("worker-a", 2);
    push_follows(&stack, 5, 5);
    trim(&stack, 4);
    cmd("ACL")
        .arg(&[
            "SETUSER",
            "limited",
            "on",
            ">secret",
            "&*",
            "+@all",
            "~firehose:events",
            "~firehose:dead-letters",
        ])
        .exec(&mut stack.redis())
        .expect("ACL SETUSER");
    let url = stack.redis_url().replace("redis://", "redis://limited:secret@");
    let log = stack
        .drain_with(&[("REDIS_URL", &url), ("CONSUMER_ID", "worker-a")])
        .log;
    assert_eq!(n_lines(&log, "+hget +hset"), 1, "{}", shown(&log));
    assert_eq!(n_lines(&log, "4 entries were trimmed"), 1, "{}", shown(&log));
    assert_eq!(stack.count("follows"), 4);
    stack.assert_all_acknowledged();
}
