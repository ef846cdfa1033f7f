//! The findings of a repair: how many rows were wrong, and by how much.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::counters::Differences;
use super::{STEPS, Slice, Step};
use crate::logging::shown::{self, one_line};

/// The number of examples kept for each step.
pub const N_EXAMPLES: usize = 5;

/// The findings so far. They are stored with the progress, so that a repair reports everything even if it was
/// interrupted.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub dry_run: bool,
    pub finished: bool,
    pub seconds: f64,
    /// The steps that have begun, by name.
    #[serde(flatten)]
    steps: BTreeMap<String, StepReport>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct StepReport {
    examined: u64,
    wrong: u64,
    repaired: u64,
    examples: Vec<String>,
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    differences: Option<Differences>,
}

impl Report {
    pub fn new(dry_run: bool) -> Report {
        Report {
            dry_run,
            ..Report::default()
        }
    }

    pub fn begin(&mut self, step: &Step) {
        self.steps.entry(step.name.to_owned()).or_default();
    }

    /// Adds the findings of a slice.
    pub fn found(&mut self, step: &Step, slice: &Slice) {
        let report = self.steps.entry(step.name.to_owned()).or_default();
        report.examined += slice.examined;
        report.wrong += slice.wrong;
        let room = N_EXAMPLES.saturating_sub(report.examples.len());
        report.examples.extend(slice.examples.iter().take(room).cloned());
        if !slice.differences.is_empty() {
            report.differences.get_or_insert_default().add(&slice.differences);
        }
    }

    pub fn repaired(&mut self, step: &Step, repaired: u64) {
        self.steps.entry(step.name.to_owned()).or_default().repaired += repaired;
    }

    /// One line about the progress of a step.
    pub fn line(&self, step: &Step) -> String {
        let none = StepReport::default();
        let StepReport {
            examined,
            wrong,
            repaired,
            ..
        } = self.steps.get(step.name).unwrap_or(&none);
        let name = step.name.replace('_', " ");
        format!("{name}: {examined} examined, {wrong} wrong, {repaired} repaired")
    }

    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct WithUnknown<'r> {
            #[serde(flatten)]
            report: &'r Report,
            not_known: Vec<&'static str>,
        }
        let report = WithUnknown {
            report: self,
            not_known: self.not_known().collect(),
        };
        let text = serde_json::to_string_pretty(&report).expect("names, texts and numbers are JSON");
        shown::json(&text) + "\n"
    }

    fn begun(&self) -> impl Iterator<Item = (&'static Step, &StepReport)> {
        STEPS.iter().filter_map(|step| Some((step, self.steps.get(step.name)?)))
    }

    /// What the stored rows cannot show, although the repair had to decide it.
    fn not_known(&self) -> impl Iterator<Item = &'static str> {
        let wrong = self.begun().filter(|(_, report)| report.wrong > 0);
        wrong.filter_map(|(step, _)| step.not_known)
    }
}

/// The report as text for people.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let end = if self.finished { "finished" } else { "stopped" };
        let done = if self.dry_run {
            "nothing was changed"
        } else {
            "wrong rows were repaired"
        };
        writeln!(out, "{end} after {:.1} s; {done}", self.seconds)?;
        for (step, report) in self.begun() {
            writeln!(out, "{}", self.line(step))?;
            if let Some(differences) = &report.differences {
                writeln!(
                    out,
                    "  {} subjects without a row of counters",
                    differences.subjects_without_row
                )?;
                for (name, wrong) in &differences.by_counter {
                    let (subjects, difference) = (wrong.subjects, wrong.difference);
                    writeln!(out, "  {name} of {subjects} subjects wrong, by {difference} in all")?;
                }
            }
            for example in &report.examples {
                writeln!(out, "  {}", one_line(example))?;
            }
        }
        for unknown in self.not_known() {
            writeln!(out, "not known: {unknown}")?;
        }
        Ok(())
    }
}
