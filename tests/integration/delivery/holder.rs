//! One process holds a consumer name, and a standby waits for it.

use std::time::Duration;

use redis::cmd;

use crate::support::entries::{did, follow, post};
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{GROUP, Stack, Worker, wait_until};

/// Far longer than a process takes to end if nothing delays it.
const STOP_LIMIT: Duration = Duration::from_secs(60);

fn spawn(stack: &Stack) -> Worker {
    stack.worker().env("CONSUMER_ID", "worker-a").spawn()
}

fn key() -> String {
    format!("firehose:worker:holder:{GROUP}:worker-a")
}

#[track_caller]
fn wait_for_line(worker: &Worker, words: &str) {
    wait_until(&format!("the worker logs {words:?}"), || {
        match worker.log().contains(words) {
            true => Ok(()),
            false => Err(shown(&worker.log())),
        }
    });
}

#[track_caller]
fn follow_and_wait(stack: &Stack, n: i64) {
    let path = format!("app.bsky.graph.follow/{n}");
    stack.create(&did("alice"), &path, follow(&did(&format!("friend {n}"))));
    wait_until("the follow is applied and counted", || {
        let counted = stack.metric("cluster:metrics", "totalEvents");
        equal((stack.count("follows"), counted), (n, n))
    });
}

#[test]
fn a_second_process_of_one_name_waits_and_takes_over_when_the_first_is_killed() {
    let stack = Stack::new("standby");
    let mut first = spawn(&stack);
    follow_and_wait(&stack, 1);
    let second = spawn(&stack);
    wait_for_line(&second, "standby");
    follow_and_wait(&stack, 2);
    assert!(!second.log().contains("took over"), "{}", shown(&second.log()));
    first.kill();
    wait_for_line(&second, "took over");
    follow_and_wait(&stack, 3);
}

#[test]
fn a_standby_takes_over_from_a_dead_machine_once_its_lease_has_ended() {
    let stack = Stack::new("other_machine");
    let mut set = cmd("SET");
    set.arg(key())
        .arg("elsewhere pid 7 boot x y start 1")
        .arg("PX")
        .arg(8000);
    set.exec(&mut stack.redis()).expect("SET");
    let worker = spawn(&stack);
    wait_for_line(&worker, "standby: the consumer name worker-a is held by elsewhere");
    follow_and_wait(&stack, 1);
}

#[test]
fn a_process_whose_name_was_taken_finishes_what_it_holds_and_fails() {
    let stack = Stack::new("name_taken");
    let mut worker = spawn(&stack);
    follow_and_wait(&stack, 1);
    // The answer to a thread that ends early: here the holder's.
    cmd("SET")
        .arg(key())
        .arg("elsewhere pid 7 boot x y start 1")
        .exec(&mut stack.redis())
        .expect("SET");
    let status = worker.wait_exit(STOP_LIMIT);
    assert_eq!(status.code(), Some(1), "{}", shown(&worker.log()));
    assert!(
        worker.log().contains("the thread holder failed"),
        "{}",
        shown(&worker.log())
    );
    assert_eq!(stack.pending(), 0);
    let holder: String = cmd("GET").arg(key()).query(&mut stack.redis()).expect("GET");
    assert!(holder.starts_with("elsewhere"), "the other's key was deleted");
}

#[test]
fn a_process_frozen_for_longer_than_its_lease_changes_nothing_when_it_wakes() {
    let stack = Stack::new("frozen");
    let mut frozen = spawn(&stack);
    follow_and_wait(&stack, 1);
    // It freezes in the middle of writing a post, which the next process writes and then deletes.
    let mut lock = stack.database.client();
    let mut lock = lock.transaction().expect("a transaction");
    lock.batch_execute("lock table posts").expect("the lock");
    stack.create(&did("alice"), "app.bsky.feed.post/1", post("to be deleted"));
    let waits = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    wait_until("the post is being written", || equal(stack.query(waits).len(), 1));
    frozen.signal(libc::SIGSTOP);
    // Until then it could still apply the post, and take the count of it along.
    wait_until("all of its threads have stopped", || {
        equal(threads_not_stopped(frozen.pid()), 0)
    });
    lock.rollback().expect("the lock goes");

    let next = spawn(&stack);
    wait_for_line(&next, "took over");
    stack.delete(&did("alice"), "app.bsky.feed.post/1");
    wait_until("the next process has done all", || {
        equal(stack.metric("cluster:metrics", "totalEvents"), 3)
    });
    frozen.signal(libc::SIGCONT);
    let status = frozen.wait_exit(STOP_LIMIT);
    assert_eq!(status.code(), Some(1), "{}", shown(&frozen.log()));
    follow_and_counted(&stack);
    assert_eq!(stack.count("posts"), 0, "{}", shown(&frozen.log()));
    assert_eq!(stack.pending(), 0);
}

/// How many threads of a process are in another state than T.
fn threads_not_stopped(pid: i32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the threads of a process");
    let stats =
        tasks.map(|task| std::fs::read_to_string(task.expect("a thread").path().join("stat")).expect("its state"));
    stats.filter(|stat| !stat.contains(") T ")).count()
}

/// Asserts that the running process applies one more event, and that nothing was counted twice.
#[track_caller]
fn follow_and_counted(stack: &Stack) {
    stack.create(&did("alice"), "app.bsky.graph.follow/2", follow(&did("friend 2")));
    wait_until("all is counted once", || {
        equal(stack.metric("cluster:metrics", "totalEvents"), 4)
    });
}

/// The keys by which others see that members live.
fn lease_keys(stack: &Stack) -> Vec<String> {
    let made = stack.query("select to_regclass('firehose_worker.members') is not null as made");
    if made[0]["made"] != true {
        return Vec::new();
    }
    let rows = stack.query("select lease_key from firehose_worker.members");
    rows.iter()
        .map(|row| row["lease_key"].as_str().expect("text").to_owned())
        .collect()
}

#[track_caller]
fn wait_for_lease_key(stack: &Stack, key: &str) {
    wait_until("the worker is a member by that key", || {
        equal(lease_keys(stack), vec![key.to_owned()])
    });
}

#[test]
fn a_user_that_may_not_renew_the_mark_is_logged_and_does_without() {
    let stack = Stack::new("no_renewal");
    let acl = |rule: &str| {
        let rules = ["SETUSER", "feeder", "on", ">pw", "~*", "+@all", rule];
        cmd("ACL").arg(&rules).exec(&mut stack.redis()).expect("ACL SETUSER");
    };
    let url = format!("redis://feeder:pw@127.0.0.1:{}", stack.redis.port());
    let spawn = || {
        let worker = stack.worker().env("CONSUMER_ID", "worker-a");
        worker.env("REDIS_URL", &url).spawn()
    };
    let assert_logged = |worker: &Worker| {
        wait_for_line(worker, "a standby cannot take over");
        wait_for_lease_key(&stack, "");
        let log = worker.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("+pexpire")).collect();
        assert_eq!(lines.len(), 1, "{}", shown(&log));
    };
    acl("-pexpire");
    let mut worker = spawn();
    assert_logged(&worker);
    follow_and_wait(&stack, 1);
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.wait_exit(STOP_LIMIT).code(), Some(0), "{}", shown(&worker.log()));

    acl("+pexpire");
    let worker = spawn();
    wait_for_lease_key(&stack, &key());
    follow_and_wait(&stack, 2);
    acl("-pexpire");
    assert_logged(&worker);
    follow_and_wait(&stack, 3);
}

#[test]
fn a_process_without_a_mark_gets_one_once_a_full_redis_accepts_it() {
    let stack = Stack::new("no_mark");
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    stack.create_group();
    stack.redis.configure("maxmemory-policy", "noeviction");
    stack.redis.configure("maxmemory", "1");
    let worker = spawn(&stack);
    wait_until("the follow is applied", || equal(stack.count("follows"), 1));
    wait_for_lease_key(&stack, "");
    stack.redis.configure("maxmemory", "0");
    wait_for_lease_key(&stack, &key());
    let holder: String = cmd("GET").arg(key()).query(&mut stack.redis()).expect("GET");
    assert!(holder.contains(&format!("pid {}", worker.pid())), "{holder}");
}

/// Starts a worker on a stream, group and consumer name.
fn start_on(stack: &Stack, stream: &str, group: &str, consumer: &str) -> Worker {
    let worker = stack.worker().env("REDIS_STREAM_KEY", stream);
    worker
        .env("REDIS_CONSUMER_GROUP", group)
        .env("CONSUMER_ID", consumer)
        .spawn()
}

#[test]
fn workers_of_other_streams_and_groups_are_no_standbys_whatever_their_names() {
    let stack = Stack::new("namesakes");
    let places = [
        ("firehose:events", "g", "x:y"),
        ("firehose:events", "g:x", "y"),
        ("other:events", "g", "x:y"),
        ("x:y:other:events", "g", "x"),
    ];
    let mut workers = places.map(|(stream, group, consumer)| start_on(&stack, stream, group, consumer));
    for (worker, (stream, group, consumer)) in workers.iter().zip(places) {
        wait_until(&format!("{consumer} of {group} reads {stream}"), || {
            let answer: redis::RedisResult<Vec<std::collections::BTreeMap<String, redis::Value>>> = cmd("XINFO")
                .arg(&["CONSUMERS", stream, group])
                .query(&mut stack.redis());
            match answer {
                Ok(consumers) if !consumers.is_empty() => Ok(()),
                _ => Err(shown(&worker.log())),
            }
        });
    }
    for worker in &mut workers {
        worker.signal(libc::SIGTERM);
        let status = worker.wait_exit(STOP_LIMIT);
        let log = worker.log();
        assert_eq!(status.code(), Some(0), "{}", shown(&log));
        assert!(
            !log.contains("standby") && !log.contains("no longer exists"),
            "{}",
            shown(&log)
        );
    }
    let keys: Vec<String> = cmd("KEYS")
        .arg("firehose:worker:losses:*")
        .query(&mut stack.redis())
        .expect("KEYS");
    for key in keys {
        let lost: Option<i64> = cmd("HGET")
            .arg(&[&key, "groups_recreated"])
            .query(&mut stack.redis())
            .expect("HGET");
        assert_eq!(lost.unwrap_or(0), 0, "groups lost in {key}");
    }
}
