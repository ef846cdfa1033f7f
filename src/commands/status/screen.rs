//! Lays the figures out as lines for a terminal. Pure, except for `Terminal::of_stdout`.

use std::collections::{BTreeMap, VecDeque};

use crate::commands::terminal::terminal_size;
use crate::figures::text::{duration, grouped, list};
use crate::figures::{Figures, Worker};
use crate::logging::shown::{cut, harmless, one_line};

/// Workers shown at most: dead processes can leave thousands of consumers behind.
const MAX_WORKERS: usize = 40;

/// The heights of a column of the chart.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_BARS: [char; 4] = [' ', '.', ':', '|'];

/// The abilities of the terminal.
pub struct Terminal {
    /// Columns and lines; `None` without a terminal that can move its cursor.
    pub size: Option<(usize, usize)>,
    pub has_unicode: bool,
}

impl Terminal {
    pub fn of_stdout() -> Terminal {
        let text = |name| {
            std::env::var_os(name)
                .unwrap_or_default()
                .to_string_lossy()
                .to_lowercase()
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(text);
        let locale = locale.iter().find(|value| !value.is_empty());
        let moves_cursor = !matches!(text("TERM").as_str(), "" | "dumb");
        Terminal {
            size: terminal_size().filter(|_| moves_cursor),
            has_unicode: moves_cursor && locale.is_some_and(|locale| locale.contains("utf")),
        }
    }

    /// The text as one line that fits the terminal.
    pub fn fit(&self, line: &str) -> String {
        cut(&harmless(line), self.size.map_or(usize::MAX, |(width, _)| width))
    }
}

/// One line per figure, then the workers.
pub fn lines(figures: &Figures, terminal: &Terminal) -> Vec<String> {
    let mut lines = vec![format!("{}, group {}", figures.stream, figures.group), String::new()];
    let mut add = |name: &str, text: String| lines.push(format!("{name:<11} {text}"));
    add("firehose", figures.describe_producer());
    if let Some(consumer) = &figures.consumer {
        add("consumer", consumer.describe());
        consumer
            .describe_set_aside()
            .into_iter()
            .for_each(|text| add("set aside", text));
    }
    add("freshness", freshness(figures));
    add(
        "events/s",
        format!(
            "{:.0} now, {:.0} over a minute",
            // Adding zero removes the sign that a small negative rate leaves when it is rounded.
            figures.events_per_second.round() + 0.0,
            figures.events_per_second_over_a_minute.round() + 0.0
        ),
    );
    add("backlog", figures.describe_backlog());
    add("headroom", figures.describe_headroom());
    add("events", events(&figures.counters));
    add("ignored", list(&figures.ignored));
    add("dead", figures.describe_dead_letters());
    add("losses", list(&figures.losses));
    lines.push(String::new());
    // The sort is stable, so workers of one kind stay sorted by name.
    let mut workers: Vec<&Worker> = figures.workers.iter().collect();
    workers.sort_by_key(|worker| (worker.status.is_none(), worker.held_by.is_none()));
    for worker in workers.iter().take(MAX_WORKERS) {
        lines.extend(worker_lines(worker));
    }
    if let Some(more @ 1..) = workers.len().checked_sub(MAX_WORKERS) {
        lines.push(format!("and {more} more consumers, see --json"));
    }
    lines.iter().map(|line| terminal.fit(line)).collect()
}

fn freshness(figures: &Figures) -> String {
    match figures.freshness_seconds {
        None => "no worker has reported it".to_owned(),
        Some(seconds) if seconds < 120.0 => format!("newest entry applied is {seconds:.1} s old"),
        Some(seconds) => format!("newest entry applied is {} old", duration(seconds as u64)),
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

/// The most important facts come first, because a narrow terminal cuts off the rest.
fn worker_lines(worker: &Worker) -> Vec<String> {
    let process = match (&worker.status, &worker.held_by) {
        (Some(status), _) => {
            let seconds = status.told_ms.saturating_sub(status.started_ms) / 1000;
            let up = duration(seconds);
            format!("{}, up {up}, version {}", status.process, status.version)
        }
        (None, Some(process)) => process.clone(),
        (None, None) => "no worker".to_owned(),
    };
    let facts: Vec<String> = worker.describe_consumer().into_iter().chain([process]).collect();
    let mut lines = vec![format!("{:<19} {}", worker.consumer, facts.join("; "))];
    let waiting = worker.status.as_ref().and_then(|status| status.waiting_for.as_deref());
    lines.extend(waiting.map(|reason| format!("{:19} waiting for {}", "", one_line(reason))));
    lines
}

/// Events per second over time, the newest at the right.
pub fn chart(history: &VecDeque<f64>, terminal: &Terminal) -> Vec<String> {
    if history.is_empty() {
        return Vec::new();
    }
    let width = terminal.size.map_or(80, |(width, _)| width).saturating_sub(1);
    let start = history.len().saturating_sub(width);
    let shown = || history.range(start..);
    let highest = shown().copied().fold(0.0, f64::max);
    let bars: &[char] = if terminal.has_unicode { &BARS } else { &ASCII_BARS };
    let bar = |rate: &f64| {
        let share = if highest > 0.0 { rate / highest } else { 0.0 };
        bars[(share * (bars.len() - 1) as f64).round() as usize]
    };
    vec![
        String::new(),
        format!("events/s, at most {highest:.0}"),
        shown().map(bar).collect(),
    ]
}

/// What replaces the lines before on a screen, in one write so that nothing flickers. Elsewhere, a block of lines.
pub fn frame(lines: &[String], terminal: &Terminal) -> String {
    let Some((_, height)) = terminal.size else {
        return lines.join("\n") + "\n\n";
    };
    let shown: Vec<String> = lines.iter().take(height).map(|line| format!("{line}\x1b[K")).collect();
    format!("\x1b[H{}\x1b[J", shown.join("\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(width: usize, has_unicode: bool) -> Terminal {
        Terminal {
            size: Some((width, 24)),
            has_unicode,
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
        let lines = lines(&figures, &terminal(20, true));
        assert!(lines.iter().all(|line| line.chars().count() <= 20), "{lines:?}");
        assert!(!lines.concat().contains('\x1b'), "{lines:?}");
    }

    #[test]
    fn a_chart_shows_as_many_of_the_newest_rates_as_fit() {
        let history: VecDeque<f64> = (0..100).map(f64::from).chain([0.0]).collect();
        let lines = chart(&history, &terminal(11, true));
        assert_eq!(lines[1], "events/s, at most 99");
        assert_eq!(lines[2].chars().count(), 10);
        assert!(lines[2].ends_with("█ "), "{lines:?}");
        assert!(chart(&history, &terminal(11, false))[2].is_ascii());
        assert!(chart(&VecDeque::new(), &terminal(11, true)).is_empty());
    }
}
