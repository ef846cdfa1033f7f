//! From a relay to the rows: consumer and worker together.

use crate::generator::Event;
use crate::relay::Relay;
use crate::support::consumer::{Line, wait_for_log};
use crate::support::skip::is_full;
use crate::support::wait::equal;
use crate::support::{
    Database, EVENTS, GROUP, PostgresServer, RedisServer, Snapshot, Stack, WorkerBuilder, assert_same, wait_until,
};

/// A consumer's servers, and the worker's database.
struct World {
    line: Line,
    database: Database,
}

impl World {
    fn new(name: &str) -> World {
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        World {
            line: Line::with(Relay::start(), RedisServer::start_with(&durable)),
            database: Database::new(PostgresServer::shared(), name),
        }
    }

    fn worker(&self) -> WorkerBuilder {
        WorkerBuilder::new()
            .env("REDIS_URL", &self.line.redis.url())
            .env("DATABASE_URL", &self.database.url())
    }

    /// How many events the worker has applied.
    fn n_applied(&self) -> u64 {
        let mut total = redis::cmd("HGET");
        total.arg("cluster:metrics").arg("totalEvents");
        self.line.query::<Option<u64>>(&total).unwrap_or_default()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::take(&mut self.database.client())
    }
}

/// The rows that a worker makes of these entries, without a consumer.
fn rows_of(name: &str, entries: Vec<Event>) -> Snapshot {
    let stack = Stack::new(name);
    stack.push_events(entries);
    stack.drain();
    stack.snapshot()
}

#[test]
fn the_rows_are_those_of_the_relays_events_though_every_program_between_is_killed() {
    let n_rounds = if is_full() { 40 } else { 4 };
    let world = World::new("pipeline");
    let line = &world.line;
    let (mut consumer, mut worker) = (line.consumer().spawn(), world.worker().spawn());
    for round in 0..n_rounds {
        let some = line.length() + fastrand::u64(1..400);
        line.append(round, 500);
        wait_until("some events are appended", || line.length() >= some);
        consumer.kill();
        worker.kill();
        if round % 2 == 1 {
            line.redis.kill();
            line.redis.restart();
        }
        (consumer, worker) = (line.consumer().spawn(), world.worker().spawn());
    }
    line.wait_until_read();
    line.assert_exact();
    worker.kill();
    let drained = world.worker().arg("--drain").run_to_exit();
    assert!(drained.status.success(), "{}", drained.log);
    assert_same(
        &world.snapshot(),
        &rows_of("pipeline_wanted", line.relay.entries_after(0)),
    );
}

#[test]
fn a_backlog_of_many_times_the_streams_length_reaches_a_worker_that_was_stopped() {
    let (n_events, max_len) = if is_full() { (200_000, 20_000) } else { (5000, 1000) };
    let world = World::new("backlog");
    let line = &world.line;
    let create = ["CREATE", EVENTS, GROUP, "0", "MKSTREAM"];
    line.query::<()>(redis::cmd("XGROUP").arg(&create));
    line.append(1, n_events);
    let consumer = line
        .consumer()
        .env("REDIS_MAX_STREAM_LEN", &max_len.to_string())
        .spawn();
    wait_for_log(&consumer, "paused: the group firehose-processors has");
    let length = line.length();
    assert!(
        (max_len / 2..max_len).contains(&length),
        "paused at {length} of {max_len}"
    );
    assert_eq!(
        line.entries()[0].seq,
        line.relay.entries_after(0)[0].seq,
        "an unread entry was trimmed"
    );
    let worker = world.worker().spawn();
    let wanted = line.relay.entries_after(0);
    wait_until("the worker has applied every event", || {
        assert!(line.length() < max_len + 128, "{} entries", line.length());
        equal(world.n_applied(), wanted.len() as u64)
    });
    wait_for_log(&consumer, "resuming after a pause of");
    drop(worker);
    assert_same(&world.snapshot(), &rows_of("backlog_wanted", wanted));
}
