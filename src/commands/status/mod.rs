//! `status`: the figures of the stream, of its workers and of the consumer, at a glance.
//!
//! Reads only Redis, so it works wherever the worker runs, beside workers of other kinds, and while none runs.

mod screen;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;

use crate::figures::Figures;
use crate::figures::gather::Gatherer;
use crate::figures::target::Target;
use crate::logging::shown;
use crate::logging::stderr;
use crate::redis::link::Redis;
use crate::runtime::shutdown::{Stop, handle_signals};
use crate::settings::config::Config;
use crate::settings::consumer_args::DEFAULT_CURSOR;
use crate::settings::known_consumer::KnownConsumer;
use crate::settings::validate::or_default;
use screen::Terminal;

/// Time between the two samples from which a single status computes its rates.
const SAMPLE: Duration = Duration::from_secs(1);

/// Rates kept for the chart: more than a terminal has columns.
const HISTORY: usize = 500;

/// Switch to the terminal's alternate screen and hide the cursor, and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Prints the status once or, with `interval`, repeatedly until SIGINT or SIGTERM.
///
/// # Errors
///
/// Redis cannot be reached; with `interval`, only at the start.
pub fn run(
    config: &Config,
    consumer: Option<&KnownConsumer>,
    interval: Option<Duration>,
    is_json: bool,
) -> anyhow::Result<()> {
    let redis = Redis::new(config.redis.clone());
    let cursor_key = consumer.map_or("", |known| &known.settings.redis_cursor_key);
    let mut gatherer = Gatherer::new(
        &redis,
        Target::of_worker(config, &or_default(cursor_key, DEFAULT_CURSOR)),
    );
    let first = gatherer.gather().context("failed to read the status from redis")?;
    let Some(interval) = interval else {
        std::thread::sleep(SAMPLE);
        return print(&gatherer.gather().unwrap_or(first), is_json);
    };
    let stop = Stop::default();
    handle_signals(&stop, None)?;
    if is_json {
        return watch_as_json(&mut gatherer, interval, &stop);
    }
    let is_screen = Terminal::of_stdout().size.is_some();
    let mut out = io::stdout();
    if is_screen {
        write!(out, "{ENTER}")?;
    }
    let result = watch(&mut gatherer, first, interval, &stop);
    if is_screen {
        write!(out, "{LEAVE}")?;
        out.flush()?;
    }
    result
}

fn print(figures: &Figures, is_json: bool) -> anyhow::Result<()> {
    let text = match is_json {
        true => shown::json(&serde_json::to_string_pretty(figures)?),
        false => screen::lines(figures, &Terminal::of_stdout()).join("\n"),
    };
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// Prints one object per line.
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
    let mut figures = first;
    let mut history = VecDeque::new();
    let mut fault: Option<String> = None;
    let mut out = io::stdout();
    loop {
        // The window may have been resized.
        let terminal = Terminal::of_stdout();
        let mut lines = screen::lines(&figures, &terminal);
        lines.extend(fault.take().map(|fault| terminal.fit(&fault)));
        lines.extend(screen::chart(&history, &terminal));
        out.write_all(screen::frame(&lines, &terminal).as_bytes())?;
        out.flush()?;
        if stop.wait(interval) {
            return Ok(());
        }
        match gatherer.gather() {
            Ok(new) => figures = new,
            Err(error) => {
                fault = Some(format!(
                    "waiting for redis: {error:#}; these are the last known figures"
                ))
            }
        }
        history.push_back(figures.events_per_second);
        if history.len() > HISTORY {
            history.pop_front();
        }
    }
}
