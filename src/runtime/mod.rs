//! What every process and thread needs: starting, waiting, showing that it is alive, stopping, its rates and its host.

pub mod heartbeat;
pub mod host;
pub mod rates;
pub mod retry;
pub mod shutdown;
pub mod threads;
