//! Whether the worker makes progress: the state that `/readyz` returns.
//!
//! Owns the time of the last progress. Progress is an acknowledgement that Redis confirmed, and therefore committed
//! work, or a read of the stream that found nothing to do. A process that runs, or reads, but commits nothing makes no
//! progress.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Shared by all threads. `Relaxed` is enough, because the value does not depend on any other.
pub struct Readiness {
    started_at: Instant,
    /// Milliseconds from `started_at` to the last progress; 0 before the first.
    last_ms: AtomicU64,
}

impl Default for Readiness {
    fn default() -> Self {
        Readiness {
            started_at: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }
}

/// Longer than a batch takes under normal load, and shorter than an operator is willing to wait.
const PATIENCE: Duration = Duration::from_secs(30);

impl Readiness {
    /// Records an acknowledgement, or that there was nothing to do.
    pub fn progress_made(&self) {
        self.progress_made_at(self.started_at.elapsed());
    }

    fn progress_made_at(&self, since_start: Duration) {
        self.last_ms.fetch_max(since_start.as_millis().max(1) as u64, Relaxed);
    }

    /// Whether there was progress recently. The error states why the worker is not ready.
    pub fn check(&self) -> Result<(), String> {
        self.check_at(self.started_at.elapsed())
    }

    fn check_at(&self, since_start: Duration) -> Result<(), String> {
        let last = match self.last_ms.load(Relaxed) {
            0 => return Err("nothing has been acknowledged since the start, and the stream was not seen empty".into()),
            ms => Duration::from_millis(ms),
        };
        let silence = since_start.saturating_sub(last);
        if silence > PATIENCE {
            return Err(format!(
                "nothing has been acknowledged for {} s, and the stream is not empty",
                silence.as_secs()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_comes_with_the_first_progress_and_goes_without_more() {
        let readiness = Readiness::default();
        let at = Duration::from_secs;
        assert!(readiness.check_at(at(1)).unwrap_err().contains("since the start"));
        readiness.progress_made_at(at(2));
        assert_eq!(readiness.check_at(at(30)), Ok(()));
        assert!(readiness.check_at(at(40)).unwrap_err().contains("for 38 s"));
        readiness.progress_made_at(at(41));
        readiness.progress_made_at(at(3));
        assert_eq!(readiness.check_at(at(60)), Ok(()));
    }
}
