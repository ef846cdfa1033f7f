//! The first event of a new connection, which is then closed: where a relay's stream is at the moment, or begins.

use std::time::{Duration, Instant};

use tungstenite::{Error, Message, WebSocket};

use super::close::close;
use super::dial::describe;
use super::stream::{Stream, is_wait};
use crate::consumer::intake::millis;
use crate::firehose::frame;
use crate::runtime::heartbeat;
use crate::runtime::shutdown::{Stop, Stopped};

/// What a connection began with.
pub enum First {
    /// Seq and time, in milliseconds since 1970, of an event.
    Event { seq: u64, time_ms: Option<u64> },
    /// No event came in time.
    Nothing,
    /// The connection ended before an event came.
    Ended(String),
}

/// Waits for the first event, for at most `patience`.
///
/// # Errors
///
/// A stop was requested.
pub fn first_event(mut socket: WebSocket<Stream>, patience: Duration, stop: &Stop) -> Result<First, Stopped> {
    let began_at = Instant::now();
    while began_at.elapsed() < patience {
        heartbeat::beat();
        stop.check()?;
        match socket.read() {
            Ok(Message::Binary(message)) => {
                let Ok(frame) = frame::read(&message) else { continue };
                if let Some(seq) = frame.seq() {
                    let time_ms = frame.time().and_then(millis);
                    close(&mut socket, "");
                    return Ok(First::Event { seq, time_ms });
                }
            }
            Ok(_) => {}
            Err(Error::Io(error)) if is_wait(&error) => {}
            Err(error) => return Ok(First::Ended(describe(&error))),
        }
    }
    close(&mut socket, "");
    Ok(First::Nothing)
}
