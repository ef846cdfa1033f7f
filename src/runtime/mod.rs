//! Threads, how they wait, and how they stop.

pub mod heartbeat;
pub mod retry;
pub mod shutdown;
pub mod threads;
