//! The polite end of a connection.

use std::time::{Duration, Instant};

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, WebSocket};

use super::stream::{Stream, is_wait};

/// How long the relay may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Closes the connection. Reads and drops what the relay still sends, up to its answer: what is left unread would reset
/// the connection before the relay has read that it is closed.
pub fn close(socket: &mut WebSocket<Stream>, reason: &'static str) {
    let began_at = Instant::now();
    let frame = CloseFrame {
        code: CloseCode::Normal,
        reason: reason.into(),
    };
    // If this fails, the relay notices that the connection is gone.
    let _ = socket.close(Some(frame));
    socket.get_mut().socket().is_eager = false;
    while began_at.elapsed() < PATIENCE {
        match socket.read() {
            Err(Error::Io(error)) if is_wait(&error) => {}
            Err(_) => return,
            Ok(_) => {}
        }
    }
}
