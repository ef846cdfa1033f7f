//! The terminal that a command writes to: its size, and the end of its reader.

use std::io::{self, IsTerminal};

/// The width of stdout's terminal in columns; `None` if stdout is not a terminal.
pub fn terminal_width() -> Option<usize> {
    terminal_size().map(|(width, _)| width)
}

/// Columns and lines of stdout's terminal; `None` if stdout is not a terminal.
pub fn terminal_size() -> Option<(usize, usize)> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(width, height)| (width.0.into(), height.0.into()))
}

/// Ignores that the reader has closed the pipe, as `head` does.
pub fn ended_pipe_is_fine(result: anyhow::Result<()>) -> anyhow::Result<()> {
    let is_ended = |error: &anyhow::Error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    result.or_else(|error| if is_ended(&error) { Ok(()) } else { Err(error) })
}
