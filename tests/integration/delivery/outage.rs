//! Redis is down for longer than CLAIM_IDLE_MS: no worker can renew its entries meanwhile, although all of them are
//! alive.

use std::collections::BTreeMap;

use redis::cmd;

use crate::support::entries::{did, follow};
use crate::support::proxy::{Network, Proxy};
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{EVENTS, GROUP, Stack, wait_until};

/// After this time entries may be taken over; the outage lasts longer.
const IDLE_MS: u64 = 3000;

/// Who holds which entries.
fn holders(stack: &Stack) -> BTreeMap<String, String> {
    let mut ask = cmd("XPENDING");
    ask.arg(EVENTS).arg(GROUP).arg("-").arg("+").arg(1000);
    let pending: Vec<(String, String, u64, u64)> = ask.query(&mut stack.redis()).expect("XPENDING");
    pending.into_iter().map(|(id, consumer, ..)| (id, consumer)).collect()
}

#[test]
fn entries_of_live_workers_are_not_taken_over_after_a_long_outage_of_redis() {
    let stack = Stack::new("away_for_long");
    stack.create_group();
    let networks = [(); 2].map(|()| Proxy::to(stack.redis.port()));
    let spawn = |name: &str, network: &Proxy| {
        let worker = stack.worker().env("CONSUMER_ID", name);
        let url = format!("redis://127.0.0.1:{}", network.port());
        let worker = worker.env("REDIS_URL", &url);
        worker.env("CLAIM_IDLE_MS", &IDLE_MS.to_string()).spawn()
    };
    let workers = [spawn("worker-a", &networks[0]), spawn("worker-b", &networks[1])];
    let logs = || workers.each_ref().map(|worker| shown(&worker.log())).join("\n");
    let mut lock = stack.database.client();
    let mut lock = lock.transaction().expect("a transaction");
    lock.batch_execute("lock table follows").expect("the lock");
    let mut sent = 0;
    wait_until("both workers hold entries", || {
        let path = format!("app.bsky.graph.follow/{sent}");
        stack.create(&did(&format!("user {sent}")), &path, follow(&did("bob")));
        sent += 1;
        ["worker-a", "worker-b"].map(|name| holders(&stack).values().any(|holder| holder == name)) == [true, true]
    });
    wait_until("all is read", || equal(holders(&stack).len(), sent));
    let before = holders(&stack);

    networks.iter().for_each(|network| network.set(Network::Stall));
    wait_until("no entry has been renewed", || {
        equal(super::n_idle(&stack, IDLE_MS), sent)
    });
    networks[1].set(Network::Forward);
    wait_until("the second is back", || super::n_idle(&stack, IDLE_MS) < sent);
    networks[0].set(Network::Forward);
    wait_until("all is renewed", || {
        equal(super::n_idle(&stack, IDLE_MS), 0).map_err(|error| format!("{error}; {}", logs()))
    });
    assert_eq!(holders(&stack), before, "{}", logs());
    lock.rollback().expect("the lock goes");
    let sent = sent as i64;
    wait_until("all is counted", || {
        equal(
            (stack.metric("cluster:metrics", "totalEvents"), stack.pending()),
            (sent, 0),
        )
    });
    assert_eq!(stack.count("follows"), sent);
    assert!(!logs().contains("took over"), "{}", logs());
    assert!(!logs().contains("has taken over"), "{}", logs());
}
