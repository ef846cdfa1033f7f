//! Entries that can never be applied: those that crash the process, and ten other kinds among many good ones.

use redis::cmd;
use serde_json::{Value, json};

use crate::generator::{Event, Events};
use crate::support::entries::{cid_for, did, follow, like, post, uri};
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{EVENTS, GROUP, Sent, Stack, Worker, assert_same, wait_until};

const WORKER: &str = "worker-a";

/// How many tries alone the tests allow.
fn max_deliveries() -> i64 {
    if crate::support::skip::is_full() { 10 } else { 3 }
}

/// A worker as the tests here run it.
fn spawn(stack: &Stack) -> Worker {
    let worker = stack.worker().env("CONSUMER_ID", WORKER);
    worker
        .env("REDIS_MAX_DELIVERIES", &max_deliveries().to_string())
        .spawn()
}

/// How many sessions of the worker wait for a lock.
fn n_blocked(stack: &Stack) -> usize {
    let query = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    stack.query(query).len()
}

/// Ends the sessions that killed workers have left behind, which wait for their locks for long.
fn end_sessions(stack: &Stack) {
    stack.query(
        "select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name <> 'test harness'",
    );
    wait_until("the sessions have ended", || equal(n_blocked(stack), 0));
}

/// Tries alone that are written down for an entry.
fn n_tries(stack: &Stack, id: &str) -> i64 {
    let key = format!("firehose:worker:tries:{GROUP}:{EVENTS}:{id}");
    let tries: Option<i64> = cmd("GET").arg(key).query(&mut stack.redis()).expect("GET");
    tries.unwrap_or(0)
}

/// Kills one worker after the other as soon as it waits for the test's lock, until one sets an entry apart. Answers how
/// many were killed, and the last.
fn kill_until_set_apart(stack: &Stack) -> (i64, Worker) {
    for n_kills in 0..40 {
        let mut worker = spawn(stack);
        wait_until("an entry is being applied or set apart", || {
            if n_blocked(stack) > 0 || !stack.dead_letters().is_empty() {
                return Ok(());
            }
            Err(shown(&worker.log()))
        });
        if !stack.dead_letters().is_empty() {
            return (n_kills, worker);
        }
        worker.kill();
        end_sessions(stack);
    }
    panic!("nothing is set apart");
}

#[test]
fn an_entry_that_always_crashes_the_process_becomes_a_dead_letter() {
    let stack = Stack::new("fatal_entry");
    let follow_by = |name: &str, rkey: u32| {
        let path = format!("app.bsky.graph.follow/{rkey}");
        stack.create(&did(name), &path, follow(&did(&format!("friend {rkey}"))))
    };
    (0..5).for_each(|n| drop(follow_by("neighbour", n)));
    let fatal = stack.create(
        &did("fatal"),
        "app.bsky.feed.post/1",
        post("the last thing a process reads"),
    );
    (5..10).for_each(|n| drop(follow_by("fatal", n)));

    // The test itself kills the process as soon as it applies the entry. The lock keeps it from writing the post
    // before.
    let mut lock = stack.database.client();
    let mut lock = lock.transaction().expect("a transaction");
    lock.batch_execute("lock table posts").expect("the lock");
    let (n_kills, survivor) = kill_until_set_apart(&stack);
    assert!(n_kills > max_deliveries(), "set apart after {n_kills} kills");
    assert_eq!(n_tries(&stack, &fatal), max_deliveries());

    wait_until("all else is applied", || equal(stack.pending(), 0));
    assert!(
        survivor.log().contains("is a dead letter"),
        "{}",
        shown(&survivor.log())
    );
    lock.rollback().expect("the lock goes");
    let letters = stack.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["origId"], fatal);
    let reason = format!("tried alone {} times, each time the process ended", max_deliveries());
    assert_eq!(letters[0]["error"], reason);
    wait_until("all is counted", || equal(stack.metric("cluster:metrics", "errors"), 1));
    // A process that was killed may not have flushed the last of what it counted.
    let counted = stack.metric("cluster:metrics", "totalEvents");
    assert!((5..=10).contains(&counted), "{counted} of 10 counted");
    assert_eq!((stack.count("posts"), stack.count("follows")), (0, 10));
}

#[test]
fn a_worker_killed_again_and_again_while_the_database_refuses_condemns_no_entry() {
    let stack = Stack::new("condemned");
    stack.create(&did("alice"), "app.bsky.feed.post/1", post("first"));
    stack.drain_with(&[("CONSUMER_ID", WORKER)]);
    let id = stack.create(&did("alice"), "app.bsky.feed.post/2", post("second"));
    stack.read_and_abandon(WORKER, 1);
    claim_often(&stack, std::slice::from_ref(&id));
    let database = stack.database.name();
    stack.sql(&format!(
        "alter database {database} set default_transaction_read_only = on"
    ));
    for _ in 0..=max_deliveries() {
        let mut worker = spawn(&stack);
        wait_until("the worker has tried and failed", || {
            match worker.log().contains("25006") {
                true => Ok(()),
                false => Err(shown(&worker.log())),
            }
        });
        worker.kill();
    }
    let mut client = stack.database.server().client("postgres");
    client
        .batch_execute(&format!(
            "alter database {database} reset default_transaction_read_only"
        ))
        .expect("writes are allowed");
    stack.drain_with(&[("CONSUMER_ID", WORKER)]);
    assert_eq!(stack.count("posts"), 2);
    assert_eq!(n_tries(&stack, &id), 0, "a count is left of an entry that was applied");
    stack.assert_all_acknowledged();
}

#[test]
fn a_stop_while_a_try_alone_hangs_takes_the_try_back() {
    let stack = Stack::new("hanging_try");
    stack.create_group();
    let id = stack.create(&did("alice"), "app.bsky.feed.post/1", post("behind a lock"));
    stack.read_and_abandon(WORKER, 1);
    claim_often(&stack, std::slice::from_ref(&id));
    let mut lock = stack.database.client();
    let mut lock = lock.transaction().expect("a transaction");
    lock.batch_execute("lock table posts").expect("the lock");
    let worker = stack.worker().env("CONSUMER_ID", WORKER);
    let mut worker = worker.env("STOP_TIMEOUT_MS", "100").spawn();
    wait_until("the entry is being tried", || {
        equal((n_blocked(&stack), n_tries(&stack, &id)), (1, 1))
    });
    worker.signal(libc::SIGTERM);
    let status = worker.wait_exit(std::time::Duration::from_secs(60));
    assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
    assert_eq!(n_tries(&stack, &id), 0, "{}", shown(&worker.log()));
    lock.rollback().expect("the lock goes");
    stack.drain_with(&[("CONSUMER_ID", WORKER)]);
    assert_eq!(stack.count("posts"), 1);
    stack.assert_all_acknowledged();
}

/// Has entries pending as if many starts had read them already: they are suspects.
fn make_suspects(stack: &Stack, ids: &[String]) {
    stack.read_and_abandon(WORKER, ids.len());
    claim_often(stack, ids);
}

/// Has pending entries look as if many starts had read them already.
fn claim_often(stack: &Stack, ids: &[String]) {
    let mut claim = cmd("XCLAIM");
    claim.arg(EVENTS).arg(GROUP).arg(WORKER).arg(0).arg(ids);
    claim.arg("RETRYCOUNT").arg(50).arg("JUSTID");
    claim.exec(&mut stack.redis()).expect("XCLAIM");
}

#[test]
fn many_suspects_share_transactions() {
    let stack = Stack::new("many_suspects");
    stack.create_group();
    let follow_by = |n: usize| {
        let path = format!("app.bsky.graph.follow/{n}");
        stack.create(&did(&format!("user {n}")), &path, follow(&did("friend")))
    };
    let ids: Vec<String> = (0..600).map(follow_by).collect();
    make_suspects(&stack, &ids);
    stack.drain_with(&[("CONSUMER_ID", WORKER)]);
    let transactions = stack.query("select count(*) as rows, count(distinct xmin::text) as n from follows");
    assert_eq!(transactions[0]["rows"], 600);
    let n = transactions[0]["n"].as_i64().expect("a number");
    assert!(n < 60, "{n} transactions for 600 entries");
    assert_eq!(
        n_tries(&stack, &ids[0]),
        0,
        "a try is left of an entry that was applied"
    );
    stack.assert_all_acknowledged();
}

#[test]
fn kills_while_suspects_wait_for_a_lock_condemn_none() {
    let stack = Stack::new("locked_suspects");
    stack.create_group();
    let ids = ["alice", "bob"].map(|name| stack.create(&did(name), "app.bsky.feed.post/1", post("behind a lock")));
    make_suspects(&stack, &ids);
    let mut lock = stack.database.client();
    let mut lock = lock.transaction().expect("a transaction");
    lock.batch_execute("lock table posts").expect("the lock");
    for _ in 0..3 {
        // One thread, so that no other begins an attempt during the check.
        let worker = stack.worker().env("CONSUMER_ID", WORKER).env("PARALLEL_CONSUMERS", "1");
        let mut worker = worker.env("REDIS_MAX_DELIVERIES", "1").spawn();
        wait_until("the entries wait, and are not taken for fatal", || {
            // In this order: a try is stored before it waits.
            let is_blocked = n_blocked(&stack) > 0;
            let tries = [n_tries(&stack, &ids[0]), n_tries(&stack, &ids[1])];
            equal((is_blocked, tries), (true, [0, 0]))
        });
        worker.kill();
        end_sessions(&stack);
    }
    lock.rollback().expect("the lock goes");
    stack.drain_with(&[("CONSUMER_ID", WORKER), ("REDIS_MAX_DELIVERIES", "1")]);
    assert_eq!(stack.count("posts"), 2);
    stack.assert_all_acknowledged();
}

#[test]
fn one_fatal_entry_among_many_suspects_is_found_by_halving() {
    const N: i64 = 500;
    let stack = Stack::new("fatal_suspect");
    stack.create_group();
    let push = |n: i64| {
        let repo = did(&format!("user {n}"));
        match n {
            333 => stack.create(&repo, "app.bsky.feed.post/1", post("the last thing a process reads")),
            _ => stack.create(
                &repo,
                &format!("app.bsky.feed.like/{n}"),
                like(&uri(&did("poster"), "app.bsky.feed.post/p")),
            ),
        }
    };
    let ids: Vec<String> = (0..N).map(push).collect();
    make_suspects(&stack, &ids);
    // What ends the process as soon as the entry is being applied is this test, as above.
    let mut lock = stack.database.client();
    let mut lock = lock.transaction().expect("a transaction");
    lock.batch_execute("lock table posts").expect("the lock");
    let (n_kills, survivor) = kill_until_set_apart(&stack);
    let log = survivor.log();
    println!("{n_kills} kills");
    // 500 are halved nine times. A kill that comes too late, after the attempt was reverted, does not count.
    assert!(
        (max_deliveries()..=2 * (9 + max_deliveries())).contains(&n_kills),
        "set apart after {n_kills} kills; {}",
        shown(&log)
    );
    wait_until("all else is applied", || equal(stack.pending(), 0));
    lock.rollback().expect("the lock goes");
    let letters: Vec<String> = stack
        .dead_letters()
        .iter()
        .map(|letter| letter["origId"].clone())
        .collect();
    assert_eq!(letters, [ids[333].clone()]);
    assert_eq!((stack.count("posts"), stack.count("likes")), (0, N - 1));
    stack.assert_counters_equal_rows();
}

#[test]
fn a_dead_suspect_does_not_overtake_an_earlier_waiting_entry_of_its_repo() {
    let stack = Stack::new("waiting_suspect");
    stack.sql(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no posts'; end $$;
         create trigger refuse before insert on posts for each row execute function refuse()",
    );
    stack.create_group();
    let waiting = stack.create(
        &did("alice"),
        "app.bsky.feed.post/1",
        post("refused, and nothing beside it is taken"),
    );
    let suspect = stack.create(&did("alice"), "app.bsky.feed.post/2", post("said to end the process"));
    stack.read_and_abandon(WORKER, 2);
    claim_often(&stack, std::slice::from_ref(&suspect));
    let key = format!("firehose:worker:tries:{GROUP}:{EVENTS}:{suspect}");
    cmd("SET").arg(key).arg(99).exec(&mut stack.redis()).expect("SET");
    let worker = stack
        .worker()
        .env("CONSUMER_ID", WORKER)
        .env("PARALLEL_CONSUMERS", "1")
        .spawn();
    wait_until("the first entry waits", || {
        match worker.log().contains("all of a batch is refused") {
            true => Ok(()),
            false => Err(shown(&worker.log())),
        }
    });
    // What is taken beside the first shows that nothing but the entry is at fault.
    stack.create(&did("bob"), "app.bsky.graph.follow/1", follow(&did("carol")));
    wait_until("all is done", || {
        equal((stack.pending(), stack.dead_letters().len()), (0, 2))
    });
    let letters: Vec<String> = stack
        .dead_letters()
        .iter()
        .map(|letter| letter["origId"].clone())
        .collect();
    assert_eq!(letters, [waiting, suspect], "{}", shown(&worker.log()));
    assert_eq!(stack.count("follows"), 1);
}

/// An entry that must be set apart, a part of the reason that its dead letter gives, and what else its commit holds.
struct Poison {
    fields: Vec<(&'static str, Vec<u8>)>,
    reason: &'static str,
    good: Option<Value>,
}

fn of_data(data: impl Into<Vec<u8>>, reason: &'static str) -> Poison {
    Poison {
        fields: vec![("type", b"commit".to_vec()), ("data", data.into())],
        reason,
        good: None,
    }
}

/// A commit of a good op and, written as it is, a bad one.
fn of_op(n: usize, bad: &str, reason: &'static str) -> Poison {
    let good = op(&format!("app.bsky.feed.post/good{n}"), post("beside a bad one"));
    let repo = did("poisoner");
    let data = format!(r#"{{"repo":"{repo}","ops":[{bad},{good}]}}"#);
    Poison {
        good: Some(json!({"repo": repo, "ops": [good]})),
        ..of_data(data, reason)
    }
}

fn op(path: &str, record: Value) -> Value {
    json!({"action": "create", "path": path, "cid": cid_for(path, &record), "record": record})
}

/// Entry number `n`, of one of twelve kinds.
fn poison(n: usize) -> Poison {
    let commit = |repo: Value, ops: Value| json!({"repo": repo, "ops": ops}).to_string();
    let deep = format!("{}{}", "[".repeat(1200), "]".repeat(1200));
    match n % 12 {
        0 => of_data("no JSON", "data is not JSON"),
        1 => of_data(b"{\"repo\":\"\xff\"}".to_vec(), "data is not UTF-8"),
        2 => of_data("[]", "data is not a JSON object"),
        3 => of_data(commit(json!(did("x")), json!({})), "ops is not an array"),
        4 => of_data(commit(json!("somebody"), json!([])), "repo is not a DID"),
        5 => Poison {
            fields: vec![("type", b"commit".to_vec())],
            reason: "the entry has no field \"data\"",
            good: None,
        },
        6 => Poison {
            fields: vec![("data", commit(json!(did("x")), json!([])).into_bytes())],
            reason: "the entry has no field \"type\"",
            good: None,
        },
        7 => of_op(n, "7", "the op is not an object"),
        8 => of_op(n, r#"{"action":"create","path":7}"#, "the op's path is not a string"),
        9 => of_op(
            n,
            &format!(r#"{{"action":"create","path":"a/b","record":{deep}}}"#),
            "the op is not JSON that can be read",
        ),
        10 => of_op(
            n,
            &op(&format!("app.bsky.feed.post/bad{n}"), post("refused")).to_string(),
            "this text is refused",
        ),
        _ => of_op(
            n,
            &op(&format!("app.bsky.graph.follow/bad{n}"), follow("did:web:refused")).to_string(),
            "violates check constraint \"nobody_follows_it\"",
        ),
    }
}

const REFUSE: &str = "
    create function refuse() returns trigger language plpgsql as $$
    begin
        if new.text = 'refused' then raise exception 'this text is refused' using errcode = '22003'; end if;
        return new;
    end $$;
    create trigger refuse before insert or update on posts for each row execute function refuse();
    alter table follows add constraint nobody_follows_it check (following_did <> 'did:web:refused')";

#[test]
fn twelve_kinds_of_poison_become_dead_letters_with_reasons_and_no_other_entry_does() {
    const N_POISON: usize = 24;
    let events: Vec<Event> = Events::new(31, 2400).collect();
    let stack = Stack::new("poisoned");
    let clean = Stack::new("not_poisoned");
    stack.sql(REFUSE);
    let mut sent = Sent::default();
    let mut ids = Vec::new();
    for (n, events) in events.chunks(events.len() / N_POISON).enumerate() {
        for to in [&stack, &clean] {
            sent = to.push_events(events.iter().cloned());
        }
        let poison = poison(n);
        let seq = format!("{}", 1_000_000 + n);
        let mut fields: Vec<(&str, &[u8])> = poison.fields.iter().map(|(name, value)| (*name, &**value)).collect();
        fields.push(("seq", seq.as_bytes()));
        ids.push(stack.push_fields(&fields));
        if let Some(good) = poison.good {
            clean.push_with_seq("commit", good, &seq);
        }
    }
    assert!(sent.total > 0);
    stack.drain();
    clean.drain();

    let letters = stack.dead_letters();
    let found: Vec<&String> = letters.iter().map(|letter| &letter["origId"]).collect();
    for (n, id) in ids.iter().enumerate() {
        let letter = letters.iter().find(|letter| letter["origId"] == *id);
        let reason = poison(n).reason;
        let letter = letter.unwrap_or_else(|| panic!("{id} ({reason}) is no dead letter: {found:?}"));
        assert!(letter["error"].contains(reason), "{} is not {reason}", letter["error"]);
        assert_eq!(letter["seq"], format!("{}", 1_000_000 + n));
    }
    assert_eq!(letters.len(), N_POISON, "{found:?}");
    for key in ["firehose:metrics", "cluster:metrics"] {
        let counted = ["totalEvents", "errors"].map(|field| stack.metric(key, field));
        assert_eq!(counted, [2400, N_POISON as i64], "totalEvents and errors of {key}");
    }
    assert_eq!(stack.pending(), 0);
    stack.assert_counters_equal_rows();
    // Authors and subjects of refused ops may be users or not.
    stack.sql("delete from users where did = 'did:web:refused'");
    assert_same(&stack.snapshot(), &clean.snapshot());
}
