//! Threads: how they start, wait, show that they are alive, and stop.

pub mod heartbeat;
pub mod retry;
pub mod shutdown;
pub mod threads;
