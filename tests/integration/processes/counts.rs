//! The counts of processes that have taken entries over from one another: each entry is counted once.
//!
//! The first process has committed entries when its network to Redis breaks; the second takes them over.

use postgres::Client;
use serde_json::json;

use super::*;
use crate::records::post;
use crate::support::proxy::{Network, Proxy};
use crate::support::{Sent, entries};

const CLAIM_IDLE: &str = "2000";

struct Cut {
    stack: Stack,
    proxy: Proxy,
    first: Worker,
    second: Worker,
    /// Keeps both from writing.
    users: Option<Client>,
    n_posts: i64,
}

fn lock(stack: &Stack, table: &str) -> Client {
    let mut client = stack.database.client();
    client
        .batch_execute(&format!("BEGIN; LOCK TABLE {table}"))
        .expect("a lock");
    client
}

impl Cut {
    /// Has the first process read entries that it cannot acknowledge once it has written them. A second process that is
    /// frozen meanwhile holds none of them.
    fn new(name: &str, network: Network, is_second_frozen: bool) -> Cut {
        let stack = Stack::new(name);
        let proxy = Proxy::to(stack.redis.port());
        let first = stack
            .worker()
            .env("CONSUMER_ID", "first")
            .env("CLAIM_IDLE_MS", CLAIM_IDLE);
        let through = format!("redis://127.0.0.1:{}", proxy.port());
        let first = first.env("REDIS_URL", &through).spawn();
        let second = start(&stack, "second", CLAIM_IDLE);
        wait_for_members(&stack, 2);
        wait_for_readers(&stack, 2);
        if is_second_frozen {
            second.signal(libc::SIGSTOP);
        }
        let users = lock(&stack, "user_settings");
        let mut n_posts = 0;
        wait_until("the first has read some", || {
            n_posts += 1;
            post(&entries::did(&format!("user {n_posts}")), "1", "hello").create(&stack);
            pending_of(&stack, "first") > 4
        });
        proxy.set(network);
        Cut {
            stack,
            proxy,
            first,
            second,
            users: Some(users),
            n_posts,
        }
    }

    /// Ends both; every entry was counted once.
    #[track_caller]
    fn finish(mut self) {
        wait_until_acknowledged(&self.stack, &[&self.first, &self.second]);
        stop(&mut self.first);
        stop(&mut self.second);
        let logs = format!("{}\n{}", shown(&self.first.log()), shown(&self.second.log()));
        for key in ["firehose:metrics", "cluster:metrics"] {
            assert_eq!(self.stack.metric(key, "totalEvents"), self.n_posts, "{key}; {logs}");
        }
        assert_eq!(self.stack.count("posts"), self.n_posts);
        self.stack.assert_all_acknowledged();
    }
}

#[test]
fn entries_that_another_process_has_acknowledged_during_a_cut_are_counted_once() {
    // With one the first process can send nothing, with the other what it has sent arrives too late.
    for network in [Network::Refuse, Network::Stall] {
        let mut cut = Cut::new("count_other", network, false);
        cut.users = None;
        wait_until("the second has taken over and counted all", || {
            equal(cut.stack.metric("cluster:metrics", "totalEvents"), cut.n_posts)
        });
        cut.proxy.set(Network::Forward);
        cut.finish();
    }
}

#[test]
fn entries_taken_over_but_not_yet_acknowledged_are_counted_once() {
    let mut cut = Cut::new("count_first", Network::Refuse, true);
    cut.users = None;
    wait_until("the first has written some", || cut.stack.count("posts") > 0);
    let posts = lock(&cut.stack, "posts");
    cut.second.signal(libc::SIGCONT);
    wait_until("the second has taken all over", || {
        equal(pending_of(&cut.stack, "first"), 0)
    });
    cut.proxy.set(Network::Forward);
    drop(posts);
    cut.finish();
}

/// Appends entries of every kind that is counted, of many repos: their numbers, and how many are poison.
fn push_mixed(stack: &Stack) -> (Sent, i64) {
    let mut sent = Sent::default();
    for n in 0..60 {
        let did = entries::did(&format!("mixed {n}"));
        let (kind, data) = match n % 4 {
            0 => (
                "identity",
                json!({"did": did, "handle": format!("user{n}.example.com")}),
            ),
            1 => ("account", json!({"did": did, "active": true})),
            _ => ("commit", json!({"repo": did, "ops": []})),
        };
        stack.push(kind, data);
        sent.count(kind);
        post(&did, "1", "hello").create(stack);
        sent.count("commit");
    }
    (0..4).for_each(|_| drop(stack.push_fields(&[("type", b"commit"), ("data", b"no json"), ("seq", b"")])));
    (sent, 4)
}

/// Everything was counted once, by whom ever.
#[track_caller]
fn assert_counted_once(stack: &Stack, (sent, n_poison): (Sent, i64), logs: &[&Worker]) {
    let logs: Vec<String> = logs.iter().map(|worker| shown(&worker.log())).collect();
    let logs = logs.join("\n");
    for key in ["firehose:metrics", "cluster:metrics"] {
        let counted =
            ["totalEvents", "#commit", "#identity", "#account", "errors"].map(|field| stack.metric(key, field));
        let wanted = [sent.total, sent.commit, sent.identity, sent.account, n_poison];
        assert_eq!(counted, wanted, "{key}; {logs}");
    }
    assert_eq!(stack.dead_letters().len() as i64, n_poison, "{logs}");
    assert_eq!(stack.pending(), 0, "{logs}");
}

#[test]
fn processes_that_disagree_on_when_entries_are_left_behind_count_each_once() {
    let stack = Stack::new("count_settings");
    let mut patient = start(&stack, "patient", "30000");
    let mut hasty = start(&stack, "hasty", "1000");
    wait_for_members(&stack, 2);
    wait_for_readers(&stack, 2);
    let users = lock(&stack, "user_settings");
    let sent = push_mixed(&stack);
    wait_until("both have read some", || {
        let held = ["patient", "hasty"].map(|name| pending_of(&stack, name));
        match held.iter().all(|held| *held > 0) {
            true => Ok(()),
            false => Err(format!("{held:?}")),
        }
    });
    wait_until("one has taken over what the other holds", || {
        equal((pending_of(&stack, "patient"), lag(&stack).as_str()), (0, "0"))
    });
    drop(users);
    wait_until_acknowledged(&stack, &[&patient, &hasty]);
    stop(&mut patient);
    stop(&mut hasty);
    assert_counted_once(&stack, sent, &[&patient, &hasty]);
}

#[test]
fn an_acknowledgement_without_an_answer_counts_though_its_process_was_frozen_for_long() {
    let stack = Stack::new("count_frozen");
    let proxy = Proxy::to(stack.redis.port());
    let through = format!("redis://127.0.0.1:{}", proxy.port());
    let first = stack.worker().env("CONSUMER_ID", "first").env("CLAIM_IDLE_MS", "1000");
    let mut first = first.env("REDIS_URL", &through).spawn();
    let mut second = start(&stack, "second", "1000");
    wait_for_members(&stack, 2);
    wait_for_readers(&stack, 2);
    freeze(&stack, &second, "second");
    let users = lock(&stack, "user_settings");
    let sent = push_mixed(&stack);
    wait_until("the first has read all", || equal(lag(&stack).as_str(), "0"));
    proxy.hold("XACK");
    drop(users);
    wait_until("an acknowledgement is on its way", || equal(proxy.lost(), 1));
    first.signal(libc::SIGSTOP);
    let n_pending = stack.pending();
    proxy.lose_held(|| stack.pending() < n_pending);
    second.signal(libc::SIGCONT);
    freeze(&stack, &first, "first");
    first.signal(libc::SIGCONT);
    wait_until_acknowledged(&stack, &[&first, &second]);
    stop(&mut first);
    stop(&mut second);
    assert_counted_once(&stack, sent, &[&first, &second]);
}
