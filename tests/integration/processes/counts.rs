//! What processes count that have taken entries over from one another: each entry once.
//!
//! The first process has committed entries when its network to Redis breaks; the second takes them over.

use postgres::Client;

use super::*;
use crate::records::post;
use crate::support::entries;
use crate::support::proxy::{Network, Proxy};

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
    /// Has the first process read entries that it cannot acknowledge once it has written them.
    fn new(name: &str, network: Network) -> Cut {
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
        let mut cut = Cut::new("count_other", network);
        cut.users = None;
        wait_until("the second has taken over and counted all", || {
            equal(cut.stack.metric("cluster:metrics", "totalEvents"), cut.n_posts)
        });
        cut.proxy.set(Network::Forward);
        cut.finish();
    }
}

#[test]
fn entries_that_another_process_has_taken_over_and_not_acknowledged_yet_are_counted_once() {
    let mut cut = Cut::new("count_first", Network::Refuse);
    cut.second.signal(libc::SIGSTOP);
    cut.users = None;
    wait_until("the first has written some", || cut.stack.count("posts") > 0);
    let posts = lock(&cut.stack, "posts");
    cut.second.signal(libc::SIGCONT);
    wait_until("the second has taken all over", || {
        equal(pending_of(&cut.stack, "first"), 0)
    });
    let n_pending = pending_of(&cut.stack, "second");
    assert!(n_pending > 0, "{}", shown(&cut.second.log()));
    cut.proxy.set(Network::Forward);
    wait_until("the first has acknowledged some", || cut.stack.pending() < n_pending);
    drop(posts);
    cut.finish();
}
