//! Feeds an AT Protocol AppView's PostgreSQL from a Redis stream of firehose events.
//!
//! The data's way: `reader` → `decode` → `partition` → `batch` → `fold` → `apply` → `ack`. An entry is acknowledged only
//! after its transaction has committed or its dead letter was stored, so no path loses one; every statement is safe to run
//! twice, so an entry delivered again changes nothing.
//!
//! Threads: `reader`, `worker-0` …, `acker`, `metrics`, `losses`, `status`, `renewer`, `tries`, `holder`, `members`, `signals`,
//! `stderr`, under systemd `notify`, with METRICS_ADDR `http` and its connections; the main thread watches over them.

#![warn(clippy::print_stdout, clippy::print_stderr)] // they panic where nobody reads, or wait for whoever does not

// In the order in which data passes them.
pub mod entry;
pub mod reader;
pub mod partition;
pub mod batch;
pub mod worker;
pub mod decode;
pub mod rows;
pub mod fold;
pub mod apply;
pub mod ack;
pub mod in_flight;

// Beside the data's way: who reads with us, what is lost, and who is told.
pub mod group;
pub mod losses;
pub mod report;

// What all of it stands on, and what puts it together.
pub mod shown;
pub mod repeats;
pub mod stderr;
pub mod servers;
pub mod settings;
pub mod shutdown;
pub mod turns;
pub mod threads;
pub mod pipeline;

// What people call.
pub mod commands;
