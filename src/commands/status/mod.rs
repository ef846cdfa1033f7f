//! `status`: how the stream and its workers fare, at a glance.
//!
//! Reads Redis alone, so it works wherever the worker runs, beside workers of other kinds, and while none runs.

mod figures;
mod screen;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;

use crate::logging::shown;
use crate::logging::stderr;
use crate::redis::link::Redis;
use crate::runtime::shutdown::{Stop, handle_signals};
use crate::settings::config::Config;
use figures::{Figures, Gatherer};
use screen::Look;

/// Between the two looks that a single status takes its rates from.
const SAMPLE: Duration = Duration::from_secs(1);

/// Rates that the plot may show: more than a terminal has columns.
const HISTORY: usize = 500;

/// The other screen of a terminal, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Prints the status once or, with `interval`, over and over until SIGINT or SIGTERM.
///
/// # Errors
///
/// Redis cannot be reached; while it is watched, only at the start.
pub fn run(config: &Config, interval: Option<Duration>, is_json: bool) -> anyhow::Result<()> {
    let redis = Redis::new(config.redis.clone());
    let mut gatherer = Gatherer::new(&redis, config);
    let first = gatherer.gather().context("failed to read the status from redis")?;
    let Some(interval) = interval else {
        std::thread::sleep(SAMPLE);
        let figures = gatherer.gather().unwrap_or(first);
        return print(&figures, is_json);
    };
    let stop = Stop::default();
    handle_signals(&stop)?;
    if is_json {
        return watch_as_json(&mut gatherer, interval, &stop);
    }
    watch(&mut gatherer, first, interval, &stop)
}

fn print(figures: &Figures, is_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout();
    if is_json {
        return Ok(writeln!(
            out,
            "{}",
            shown::json(&serde_json::to_string_pretty(figures)?)
        )?);
    }
    for line in screen::lines(figures, &Look::of_this_terminal()) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// An object a line.
fn watch_as_json(gatherer: &mut Gatherer, interval: Duration, stop: &Stop) -> anyhow::Result<()> {
    while !stop.wait(interval) {
        match gatherer.gather() {
            Ok(figures) => writeln!(io::stdout(), "{}", shown::json(&serde_json::to_string(&figures)?))?,
            Err(error) => stderr::print(&shown::one_line(&format!("{error:#}"))),
        }
    }
    Ok(())
}

fn watch(gatherer: &mut Gatherer, first: Figures, interval: Duration, stop: &Stop) -> anyhow::Result<()> {
    let is_screen = Look::of_this_terminal().moves_cursor && io::stdout().is_terminal();
    let mut out = io::stdout();
    if is_screen {
        write!(out, "{ENTER}")?;
    }
    let result = draw_until(gatherer, first, interval, stop, is_screen);
    if is_screen {
        write!(out, "{LEAVE}")?;
        out.flush()?;
    }
    result
}

fn draw_until(
    gatherer: &mut Gatherer,
    first: Figures,
    interval: Duration,
    stop: &Stop,
    is_screen: bool,
) -> anyhow::Result<()> {
    let mut figures = first;
    let mut history = VecDeque::new();
    let mut fault: Option<String> = None;
    loop {
        let look = Look::of_this_terminal();
        let mut lines = screen::lines(&figures, &look);
        lines.extend(fault.take().map(|fault| screen::shown_line(&fault, &look)));
        lines.extend(screen::plot(&history, &look, lines.len()));
        draw(&lines, &look, is_screen)?;
        if stop.wait(interval) {
            return Ok(());
        }
        match gatherer.gather() {
            Ok(new) => figures = new,
            Err(error) => fault = Some(format!("waiting for redis: {error:#}; the figures are old")),
        }
        history.push_back(figures.events_per_second);
        if history.len() > HISTORY {
            history.pop_front();
        }
    }
}

/// One write, which replaces each line by the new one: nothing flickers.
fn draw(lines: &[String], look: &Look, is_screen: bool) -> anyhow::Result<()> {
    let mut frame = String::new();
    if is_screen {
        frame += "\x1b[H";
        let shown: Vec<String> = lines
            .iter()
            .take(look.height)
            .map(|line| format!("{line}\x1b[K"))
            .collect();
        frame += &shown.join("\r\n");
        frame += "\x1b[J";
    } else {
        frame += &lines.join("\n");
        frame += "\n\n";
    }
    let mut out = io::stdout();
    out.write_all(frame.as_bytes())?;
    Ok(out.flush()?)
}
