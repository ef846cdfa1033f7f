//! Thread `notify`: reports to the service manager, if NOTIFY_SOCKET is set.
//!
//! Owns READY, STATUS, WATCHDOG and STOPPING of sd_notify(3). The watchdog is fed only when every thread has sent a
//! heartbeat since the last time. It is no longer fed once a stop is requested: systemd has a separate time limit for
//! stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::logging;
use crate::logging::shown;
use crate::runtime::heartbeat::Watch;
use crate::runtime::shutdown::Stop;
use crate::runtime::threads::Threads;

/// How often the heartbeats are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How often the status is sent.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// A reply of PostgreSQL may take 35 s, and a thread may send no heartbeat meanwhile.
const SHORTEST_WATCHDOG: Duration = Duration::from_secs(90);

/// How long a stop may take beyond the data path's limit, for the last flush and the threads that outlive the path.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// The maximum length of the last warning in the status, in characters.
const MAX_WARNING: usize = 200;

/// Reports readiness to the service manager once: the configuration is valid and signals are handled. Servers may still
/// be unavailable.
#[derive(Clone, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    pub fn report(&self) {
        if !self.0.swap(true, Relaxed) {
            send(&[NotifyState::Ready]);
        }
    }
}

/// What the status line says of the process.
pub trait Progress: Send {
    /// What the process waits for: a server with the reason, or a step of the start. `None` if nothing.
    fn awaits(&self) -> Option<String>;

    /// How the process does at the moment, such as its rate over the last `time`. Called every `time`.
    fn pace(&mut self, time: Duration) -> String;

    /// What the process has done since its start.
    fn totals(&self) -> String;

    /// What a stop still has to do.
    fn rest(&self) -> &'static str;
}

/// The sources of the reports.
struct Notifier<P> {
    ready: Ready,
    progress: P,
    heartbeats: Watch,
    stop_timeout: Duration,
}

/// Starts the thread if a service manager receives the reports.
///
/// # Errors
///
/// The system refuses the thread.
pub fn spawn(
    threads: &mut Threads,
    ready: &Ready,
    progress: impl Progress + 'static,
    stop_timeout: Duration,
    stop: &Stop,
) -> anyhow::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let notifier = Notifier {
        ready: ready.clone(),
        progress,
        heartbeats: threads.heartbeats.watch(),
        stop_timeout,
    };
    threads.spawn_beside("notify", stop, move |stop| notifier.run(stop))
}

impl<P: Progress> Notifier<P> {
    /// Reports until `stop`, then reports the stop.
    fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        let mut watchdog = sd_notify::watchdog_enabled().map(Watchdog::new);
        let mut reported_wait = None;
        let mut status_at = None;
        while !stop.wait(POLL_INTERVAL) {
            let wait = self.wait();
            let is_due = status_at.is_none_or(|at: Instant| at.elapsed() >= STATUS_INTERVAL);
            if is_due || wait != reported_wait {
                send(&[NotifyState::Status(&self.status(wait.as_deref()))]);
                reported_wait = wait;
                status_at = Some(Instant::now());
            }
            self.ready.report();
            if let Some(watchdog) = &mut watchdog
                && watchdog.is_to_be_fed(&self.heartbeats.missing(), Instant::now())
            {
                send(&[NotifyState::Watchdog]);
            }
        }
        self.report_stop();
        Ok(())
    }

    fn wait(&self) -> Option<String> {
        let awaited = self.progress.awaits()?;
        Some(format!("waiting for {awaited}"))
    }

    fn status(&mut self, wait: Option<&str>) -> String {
        let pace = self.progress.pace(STATUS_INTERVAL);
        let mut status = wait.map_or(pace, str::to_owned);
        status += "; ";
        status += &self.progress.totals();
        if let Some((time, text)) = logging::last_warning()
            && !wait.is_some_and(|wait| text.starts_with(wait))
        {
            let time = chrono::DateTime::<chrono::Utc>::from(time).format("%F %T UTC");
            status += &format!("; last warning {time}: {}", shown::cut(&text, MAX_WARNING));
        }
        // A line feed would begin another variable of the notification.
        shown::one_line(&status)
    }

    /// Reports the stop, and requests the time that it may take in case the unit allows less.
    fn report_stop(&self) {
        let time = self.stop_timeout + STOP_MARGIN;
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let status = format!(
            "stopping: {}, for at most {:.0} s",
            self.progress.rest(),
            self.stop_timeout.as_secs_f64()
        );
        send(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(micros),
            NotifyState::Status(&status),
        ]);
    }
}

/// Decides when to feed systemd's watchdog.
struct Watchdog {
    /// systemd ends a process that does not feed the watchdog for this long.
    limit: Duration,
    fed_at: Instant,
    has_warned: bool,
}

impl Watchdog {
    fn new(limit: Duration) -> Watchdog {
        if limit < SHORTEST_WATCHDOG {
            log::warn!(
                "WatchdogSec is {} s: postgresql may take 35 s to answer, which would count as a hang; set at least {} s",
                limit.as_secs(),
                SHORTEST_WATCHDOG.as_secs()
            );
        }
        Watchdog {
            limit,
            fed_at: Instant::now(),
            has_warned: false,
        }
    }

    /// `missing` are the threads without a heartbeat since the last feeding. Logs them before systemd ends the process.
    fn is_to_be_fed(&mut self, missing: &[String], now: Instant) -> bool {
        if missing.is_empty() {
            self.fed_at = now;
            if std::mem::take(&mut self.has_warned) {
                log::info!("all threads respond again");
            }
            return true;
        }
        let time = now - self.fed_at;
        if time > self.limit / 2 && !self.has_warned {
            self.has_warned = true;
            log::error!(
                "no heartbeat from {} for {:.0} s: after {} s systemd restarts the process; nothing is lost",
                shown::list(missing),
                time.as_secs_f64(),
                self.limit.as_secs()
            );
        }
        false
    }
}

fn send(states: &[NotifyState]) {
    // If this fails, systemd's time limits apply, which systemd enforces and logs.
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("failed to notify the service manager: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_starves_while_a_thread_is_missing_and_is_fed_when_it_is_back() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Duration::from_secs(120));
        let at = |seconds| start + Duration::from_secs(seconds);
        let missing = ["worker-1".to_owned()];
        assert!(watchdog.is_to_be_fed(&[], at(10)));
        assert!(!watchdog.is_to_be_fed(&missing, at(65)));
        assert!(!watchdog.has_warned, "a statement may take this long");
        assert!(!watchdog.is_to_be_fed(&missing, at(75)));
        assert!(watchdog.has_warned);
        assert!(watchdog.is_to_be_fed(&[], at(80)));
        assert!(!watchdog.has_warned);
        assert!(!watchdog.is_to_be_fed(&missing, at(100)));
        assert!(!watchdog.has_warned, "counted from when it was last fed");
    }
}
