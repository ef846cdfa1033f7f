//! Real failures of servers and networks. Afterwards the rows are those of a run without faults, nothing is pending,
//! the dead letters are exactly the poison entries, and every count is exact.
//!
//! Each fault has a short form here; FIREHOSE_TEST_ALL=1 adds the long ones.

mod earlier;
mod failover;
mod lost_answers;
mod network;
mod postgres;
mod redis;
mod refused_letters;
mod rights;
mod schema;
mod soak;

use std::sync::OnceLock;
use std::time::Duration;

use crate::generator::{Event, Events};
use crate::support::proxy::Proxy;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{
    PostgresOptions, PostgresServer, RedisServer, Sent, Snapshot, Stack, Worker, WorkerBuilder, assert_same,
    wait_until_within,
};

/// Events of a test's stream.
const N_EVENTS: usize = 1200;

/// A worker that does not go on after a fault has this long to do so, on a machine however busy.
const LIMIT: Duration = Duration::from_secs(100);

/// A stack with a breakable network before each server, and a stream whose rows are known.
struct World {
    stack: Stack,
    redis: Proxy,
    postgres: Proxy,
    sent: Sent,
    pushed: usize,
}

impl World {
    fn new(name: &str) -> World {
        World::of(Stack::new(name))
    }

    fn with_postgres(name: &str, settings: Vec<(&'static str, String)>) -> World {
        let options = PostgresOptions { settings, fsync: false };
        World::of(Stack::with_postgres(name, PostgresServer::start(options)))
    }

    /// With a Redis that keeps what it has answered.
    fn with_redis(name: &str, redis: RedisServer) -> World {
        let database = crate::support::Database::new(PostgresServer::shared(), name);
        World::of(Stack::of(redis, database))
    }

    fn of(stack: Stack) -> World {
        World {
            redis: Proxy::to(stack.redis.port()),
            postgres: Proxy::to(stack.database.server().port()),
            stack,
            sent: Sent::default(),
            pushed: 0,
        }
    }

    /// A worker whose connections go through the breakable network.
    fn worker(&self) -> WorkerBuilder {
        let through = |url: String, from: u16, to: &Proxy| url.replace(&format!(":{from}"), &format!(":{}", to.port()));
        let redis = through(self.stack.redis_url(), self.stack.redis.port(), &self.redis);
        let server = self.stack.database.server();
        let postgres = through(self.stack.database_url(), server.port(), &self.postgres);
        self.stack
            .worker()
            .env("REDIS_URL", &redis)
            .env("DATABASE_URL", &postgres)
    }

    /// Appends the next part of the stream.
    fn push(&mut self, n_events: usize) {
        let part = &events()[self.pushed..][..n_events];
        let sent = self.stack.push_events(part.iter().cloned());
        self.pushed += n_events;
        self.sent = self.sent.plus(sent);
    }

    fn push_rest(&mut self) {
        self.push(N_EVENTS - self.pushed);
    }

    fn counted(&self) -> i64 {
        self.stack.metric("cluster:metrics", "totalEvents")
    }

    /// Waits until everything pushed so far is counted.
    #[track_caller]
    fn settle(&self) {
        wait_until_within("all events are counted", LIMIT, || {
            equal(self.counted(), self.sent.total)
        });
    }

    /// Appends what is left of the stream, waits until all of it is counted, and compares with a run without faults.
    #[track_caller]
    fn finish(mut self, mut worker: Worker) -> String {
        self.push_rest();
        self.settle();
        worker.signal(libc::SIGTERM);
        let status = worker.wait_exit(Duration::from_secs(45));
        assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
        self.assert_as_without_faults();
        worker.log()
    }

    #[track_caller]
    fn assert_as_without_faults(&self) {
        self.stack.assert_all_acknowledged();
        self.stack.assert_counted(self.sent);
        self.stack.assert_counters_equal_rows();
        assert_same(&self.stack.snapshot(), undisturbed());
    }
}

fn events() -> &'static [Event] {
    static EVENTS: OnceLock<Vec<Event>> = OnceLock::new();
    EVENTS.get_or_init(|| Events::new(77, N_EVENTS as u64).collect())
}

/// The rows of a run without faults.
fn undisturbed() -> &'static Snapshot {
    static ROWS: OnceLock<Snapshot> = OnceLock::new();
    ROWS.get_or_init(|| {
        let stack = Stack::new("undisturbed");
        stack.push_events(events().iter().cloned());
        stack.drain();
        stack.snapshot()
    })
}

/// Waits until the log has a line with all of these words.
#[track_caller]
fn wait_for_line(worker: &mut Worker, words: &[&str]) {
    wait_until_within(&format!("the worker logs a line with {words:?}"), LIMIT, || {
        match (lines_with(&worker.log(), words) > 0, worker.runs()) {
            (true, _) => Ok(()),
            (false, true) => Err(shown(&worker.log())),
            (false, false) => panic!("the worker has ended; {}", shown(&worker.log())),
        }
    });
}

fn lines_with(log: &str, words: &[&str]) -> usize {
    let has = |line: &&str| words.iter().all(|word| line.contains(word));
    log.lines().filter(has).count()
}
