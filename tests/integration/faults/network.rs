//! A network before either server that refuses, stalls and resets connections.

use std::thread;
use std::time::Duration;

use super::{World, lines_with, wait_for_line};
use crate::support::proxy::{Network, Proxy};
use crate::support::stack::shown;
use crate::support::wait_until;

const SERVERS: [&str; 2] = ["redis", "postgresql"];

fn proxy<'w>(world: &'w World, server: &str) -> &'w Proxy {
    match server {
        "redis" => &world.redis,
        _ => &world.postgres,
    }
}

#[test]
fn a_server_that_refuses_connections_is_waited_for_with_one_line_down_and_one_back() {
    for server in SERVERS {
        let mut world = World::new("refused");
        world.push(400);
        let mut worker = world.worker().spawn();
        world.settle();
        proxy(&world, server).set(Network::Refuse);
        world.push(400);
        wait_for_line(&mut worker, &["waiting for", server]);
        proxy(&world, server).set(Network::Forward);
        let log = world.finish(worker);
        assert_eq!(lines_with(&log, &["waiting for", server]), 1, "{log}");
        assert_eq!(lines_with(&log, &[server, "is back after"]), 1, "{log}");
    }
}

#[test]
fn connections_that_are_reset_again_and_again_lose_nothing() {
    for server in SERVERS {
        let mut world = World::new("reset");
        let worker = world.worker().spawn();
        for _ in 0..6 {
            world.push(100);
            let before = proxy(&world, server).connections();
            proxy(&world, server).reset();
            // For a worker that was done already, the connection's end shows at the next events only.
            world.push(50);
            wait_until("the worker connects again", || {
                proxy(&world, server).connections() > before
            });
        }
        world.finish(worker);
    }
}

/// The number of outages of a server that lines of the log count together.
fn outages_counted(log: &str, server: &str) -> usize {
    let counted = log.lines().filter_map(|line| {
        let (before, reason) = line.split_once(" more outages in the last minute: ")?;
        reason.starts_with(&format!("waiting for {server}")).then_some(before)
    });
    let number = |before: &str| {
        before
            .rsplit(' ')
            .next()
            .and_then(|number| number.parse::<usize>().ok())
    };
    counted.filter_map(number).sum()
}

#[test]
fn a_server_that_comes_and_goes_has_a_few_lines_that_count_every_outage() {
    let n_outages = if crate::support::skip::is_full() { 30 } else { 6 };
    for server in SERVERS {
        let mut world = World::new("flapping");
        let worker = world.worker().env("LOG_LEVEL", "DEBUG").spawn();
        let is_told = |log: &str| lines_with(log, &["aiting for", server]);
        let n_over = |log: &str| lines_with(log, &[server, "is back after"]);
        for _ in 0..n_outages {
            world.push(20);
            world.settle();
            let (before, n_before) = (is_told(&worker.log()), n_over(&worker.log()));
            proxy(&world, server).set(Network::Refuse);
            world.push(20);
            wait_until("the outage is met", || match is_told(&worker.log()) > before {
                true => Ok(()),
                false => Err(shown(&worker.log())),
            });
            proxy(&world, server).set(Network::Forward);
            // A thread that polls rarely may be the last that notices.
            wait_until("the outage is over", || match n_over(&worker.log()) > n_before {
                true => Ok(()),
                false => Err(shown(&worker.log())),
            });
        }
        let log = world.finish(worker);
        let log: Vec<&str> = log.lines().filter(|line| !line.contains(" DEBUG ")).collect();
        let log = log.join("\n");
        let down = lines_with(&log, &["waiting for", server, "nothing is lost"]);
        let back = lines_with(&log, &[server, "is back after"]);
        let counted = outages_counted(&log, server);
        println!("{server}: {down} outages logged, {back} recoveries, {counted} counted together");
        // Three a minute.
        assert!((1..=9).contains(&down), "{server}: {log}");
        assert_eq!(back, down, "{server}: {log}");
        assert!(down + counted >= n_outages, "{server}: {log}");
        assert!(lines_with(&log, &[server]) < 30, "{server}: {log}");
    }
}

#[test]
fn a_server_that_resets_each_new_connection_is_reported_as_down() {
    for server in SERVERS {
        let mut world = World::new("reset_new");
        world.push(200);
        let mut worker = world.worker().spawn();
        world.settle();
        proxy(&world, server).set(Network::Reset);
        world.push(200);
        wait_for_line(&mut worker, &["waiting for", server]);
        proxy(&world, server).set(Network::Forward);
        world.finish(worker);
    }
}

#[test]
fn a_redis_that_accepts_connections_but_never_answers_is_noticed() {
    let mut world = World::new("stalled_redis");
    world.push(200);
    let mut worker = world.worker().spawn();
    world.settle();
    world.redis.set(Network::Stall);
    world.push(300);
    wait_for_line(&mut worker, &["waiting for redis", "no answer"]);
    // What was held back is delivered now, also of connections that the worker has given up.
    world.redis.set(Network::Forward);
    world.finish(worker);
}

#[test]
fn a_postgresql_that_takes_connections_and_never_answers_is_noticed() {
    let mut world = World::new("stalled_postgres");
    world.postgres.set(Network::Stall);
    world.push(300);
    let mut worker = world.worker().spawn();
    wait_for_line(&mut worker, &["waiting for postgresql", "no answer"]);
    world.postgres.set(Network::Forward);
    world.finish(worker);
}

#[test]
fn a_postgresql_that_falls_silent_during_a_batch_is_logged_once() {
    let mut world = World::new("silent_postgres");
    world.push(200);
    let mut worker = world.worker().spawn();
    world.settle();
    world.postgres.set(Network::Stall);
    world.push(400);
    wait_for_line(&mut worker, &["waiting for postgresql: no answer for 10 s"]);
    world.postgres.set(Network::Forward);
    let log = world.finish(worker);
    assert_eq!(lines_with(&log, &["waiting for postgresql"]), 1, "{log}");
    assert_eq!(lines_with(&log, &["postgresql is back after 1"]), 1, "{log}");
}

#[test]
#[ignore = "slow; tests/run.sh --all runs it"]
fn an_outage_of_twenty_seconds_is_waited_for() {
    for server in SERVERS {
        for network in [Network::Refuse, Network::Stall, Network::Reset] {
            let mut world = World::new("long_outage");
            world.push(400);
            let worker = world.worker().spawn();
            world.settle();
            world.push(400);
            proxy(&world, server).set(network);
            thread::sleep(Duration::from_secs(20));
            proxy(&world, server).set(Network::Forward);
            let log = world.finish(worker);
            assert_eq!(lines_with(&log, &["waiting for", server]), 1, "{log}");
            assert_eq!(lines_with(&log, &[server, "is back after"]), 1, "{log}");
        }
    }
}
