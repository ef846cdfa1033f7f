//! Feeds an AT Protocol AppView's PostgreSQL from a Redis stream of firehose events.
//!
//! The data's way: `reader` → `decode` → `partition` → `batch` → `fold` → `apply` → `ack`. An entry is acknowledged only
//! after its transaction has committed or its dead letter was stored, so no path loses one; every statement is safe to run
//! twice, so an entry delivered again changes nothing.
//!
//! Threads: `reader`, `worker-0` …, `acker`, `metrics`, `losses`, `status`, `renewer`, `tries`, `holder`, `members`, `signals`,
//! `stderr`, under systemd `notify`, with METRICS_ADDR `http` and its connections; the main thread watches over them.

#![warn(clippy::print_stdout, clippy::print_stderr)] // they panic where nobody reads, or wait for whoever does not

// Lowest first: a module imports only modules above it in this list. tests/integration/structure.rs holds it.

// What every part of the program stands on.
pub mod logging;
pub mod runtime;
pub mod tls;
pub mod entry;
pub mod micros;
pub mod redis;

// What an event's records become: rows, and the statements that write them.
pub mod decode;
pub mod rows;
pub mod postgres;

pub mod settings;
pub mod keys;

// The worker: what becomes of an entry, what is counted, which processes read a stream, and the data's way from the stream
// to the acknowledgement.
pub mod fold;
pub mod partition;
pub mod batch;
pub mod dead_letter;
pub mod outcome;
pub mod metrics;
pub mod in_flight;
pub mod group;
pub mod losses;
pub mod apply;
pub mod reader;
pub mod worker;
pub mod ack;
pub mod report;
pub mod pipeline;

// What people call.
pub mod commands;
