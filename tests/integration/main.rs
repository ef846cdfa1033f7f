//! The worker as its surroundings see it: a binary between a real Redis and a real PostgreSQL.
//!
//! One test binary, so that all tests share one throw-away PostgreSQL cluster. Modules in the order in which data goes.

#![allow(
    clippy::disallowed_methods,
    reason = "a column of another type than a test reads is the test's own fault"
)]

#[allow(dead_code, reason = "shared with the example `generate`, which uses the rest")]
#[path = "../generator/mod.rs"]
mod generator;
#[allow(dead_code, reason = "shared with the example `generate`, which uses the rest")]
#[path = "../sdk_dialect.rs"]
mod sdk_dialect;
mod support;

// The made-up events themselves, and their second dialect; without any server.
mod generated;
// The servers of the tests start, stop and go.
mod servers;
// From start to stop: configuration, waiting for servers, signals, draining.
mod lifecycle;
// How it connects: encrypted, by files, through sockets and PgBouncer.
mod pgbouncer;
mod secrets;
mod tls;
// What is installed, and what systemd is told.
mod install;
mod notify;
// Pending entries: of an earlier run, of others that are gone.
// Pending entries, of an earlier run, of others that are gone; kills, poison, one process for a name.
mod delivery;
// Large entries, a stalled database, long backlogs.
mod memory;
// What the stream loses before it is read: counted, said, foretold.
mod losses;
// Several workers on one group.
mod processes;
// Whole streams: totals, counters against rows, redelivery, dialects, real records.
mod stream;
mod structure;
// What becomes of each collection's records, on whole rows.
mod records;
mod posts;
mod feed;
mod graph;
mod actor;
// When rows came, by which readers page.
mod indexed_at;
// The same rows however the events come: folded, repeated, out of order, with rivals, beside the app.
mod exactness;
// What one author can make the worker do, and what is too much for one transaction.
mod attacks;
// Servers and networks that fail.
mod faults;
// The same of random histories, against a model.
mod histories;
// Everything that may stand in an entry.
mod wire;
// What other workers have left wrong is made right.
mod repair;
// The documentation, and the index of tests on rows.
mod docs;
mod index;
// What a person does about dead letters.
mod dead_letters;
// Every statement finds its rows by key.
mod plans;
// What a scraper and a health check see.
mod prometheus;
// What strangers write is harmless in a terminal; the log holds nobody up.
mod hostile;
mod logging;
// What a person asks: can it run, how does it fare.
mod check;
mod status;
