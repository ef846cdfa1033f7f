//! The worker as its surroundings see it: a binary between a real Redis and a real PostgreSQL.
//!
//! One test binary, so that all tests share one throw-away PostgreSQL cluster. Modules in the order in which data goes.

#![allow(
    clippy::disallowed_methods,
    reason = "a column of another type than a test reads is the test's own fault"
)]

#[allow(dead_code, reason = "shared with the program `generate`, which uses the rest")]
#[path = "../generator/mod.rs"]
mod generator;
#[allow(dead_code, reason = "shared with the program `generate`, which uses the rest")]
#[path = "../sdk_dialect.rs"]
mod sdk_dialect;
#[allow(
    dead_code,
    reason = "shared with the program `relay`, and it can do more than the tests of one day use"
)]
#[path = "../relay/mod.rs"]
mod relay;
mod support;

// The made-up events themselves, and their second dialect; without any server.
mod generated;
// The test harness's servers start and stop; its relay sends what it is told to.
mod relayed;
mod servers;
// The consumer, from a relay to the stream.
mod consumer;
// From start to stop: configuration, waiting for servers, signals, draining.
mod lifecycle;
// How it connects: encrypted, by files, through sockets and PgBouncer.
mod pgbouncer;
mod secrets;
mod tls;
// Installation, and the reports to systemd.
mod install;
mod notify;
// Pending entries of an earlier run and of dead consumers; kills, poison entries, one process per consumer name.
mod delivery;
// Large entries, a stalled database, long backlogs.
mod memory;
// Entries trimmed before they are applied: counted, logged, forecast.
mod losses;
// Several workers on one group.
mod processes;
// Whole streams: totals, counters against rows, redelivery, dialects, real records.
mod stream;
mod structure;
// The rows of each collection's records, compared in full.
mod records;
mod posts;
mod feed;
mod graph;
mod actor;
// indexed_at, by which readers page.
mod indexed_at;
// The same rows however the events arrive: folded, repeated, out of order, with rivals, beside the AppView.
mod exactness;
// Side effects for the accounts that the AppView serves, and what they get afterwards.
mod local;
// The work that one author can cause, and batches that are too large for one transaction.
mod attacks;
// Servers and networks that fail.
mod faults;
// Random histories against a model.
mod histories;
// Everything that an entry may contain.
mod wire;
// Repair of rows that other workers left wrong.
mod repair;
// Old rows that concern no local account.
mod prune;
// The documentation, and the index of tests on rows.
mod docs;
mod index;
// The command for dead letters.
mod dead_letters;
// Every statement finds its rows by key.
mod plans;
// Metrics and health checks over HTTP.
mod prometheus;
// The page for people, at the same address.
mod page;
// Untrusted text is harmless in a terminal; the log delays no thread.
mod hostile;
mod logging;
// The commands check and status.
mod check;
mod status;
