//! What a check finds, and what to do about it.
//!
//! Owns the form of a finding for a person. A line is never broken, so that the command
//! at its end can be copied from a terminal.

use std::cell::Cell;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::figures::finding::{Finding, Level};
use crate::logging::shown::one_line;
use crate::postgres::fault::ApplyError;

/// More than the checks of one server send.
const CHANNEL_CAPACITY: usize = 1024;

/// Columns of a line for what was checked.
const SUBJECT: usize = 19;

/// The line for a finding.
pub fn line(finding: &Finding, has_colors: bool) -> String {
    let (level, escape) = match finding.level {
        Level::Ok => ("ok  ", "\x1b[32m"),
        Level::Warn => ("warn", "\x1b[33m"),
        Level::Fail => ("fail", "\x1b[31m"),
    };
    let level = match has_colors {
        true => format!("{escape}{level}\x1b[0m"),
        false => level.to_owned(),
    };
    let subject = format!("{}:", finding.what);
    let mut line = format!("{level}  {subject:<SUBJECT$}  {}", one_line(&finding.found));
    if !finding.remedy.is_empty() {
        line += " — ";
        line += &one_line(&finding.remedy);
    }
    line
}

/// What a thread of checks sends.
pub enum Event {
    /// It begins to check something. Without an answer, that is a finding of this level.
    Checking(&'static str, Level),
    Found(Finding),
}

/// The fault that makes further checks of a server useless.
pub struct Unusable {
    pub found: String,
    pub remedy: String,
}

impl Unusable {
    pub fn new(found: impl Into<String>, remedy: impl Into<String>) -> Unusable {
        Unusable {
            found: found.into(),
            remedy: remedy.into(),
        }
    }
}

impl From<ApplyError> for Unusable {
    fn from(error: ApplyError) -> Unusable {
        Unusable::new(error.describe(), "follow PostgreSQL's message")
    }
}

pub type Checked<T = ()> = Result<T, Unusable>;

/// Where checks report to: findings are about the subject that was named last.
pub struct Report {
    events: Sender<Event>,
    subject: Cell<&'static str>,
    worst: Cell<Level>,
}

impl Report {
    pub fn new(subject: &'static str) -> (Report, Receiver<Event>) {
        let (events, received) = bounded(CHANNEL_CAPACITY);
        let subject = Cell::new(subject);
        let worst = Cell::new(Level::Fail);
        (Report { events, subject, worst }, received)
    }

    /// Limits the level of the findings that follow.
    pub fn limit(&self, worst: Level) {
        self.worst.set(worst);
    }

    /// Names the subject of the findings that follow. The time limit of a check starts anew.
    pub fn about(&self, subject: &'static str) {
        self.subject.set(subject);
        self.send(Event::Checking(subject, self.worst.get()));
    }

    pub fn ok(&self, found: impl Into<String>) {
        self.add(Level::Ok, found, "");
    }

    /// Nothing is wrong, and this would make it even better.
    pub fn hint(&self, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Ok, found, remedy);
    }

    pub fn warn(&self, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Warn, found, remedy);
    }

    pub fn fail(&self, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Fail, found, remedy);
    }

    pub fn add(&self, level: Level, found: impl Into<String>, remedy: impl Into<String>) {
        let level = level.min(self.worst.get());
        self.send(Event::Found(Finding::new(level, self.subject.get(), found, remedy)));
    }

    /// Adds findings about other subjects.
    pub fn find(&self, findings: Vec<Finding>) {
        for finding in findings {
            self.about(finding.what);
            self.add(finding.level, finding.found, finding.remedy);
        }
    }

    fn send(&self, event: Event) {
        // Nothing receives events from a thread that exceeded its time limit.
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_lowers_the_level_of_what_follows() {
        let (report, events) = Report::new("test");
        report.limit(Level::Warn);
        report.fail("broken", "mend it");
        report.ok("whole");
        let levels = events.try_iter().filter_map(|event| match event {
            Event::Found(finding) => Some(finding.level),
            Event::Checking(..) => None,
        });
        assert_eq!(levels.collect::<Vec<_>>(), [Level::Warn, Level::Ok]);
    }

    #[test]
    fn a_line_has_level_subject_finding_and_remedy() {
        let finding = Finding {
            level: Level::Warn,
            what: "redis memory",
            found: "the policy is\nallkeys-lru".to_owned(),
            remedy: "set it to noeviction".to_owned(),
        };
        assert_eq!(
            line(&finding, false),
            "warn  redis memory:        the policy is allkeys-lru — set it to noeviction"
        );
        assert!(line(&finding, true).starts_with("\x1b[33mwarn\x1b[0m  redis memory:"));
    }
}
