//! Feeds an AT Protocol AppView's PostgreSQL from a Redis stream of firehose events.
//!
//! The data's way: `reader` → `decode` → `partition` → `batch` → `fold` → `apply` → `ack`. An entry is acknowledged only
//! after its transaction has committed or its dead letter was stored, so no path loses one; every statement is safe to run
//! twice, so an entry delivered again changes nothing.
//!
//! Threads: `reader`, `worker-0` …, `acker`, `metrics`, `losses`, `status`, `renewer`, `holder`, `members`, `signals`, under
//! systemd `notify`, with METRICS_ADDR `http`; the main thread watches over them.

// In the order in which data passes them.
pub mod entry;
pub mod reader;
pub mod claim;
pub mod delivered;
pub mod hand_over;
pub mod decode;
pub mod partition;
pub mod batch;
pub mod rows;
pub mod fold;
pub mod worker;
pub mod poison;
pub mod apply;
pub mod sql;
pub mod dead_letter;
pub mod ack;
pub mod xack;
pub mod metrics;
pub mod flush;

// Beside the data's way: what it loses, what it holds, and who is told of it.
pub mod status;
pub mod losses;
pub mod stream_info;
pub mod renew;
pub mod notify;
pub mod progress;
pub mod exposition;
pub mod http;

// The commands of people.
pub mod commands;
pub mod repair;

// What they stand on.
pub mod cli;
pub mod config;
pub mod connect;
pub mod constraint;
pub mod consumer;
pub mod database_url;
pub mod db;
pub mod env_file;
pub mod fault;
pub mod holder;
pub mod in_flight;
pub mod link;
pub mod logging;
pub mod members;
pub mod once;
pub mod pipeline;
pub mod rates;
pub mod redis_url;
pub mod retry;
pub mod schema;
pub mod secret;
pub mod shutdown;
pub mod socket;
pub mod threads;
pub mod tls;
pub mod turns;
