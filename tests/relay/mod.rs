//! A relay that a test controls: it serves the events that the test appends, from any cursor, and misbehaves on demand.
//!
//! In reading order: encode (DAG-CBOR, CIDs, CARs), frames (an event as a relay sends it, and the entry that a consumer
//! must make of it), message (a frame whose seq and time are filled in when it is sent), oracle (a received frame's
//! entry, by another implementation), conduct (how the relay behaves), websocket (the server's side of the protocol, by
//! hand, so that it can be violated), log (the events that the relay holds), server, subscriber (one connection).
//!
//! Shared by the program `relay` and the integration tests.

pub(crate) mod conduct;
pub(crate) mod encode;
pub(crate) mod frames;
mod log;
pub(crate) mod message;
pub(crate) mod oracle;
pub(crate) mod server;
mod subscriber;
mod websocket;

pub(crate) use self::conduct::Conduct;
pub(crate) use self::message::Message;
pub(crate) use self::server::{Relay, tls};
