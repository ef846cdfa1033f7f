//! The terminal that a command writes to: its size, and the format of durations and sizes.

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

/// A number of bytes, with two digits or more.
pub fn bytes(number: f64) -> String {
    let units = [("KiB", 1e3), ("MiB", 1e3), ("GiB", 1e3), ("TiB", f64::INFINITY)];
    let mut number = number / 1024.0;
    for (unit, limit) in units {
        if number.abs() < limit {
            let digits = if number.abs() < 9.95 { 1 } else { 0 };
            return format!("{number:.digits$} {unit}");
        }
        number /= 1024.0;
    }
    format!("{number:.0} PiB")
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
    fn a_size_is_shown_with_two_digits_or_more() {
        let gib = f64::from(1 << 30);
        assert_eq!(
            [0.0, 2048.0, 1.77 * gib, 99.6 * gib, 5000.0 * gib, -gib].map(bytes),
            ["0.0 KiB", "2.0 KiB", "1.8 GiB", "100 GiB", "4.9 TiB", "-1.0 GiB"]
        );
    }

    #[test]
    fn a_duration_is_shown_in_its_largest_unit() {
        assert_eq!(
            [0, 119, 120, 7199, 7200, 172_800].map(duration),
            ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]
        );
    }
}
