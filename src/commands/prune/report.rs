//! What a prune has deleted: rows and estimated bytes, by table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sizes::{Sizes, bytes};
use super::{STEPS, Slice, Step};
use crate::apply::prune::Pruned;
use crate::logging::shown;
use crate::micros::Micros;

/// The findings so far. They are stored with the progress, so that a prune reports everything even if it was
/// interrupted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    dry_run: bool,
    finished: bool,
    pub seconds: f64,
    /// The age, in hours, from which rows go.
    older_than_hours: u64,
    /// The time before which rows go.
    before: String,
    /// The steps that have begun, by name.
    steps: BTreeMap<String, StepReport>,
    /// The rows that were deleted, by table.
    rows: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct StepReport {
    examined: u64,
    /// Rows from before the limit that stay because they concern a local account.
    kept: u64,
}

impl Report {
    pub fn new(dry_run: bool, age: Duration, limit: Micros) -> Report {
        Report {
            dry_run,
            older_than_hours: age.as_secs() / 3600,
            before: time(limit),
            ..Report::default()
        }
    }

    /// Adds what a transaction has deleted, and the slice whose last transaction it was.
    pub fn add(&mut self, step: &Step, pruned: &Pruned, end: Option<&Slice>) {
        let report = self.steps.entry(step.name.to_owned()).or_default();
        report.kept += pruned.n_kept;
        if let Some(slice) = end {
            report.examined += slice.examined;
            report.kept += slice.kept;
        }
        for (table, n_rows) in pruned.rows.iter().filter(|(_, n_rows)| **n_rows > 0) {
            *self.rows.entry((*table).to_owned()).or_default() += n_rows;
        }
    }

    pub fn finish(&mut self) {
        self.finished = true;
    }

    pub fn examined(&self, step: &Step) -> u64 {
        self.steps.get(step.name).map_or(0, |step| step.examined)
    }

    pub fn n_rows(&self) -> u64 {
        self.rows.values().sum()
    }

    pub fn bytes(&self, sizes: &Sizes) -> u64 {
        self.rows
            .iter()
            .map(|(table, n_rows)| sizes.bytes(table, *n_rows))
            .sum()
    }

    /// One line for the log.
    pub fn line(&self, sizes: &Sizes) -> String {
        let end = match (self.dry_run, self.finished) {
            (false, true) => "pruned",
            (false, false) => "unfinished: pruned",
            (true, true) => "would prune",
            (true, false) => "unfinished: would prune",
        };
        let (n_rows, bytes) = (self.n_rows(), bytes(self.bytes(sizes)));
        let n_posts = self.rows.get("posts").copied().unwrap_or_default();
        let n_kept = self.steps.get(STEPS[0].name).map_or(0, |step| step.kept);
        format!(
            "{end} {n_rows} rows of about {bytes} from before {}, {n_posts} posts among them; {n_kept} older posts stay; \
             {:.1} s",
            self.before, self.seconds
        )
    }

    /// The report for people.
    pub fn text(&self, sizes: &Sizes) -> String {
        let mut text = self.line(sizes) + "\n";
        for (table, n_rows) in &self.rows {
            let size = bytes(sizes.bytes(table, *n_rows));
            // Cannot fail: it writes into a string.
            let _ = writeln!(text, "  {table}: {n_rows} rows, {size}");
        }
        text += "Autovacuum makes this space usable for new rows; the files keep their size. Only VACUUM FULL, which locks \
                 each table, or pg_repack returns it to the disk.\n";
        if self.dry_run {
            text += "Nothing was deleted.\n";
        }
        text
    }

    pub fn json(&self, sizes: &Sizes) -> String {
        let mut report = serde_json::to_value(self).expect("names, texts and numbers are JSON");
        let of_tables = self.rows.iter();
        report["bytes"] = of_tables
            .map(|(table, n_rows)| (table.clone(), sizes.bytes(table, *n_rows).into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let text = serde_json::to_string_pretty(&report).expect("names, texts and numbers are JSON");
        shown::json(&text) + "\n"
    }
}

/// A time in seconds.
pub fn time(at: Micros) -> String {
    let at = chrono::DateTime::from_timestamp_micros(at.0).unwrap_or_default();
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
