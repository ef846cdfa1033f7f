//! Figures → lines for a terminal.
//!
//! Owns how they look. Pure: size and abilities of the terminal are given.

use std::collections::{BTreeMap, VecDeque};

use super::figures::{Figures, Worker};
use crate::commands::terminal::{duration, terminal_size};
use crate::logging::shown::{cut, harmless, one_line};

/// Workers that are shown at most: what dead ones have left behind may be thousands of names.
const MAX_WORKERS: usize = 40;

/// Lines of the plot at most.
const PLOT_HEIGHT: usize = 6;

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const PLAIN_BARS: [char; 3] = [' ', '.', '#'];

/// What the terminal is like.
pub struct Look {
    pub width: usize,
    pub height: usize,
    pub has_unicode: bool,
    pub moves_cursor: bool,
}

impl Look {
    /// As it is at the moment: a window may change its size.
    pub fn of_this_terminal() -> Look {
        let (width, height) = terminal_size().unwrap_or((usize::MAX, usize::MAX));
        let text = |name| {
            std::env::var_os(name)
                .unwrap_or_default()
                .to_string_lossy()
                .to_lowercase()
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .map(text)
            .into_iter()
            .find(|value| !value.is_empty());
        let terminal = text("TERM");
        let moves_cursor = !matches!(terminal.as_str(), "" | "dumb");
        Look {
            width,
            height,
            has_unicode: moves_cursor && locale.is_some_and(|locale| locale.contains("utf")),
            moves_cursor,
        }
    }
}

/// The figures, a line each, then the workers.
pub fn lines(figures: &Figures, look: &Look) -> Vec<String> {
    let mut lines = vec![format!("{}, group {}", figures.stream, figures.group), String::new()];
    let mut add = |name: &str, text: String| lines.push(format!("{name:<11} {text}"));
    add("firehose", firehose(figures));
    add("freshness", freshness(figures));
    add(
        "events/s",
        format!(
            "{:.0} now, {:.0} over a minute",
            // Adding zero takes the sign away that a small negative rate leaves to its zero.
            figures.events_per_second.round() + 0.0,
            figures.events_per_second_over_a_minute.round() + 0.0
        ),
    );
    add("backlog", backlog(figures));
    add("headroom", headroom(figures));
    add("events", events(&figures.counters));
    add("ignored", list(&figures.ignored));
    add("dead", dead_letters(figures));
    add("losses", list(&figures.losses));
    lines.push(String::new());
    // Stable, so within each kind they stay in the order of their names.
    let mut workers: Vec<&Worker> = figures.workers.iter().collect();
    workers.sort_by_key(|worker| (worker.status.is_none(), worker.held_by.is_none()));
    workers
        .iter()
        .take(MAX_WORKERS)
        .for_each(|worker| lines.extend(worker_lines(worker)));
    if let Some(more @ 1..) = workers.len().checked_sub(MAX_WORKERS) {
        lines.push(format!("and {more} more consumers, see --json"));
    }
    lines.iter().map(|line| shown_line(line, look)).collect()
}

/// A line as this terminal may have it.
pub fn shown_line(line: &str, look: &Look) -> String {
    cut(&harmless(line), look.width)
}

fn firehose(figures: &Figures) -> String {
    match &figures.producer {
        None => "no producer lives".to_owned(),
        Some(producer) => {
            let state = if producer.connected {
                "connected"
            } else {
                "not connected"
            };
            let cursor = producer.current_cursor.as_deref().unwrap_or("none");
            format!("{state}, cursor {}", one_line(cursor))
        }
    }
}

fn freshness(figures: &Figures) -> String {
    match figures.freshness_seconds {
        None => "no worker tells".to_owned(),
        Some(seconds) if seconds < 120.0 => format!("newest entry applied is {seconds:.1} s old"),
        Some(seconds) => format!("newest entry applied is {} old", duration(seconds as u64)),
    }
}

fn backlog(figures: &Figures) -> String {
    let (Some(backlog), Some(pending)) = (figures.backlog, figures.pending) else {
        return "there is no group, or it may not be asked about".to_owned();
    };
    let when = match figures.catch_up_seconds {
        Some(seconds) if backlog > 0 => format!(", caught up in {}", duration(seconds.ceil() as u64)),
        None => ", not shrinking".to_owned(),
        Some(_) => String::new(),
    };
    format!("{} unread, {} pending{when}", grouped(backlog), grouped(pending))
}

fn headroom(figures: &Figures) -> String {
    match (figures.added_per_second, figures.trim_headroom_seconds) {
        (Some(added), Some(seconds)) => format!(
            "{added:.0} entries/s are added: a standstill of {} loses none",
            duration(seconds as u64)
        ),
        (Some(_), None) => "nothing is added".to_owned(),
        (None, _) => "not known".to_owned(),
    }
}

fn events(counters: &BTreeMap<String, u64>) -> String {
    let number = |field: &str| grouped(counters.get(field).copied().unwrap_or(0));
    format!(
        "{}: {} commit, {} identity, {} account; {} errors",
        number("totalEvents"),
        number("#commit"),
        number("#identity"),
        number("#account"),
        number("errors")
    )
}

fn dead_letters(figures: &Figures) -> String {
    match figures.dead_letters {
        Some(number) => format!("{} letters of {}", grouped(number), grouped(figures.dead_letter_limit)),
        None => "not known".to_owned(),
    }
}

fn list(numbers: &BTreeMap<String, u64>) -> String {
    let shown = numbers.iter().filter(|(_, number)| **number > 0);
    let shown: Vec<String> = shown
        .map(|(name, number)| format!("{} {}", name.replace('_', " "), grouped(*number)))
        .collect();
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(", ")
    }
}

/// What tells most comes first: a narrow terminal cuts the rest.
fn worker_lines(worker: &Worker) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(idle_ms) = worker.idle_ms {
        parts.push(format!(
            "{} pending, idle {}",
            grouped(worker.pending),
            duration(idle_ms / 1000)
        ));
    }
    match (&worker.status, &worker.held_by) {
        (Some(status), _) => {
            let seconds = status.told_ms.saturating_sub(status.started_ms) / 1000;
            parts.push(format!(
                "{}, up {}, version {}",
                status.process,
                duration(seconds),
                status.version
            ));
        }
        (None, Some(process)) => parts.push(process.clone()),
        (None, None) => parts.push("no worker".to_owned()),
    }
    let mut lines = vec![format!("{:<19} {}", worker.consumer, parts.join("; "))];
    let waiting = worker.status.as_ref().and_then(|status| status.waiting_for.as_deref());
    lines.extend(waiting.map(|reason| format!("{:19} waiting for {}", "", one_line(reason))));
    lines
}

/// Events per second over time, as high as `used` lines leave room for.
pub fn plot(history: &VecDeque<f64>, look: &Look, used: usize) -> Vec<String> {
    let height = look.height.saturating_sub(used + 2).min(PLOT_HEIGHT);
    // Without a window's width, as wide as a usual one.
    let width = look.width.min(200).saturating_sub(1);
    let shown: Vec<f64> = history.iter().rev().take(width).rev().copied().collect();
    let highest = shown.iter().copied().fold(0.0, f64::max);
    if height == 0 || shown.is_empty() {
        return Vec::new();
    }
    let bars: &[char] = if look.has_unicode { &BARS } else { &PLAIN_BARS };
    let steps = bars.len() - 1;
    let mut lines = vec![String::new(), format!("events/s, at most {highest:.0}")];
    for row in (0..height).rev() {
        let line: String = shown
            .iter()
            .map(|rate| {
                let filled = if highest > 0.0 {
                    rate / highest * (height * steps) as f64
                } else {
                    0.0
                };
                let in_row = (filled.round() as usize).saturating_sub(row * steps).min(steps);
                bars[in_row]
            })
            .collect();
        lines.push(line.trim_end().to_owned());
    }
    lines.truncate(look.height.saturating_sub(used));
    lines
}

/// The number with a comma before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(width: usize, height: usize, has_unicode: bool) -> Look {
        Look {
            width,
            height,
            has_unicode,
            moves_cursor: true,
        }
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_and_nothing_moves_its_cursor() {
        let figures = Figures {
            stream: "firehose:events".to_owned(),
            workers: vec![Worker {
                consumer: "a\x1b[2Jb".to_owned(),
                ..Worker::default()
            }],
            ..Figures::default()
        };
        let lines = lines(&figures, &look(20, 30, true));
        assert!(lines.iter().all(|line| line.chars().count() <= 20), "{lines:?}");
        assert!(!lines.concat().contains('\x1b'), "{lines:?}");
    }

    #[test]
    fn a_plot_fits_what_is_left_of_the_height_and_shows_the_newest() {
        let history: VecDeque<f64> = (0..100).map(f64::from).collect();
        let lines = plot(&history, &look(11, 24, true), 18);
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert_eq!(lines[1], "events/s, at most 99");
        assert_eq!(lines[5].chars().count(), 10);
        assert_eq!(lines[2].chars().last(), Some('█'));
        assert!(plot(&history, &look(11, 24, true), 24).is_empty());
        let plain = plot(&history, &look(11, 24, false), 10).concat();
        assert!(plain.is_ascii(), "{plain}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
