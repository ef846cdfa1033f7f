//! Thread `stderr`: writes lines to standard error, so that no other thread waits for it.
//!
//! Owns a queue, bounded in bytes, and the only thread that writes to standard error. A reader that stalls, such as a
//! restarting journal or the other end of a pipe, blocks only this thread, which is therefore exempt from heartbeats.
//! When the queue is full, the newest lines are dropped and counted; the number is logged once lines are written again.
//!
//! Invariant: `print` never waits for standard error, and `flush` waits for a limited time.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::panic;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::logging::shown;

/// The capacity of the queue in bytes. The thread may hold as many again while it writes them.
const CAPACITY: usize = 128 << 10;

/// How long the process waits for its last lines to be written when it ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// The wait before another attempt if standard error is non-blocking and full.
const RETRY: Duration = Duration::from_millis(50);

static QUEUE: Queue = Queue::new();

/// Queues the lines of a text, with escapes for harmful characters.
pub fn print(text: &str) {
    let mut lines = String::with_capacity(text.len() + 1);
    for line in text.lines() {
        lines += &shown::harmless(line);
        lines.push('\n');
    }
    QUEUE.push(&lines);
}

/// Passes whole lines to `print`, for code that needs a writer.
pub struct Queued;

impl Write for Queued {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        print(&String::from_utf8_lossy(lines));
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until all lines are written, for at most a second.
pub fn flush() {
    QUEUE.flush(FLUSH_LIMIT);
}

/// Starts the thread, and reports panics through it. Lines printed earlier stay queued until then. Dropping the result
/// flushes the queue.
pub fn start() -> Flushed {
    let started = io::stderr().as_fd().try_clone_to_owned().and_then(|stderr| {
        let run = move || run(File::from(stderr));
        std::thread::Builder::new().name("stderr".into()).spawn(run)
    });
    if let Err(error) = started {
        // Without the thread this is the only output.
        let _ = writeln!(io::stderr(), "failed to start the thread stderr: {error}");
    }
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let line = format!("thread {}: {panic}", thread.name().unwrap_or("without a name"));
        match log::log_enabled!(log::Level::Error) {
            true => log::error!("{line}"),
            false => print(&shown::one_line(&line)),
        }
    }));
    Flushed(())
}

/// Flushes the queue when it is dropped.
pub struct Flushed(());

impl Drop for Flushed {
    fn drop(&mut self) {
        flush();
    }
}

fn run(mut stderr: File) {
    loop {
        let text = QUEUE.take();
        let n_lost = write(&mut stderr, text.as_bytes());
        if let Some(number) = QUEUE.written(n_lost) {
            log::warn!("{number} log lines were dropped, because standard error did not accept them");
        }
    }
}

/// Writes all bytes, however long it takes; returns the number of lines that an error prevented from being written.
fn write(out: &mut impl Write, mut bytes: &[u8]) -> usize {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(number @ 1..) => bytes = &bytes[number..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            _ => return bytes.iter().filter(|byte| **byte == b'\n').count(),
        }
    }
    0
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Whole lines.
    text: String,
    /// Text that was taken out of the queue is not written yet.
    is_writing: bool,
    /// Lines are dropped until all earlier ones are written, so that the log has one gap and not several.
    is_full: bool,
    /// The number of dropped lines that is not reported yet.
    n_dropped: usize,
}

impl Queue {
    const fn new() -> Queue {
        Queue {
            state: Mutex::new(State {
                text: String::new(),
                is_writing: false,
                is_full: false,
                n_dropped: 0,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, lines: &str) {
        let mut state = self.lock();
        if state.is_full || (!state.text.is_empty() && state.text.len() + lines.len() > CAPACITY) {
            state.is_full = true;
            state.n_dropped += lines.lines().count();
            return;
        }
        state.text += lines;
        self.changed.notify_all();
    }

    /// Waits for lines, and removes all from the queue.
    fn take(&self) -> String {
        let state = self.lock();
        let waited = self.changed.wait_while(state, |state| state.text.is_empty());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        std::mem::take(&mut state.text)
    }

    /// Records that the taken text was written, except `n_lost` lines. Returns the number of dropped lines once the
    /// queue is empty and the last write succeeded.
    fn written(&self, n_lost: usize) -> Option<usize> {
        let mut state = self.lock();
        state.is_writing = false;
        state.n_dropped += n_lost;
        self.changed.notify_all();
        if !state.text.is_empty() {
            return None;
        }
        state.is_full = false;
        if n_lost > 0 {
            return None;
        }
        Some(std::mem::take(&mut state.n_dropped)).filter(|number| *number > 0)
    }

    fn flush(&self, limit: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.text.is_empty();
        // After the limit the remaining lines are given up: standard error has stalled.
        drop(self.changed.wait_timeout_while(self.lock(), limit, is_busy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_the_newest_lines_and_reports_their_number() {
        let queue = Queue::new();
        let line = "x".repeat(1023) + "\n";
        for _ in 0..200 {
            queue.push(&line);
        }
        assert_eq!(queue.take().len(), CAPACITY);
        queue.push("still in the gap\n");
        assert_eq!(queue.written(0), Some(200 - CAPACITY / 1024 + 1));
        queue.push("after the gap\n");
        assert_eq!(queue.take(), "after the gap\n");
        assert_eq!(queue.written(0), None);
    }

    #[test]
    fn a_write_that_fails_while_the_queue_is_full_does_not_close_it() {
        let queue = Queue::new();
        queue.push("a line\n");
        queue.take();
        queue.push(&"x".repeat(CAPACITY));
        queue.push("one too many\n");
        assert_eq!(queue.written(1), None);
        queue.take();
        assert_eq!(queue.written(1), None);
        queue.push("a line\n");
        assert_eq!(queue.take(), "a line\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_reported_once_others_can() {
        let queue = Queue::new();
        for n_lost in [1, 1, 0] {
            queue.push("a line\n");
            queue.take();
            let reported = queue.written(n_lost);
            assert_eq!(reported, if n_lost == 0 { Some(2) } else { None });
        }
    }

    #[test]
    fn writing_goes_on_after_an_interruption_and_counts_the_lines_that_an_error_costs() {
        struct Script(Vec<io::Result<usize>>, Vec<u8>);
        impl Write for Script {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let number = self.0.remove(0)?;
                self.1.extend(&bytes[..number]);
                Ok(number)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let errors = [ErrorKind::Interrupted, ErrorKind::WouldBlock].map(|kind| Err(kind.into()));
        let mut script = Script(errors.into_iter().chain([Ok(2), Ok(4)]).collect(), Vec::new());
        assert_eq!((write(&mut script, b"ab\ncd\n"), script.1), (0, b"ab\ncd\n".to_vec()));
        let mut full = Script(vec![Ok(2), Err(ErrorKind::StorageFull.into())], Vec::new());
        assert_eq!(write(&mut full, b"ab\ncd\n"), 2);
    }

    #[test]
    fn a_flush_ends_without_a_writer_thread() {
        let queue = Queue::new();
        queue.push("a line\n");
        queue.flush(Duration::from_millis(1));
        assert_eq!(queue.take(), "a line\n");
    }
}
