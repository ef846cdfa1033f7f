//! What every process and thread needs: memory, starting, waiting, showing that it is alive, stopping, its rates and its host.

pub mod heap;
pub mod heartbeat;
pub mod host;
pub mod rates;
pub mod retry;
pub mod shutdown;
pub mod threads;
