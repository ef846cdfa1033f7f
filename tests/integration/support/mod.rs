//! The test harness: real servers, the real binary, and means to inspect the results.
//!
//! A test makes a `Stack` (its own Redis, its own database in one throw-away PostgreSQL cluster), puts entries in its
//! stream, runs the worker's binary over them, and compares rows. Nothing here depends on the worker's internals, and
//! nothing is mocked. In reading order: scratch (directories, and the guard that ends servers when the tests have
//! ended), process (one child), certificates, postgres, pgbouncer, redis, proxy, tunnel, worker, manager, freeze, skip, stack,
//! snapshot, entries, wait, consumer.

#![allow(dead_code, reason = "a harness offers more than the tests of one day use")]

pub(crate) mod certificates;
pub(crate) mod consumer;
pub(crate) mod entries;
pub(crate) mod pgbouncer;
pub(crate) mod freeze;
pub(crate) mod manager;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod scratch;
pub(crate) mod skip;
pub(crate) mod snapshot;
pub(crate) mod stack;
pub(crate) mod tunnel;
pub(crate) mod wait;
pub(crate) mod worker;

#[allow(
    unused_imports,
    reason = "the names that a test file is expected to import from here"
)]
pub(crate) use self::{
    postgres::{Database, PostgresOptions, PostgresServer},
    redis::RedisServer,
    snapshot::{Snapshot, assert_same},
    stack::{EVENTS, GROUP, Sent, Stack},
    wait::{wait_until, wait_until_within},
    worker::{Output, Worker, WorkerBuilder},
};
