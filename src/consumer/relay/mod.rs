//! The connection to a relay: from its address to an open WebSocket.

pub mod close;
pub mod dial;
pub mod first;
mod proxy;
mod stream;

pub use stream::{Stream, TICK, is_wait};
