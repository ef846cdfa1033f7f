//! PostgreSQL as the rest of the program sees it.
//!
//! Owns its address, connections and their limits of time, what kind of fault an error is, and the statements in sql/.
//! Knows nothing of entries and records.

pub mod address;
pub mod client;
pub mod columns;
pub mod connect;
pub mod constraint;
pub mod copy;
pub mod db;
pub mod fault;
pub mod params;
pub mod row;
pub mod schema;
pub mod socket;
pub mod sql;
pub mod templates;
pub mod transaction;
