//! The terminal that a command writes to: its size, and the format of durations.

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

/// A duration in the largest unit of which it has at least two.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Ignores that the reader has closed the pipe, as `head` does.
pub fn ended_pipe_is_fine(result: anyhow::Result<()>) -> anyhow::Result<()> {
    let is_ended = |error: &anyhow::Error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    result.or_else(|error| if is_ended(&error) { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_its_largest_unit() {
        assert_eq!(
            [0, 119, 120, 7199, 7200, 172_800].map(duration),
            ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]
        );
    }
}
