//! The consumer group: under which name this process reads, and who else does.
//!
//! Owns what several processes agree on by way of Redis and the worker's own tables: who holds a consumer name (`holder`,
//! `lease`), whether entries have passed from one to another (`fence`),
//! what its entries' renewal keeps from being taken over (`renew`), which processes write to the database (`members`), and
//! what XINFO and XPENDING say of the stream. Does not read or acknowledge entries.

pub mod consumer;
pub mod fence;
pub mod holder;
pub mod lease;
pub mod mark;
pub mod members;
pub mod renew;
pub mod session;
pub mod stream_info;
