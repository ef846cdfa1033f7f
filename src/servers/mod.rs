//! Redis and PostgreSQL as the rest of the worker sees them.
//!
//! Owns connections, their limits of time, the time itself, what kind of fault an error is, how long to wait for a server,
//! and the statements in sql/. Knows nothing of entries and records.

pub mod clock;
pub mod columns;
pub mod connect;
pub mod constraint;
pub mod db;
pub mod fault;
pub mod link;
pub mod once;
pub mod retry;
pub mod row;
pub mod schema;
pub mod socket;
pub mod sql;
pub mod tls;
