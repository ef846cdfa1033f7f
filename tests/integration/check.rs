//! `check`: each fault that it names, made for real, is found and told with what to do.

mod consumer;
mod growth;
mod postgres;
mod redis;
mod remedies;
mod savings;
mod settings;

use serde_json::Value;

use crate::support::worker::WorkerBuilder;
use crate::support::{Output, Stack};

/// What a check printed as JSON.
struct Checked {
    output: Output,
    report: Value,
}

/// Checks this stack with more settings.
fn check(stack: &Stack, env: &[(&str, &str)]) -> Checked {
    let worker = env
        .iter()
        .fold(stack.worker(), |worker, (name, value)| worker.env(name, value));
    check_with(worker)
}

fn check_with(worker: WorkerBuilder) -> Checked {
    let output = worker.arg("check").arg("--json").run_to_exit();
    let report = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {}\n{}", output.stdout, output.log));
    Checked { output, report }
}

impl Checked {
    fn findings(&self) -> &[Value] {
        self.report["findings"].as_array().expect("findings")
    }

    /// One finding of that level about that subject has all these words, and the exit code fits.
    #[track_caller]
    fn assert_finds(&self, level: &str, what: &str, words: &[&str]) {
        let is_it = |finding: &&Value| {
            let text = format!("{} — {}", finding["found"], finding["remedy"]);
            finding["level"] == level && finding["what"] == what && words.iter().all(|word| text.contains(word))
        };
        let found = self.findings().iter().find(is_it);
        assert!(
            found.is_some(),
            "no {level} about {what} has all of {words:?} in {:#}",
            self.report
        );
        if level != "ok" {
            let remedy = found.map_or("", |finding| finding["remedy"].as_str().unwrap_or_default());
            assert!(!remedy.is_empty(), "no remedy: {found:?}");
        }
        self.assert_exit_code();
    }

    /// 1 if anything fails, else 0.
    #[track_caller]
    fn assert_exit_code(&self) {
        let fails = self.findings().iter().any(|finding| finding["level"] == "fail");
        assert_eq!(self.report["ok"], !fails, "{:#}", self.report);
        assert_eq!(self.output.status.code(), Some(i32::from(fails)), "{:#}", self.report);
    }

    #[track_caller]
    fn assert_nothing_fails(&self) {
        self.assert_exit_code();
        assert_eq!(self.output.status.code(), Some(0), "{:#}", self.report);
    }
}
