//! The consumer group: the name under which this process reads, and the other processes of the group.
//!
//! Owns what several processes agree on by means of Redis and the worker's own tables: whether entries have passed from one process to another (`fence`), the renewal of entries
//! held for long, so that they are not taken over (`renew`), which processes write to the database (`members`), and the
//! use of XINFO and XPENDING (`stream_info`, `consumer`). Does not read or acknowledge entries.

pub mod consumer;
pub mod fence;
pub mod members;
pub mod renew;
pub mod session;
pub mod stream_info;
