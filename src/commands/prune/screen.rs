//! The line on a terminal that shows how far a prune is.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::progress::{Place, State};
use super::sizes::{Sizes, bytes};
use super::{STEPS, Step};
use crate::figures::text::duration;

const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Screen {
    shown_at: Option<Instant>,
    /// When the first line was due, and the share of the walk that was done by then.
    began: Option<(Instant, f64)>,
    /// The time of the first row of the current step, if it walks in the order of time.
    first: Option<(&'static str, i64)>,
}

impl Screen {
    /// Shows how far the prune is, if it is time and stderr is a terminal.
    pub fn show(&mut self, step: &'static Step, place: &Place, state: &State, sizes: &Sizes) {
        if self.first.is_none_or(|(name, _)| name != step.name) {
            self.first = Some((step.name, place.at));
        }
        if !io::stderr().is_terminal() || self.shown_at.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        self.shown_at = Some(Instant::now());
        let done = self.share(step, place, state, sizes);
        let (began, before) = *self.began.get_or_insert((Instant::now(), done));
        let left = match done - before {
            share if share > 0.001 => {
                let seconds = began.elapsed().as_secs_f64() / share * (1.0 - done);
                format!("about {} left", duration(seconds as u64))
            }
            _ => "time left not known yet".to_owned(),
        };
        let (n_rows, bytes) = (state.report.n_rows(), bytes(state.report.bytes(sizes)));
        let line = format!("{:.0} %, {}: {n_rows} rows, {bytes}, {left}", 100.0 * done, step.name);
        write(&format!("\r{line}\x1b[K"));
    }

    /// Removes the line.
    pub fn end(&mut self) {
        if self.shown_at.take().is_some() {
            write("\r\x1b[K");
        }
    }

    /// The share of the walk that is done, with each step weighted by the rows of its table.
    fn share(&self, step: &Step, place: &Place, state: &State, sizes: &Sizes) -> f64 {
        let rows = |step: &Step| sizes.n_rows(step.table).max(1) as f64;
        let of_step = match self.first {
            Some((_, first)) if place.at != 0 => (place.at - first) as f64 / (state.limit - first).max(1) as f64,
            _ => state.report.examined(step) as f64 / rows(step),
        };
        let earlier = STEPS.iter().take_while(|earlier| earlier.name != step.name);
        let done = earlier.map(rows).sum::<f64>() + of_step.clamp(0.0, 1.0) * rows(step);
        done / STEPS.iter().map(rows).sum::<f64>()
    }
}

/// Writes to the terminal. If that fails, nobody looks at it.
fn write(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
