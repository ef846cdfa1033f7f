//! Thread `page`: the page for people at METRICS_ADDR, and what it shows.
//!
//! Owns `/`, `/status.json` and `/history.json`. The thread asks Redis for the figures of the whole pipeline, so that the
//! page of any worker and that of the consumer show the same, and answers come from memory. If METRICS_ADDR is not set,
//! there is neither the thread nor its memory.
//!
//! Invariant: a client costs Redis nothing, and the thread a few commands every `INTERVAL`, however many consumers the
//! group has. While Redis is away, the last figures remain, with their time and the reason.

mod document;
mod history;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Local};
use serde::Serialize;

use crate::figures::Figures;
use crate::figures::finding::Finding;
use crate::figures::gather::Gatherer;
use crate::figures::target::Target;
use crate::lease::mark;
use crate::logging::shown;
use crate::redis::link::Redis;
use crate::runtime::shutdown::Stop;
use crate::runtime::threads::Threads;
use crate::service::answer::Document;
use crate::service::http::Documents;
use crate::settings::cli::VERSION;
use document::Html;
use history::{FIELDS, History, Sample};

/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(5);

/// Time between two attempts while Redis is away.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

/// What the page shows. Clones share it.
#[derive(Clone)]
pub struct Page(Arc<Inner>);

struct Inner {
    html: Html,
    /// What serves the page, such as `worker`.
    kind: &'static str,
    shown: Mutex<Shown>,
}

struct Shown {
    /// The last figures, as `status --json` prints them.
    status: Arc<str>,
    history: History,
}

/// `/history.json`
#[derive(Serialize)]
struct Told<'h> {
    served_by: ServedBy,
    interval_ms: u64,
    fields: [&'static str; 7],
    samples: Vec<&'h Sample>,
}

#[derive(Serialize)]
struct ServedBy {
    kind: &'static str,
    process: String,
    version: &'static str,
}

impl Page {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system refuses the thread.
    pub fn spawn(
        threads: &mut Threads,
        kind: &'static str,
        redis: &Redis,
        target: Target,
        stop: &Stop,
    ) -> anyhow::Result<Page> {
        let last = target.unknown();
        let page = Page(Arc::new(Inner {
            html: Html::new(),
            kind,
            shown: Mutex::new(Shown {
                status: text(&last),
                history: History::default(),
            }),
        }));
        let watcher = Watcher {
            gatherer: Gatherer::new(redis, target),
            last,
            page: page.clone(),
        };
        threads.spawn_beside("page", stop, move |stop| watcher.run(stop))?;
        Ok(page)
    }

    /// The samples, or those after the time in the query, `after=MILLISECONDS`.
    fn history(&self, query: &str) -> String {
        let after = query.strip_prefix("after=").and_then(|after| after.parse().ok());
        let shown = self.shown();
        let told = Told {
            served_by: ServedBy {
                kind: self.0.kind,
                process: mark::this_process(),
                version: VERSION,
            },
            interval_ms: INTERVAL.as_millis() as u64,
            fields: FIELDS,
            samples: shown.history.after(after.unwrap_or(0)).collect(),
        };
        serde_json::to_string(&told).unwrap_or_default()
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Documents for Page {
    fn document(&self, path: &str, query: &str) -> Option<Document> {
        let (kind, text, policy) = match path {
            "/" => (
                HTML,
                Arc::clone(&self.0.html.text),
                Some(Arc::clone(&self.0.html.policy)),
            ),
            "/status.json" => (JSON, Arc::clone(&self.shown().status), None),
            "/history.json" => (JSON, self.history(query).into(), None),
            _ => return None,
        };
        Some(Document { kind, text, policy })
    }
}

/// The thread.
struct Watcher {
    gatherer: Gatherer,
    last: Figures,
    page: Page,
}

impl Watcher {
    fn run(mut self, stop: &Stop) -> anyhow::Result<()> {
        let mut is_up = self.sample();
        while !stop.wait(if is_up { INTERVAL } else { RETRY_INTERVAL }) {
            is_up = self.sample();
        }
        Ok(())
    }

    /// Returns whether Redis has answered.
    fn sample(&mut self) -> bool {
        // A broken connection is noticed only when it is used, hence a second attempt.
        let gathered = self.gatherer.gather().or_else(|_| self.gatherer.gather());
        let (figures, fault) = match gathered {
            Ok(figures) => (figures, None),
            Err(error) => (std::mem::take(&mut self.last), Some(format!("{error:#}"))),
        };
        self.last = figures;
        match &fault {
            None => self.show(Sample::of(&self.last)),
            Some(fault) => {
                let found = waiting(fault, self.last.time_ms);
                self.last.findings.retain(|finding| finding.what != found.what);
                self.last.findings.insert(0, found);
                self.show(None);
            }
        }
        fault.is_none()
    }

    fn show(&self, sample: Option<Sample>) {
        let status = text(&self.last);
        let mut shown = self.page.shown();
        shown.status = status;
        if let Some(sample) = sample {
            shown.history.add(sample);
        }
    }
}

/// What is told above figures that are not of now.
fn waiting(fault: &str, time_ms: Option<u64>) -> Finding {
    let time = time_ms.and_then(|time_ms| DateTime::from_timestamp_millis(i64::try_from(time_ms).ok()?));
    let figures = match time {
        Some(time) => format!(
            "these are the figures of {}",
            time.with_timezone(&Local).format("%H:%M:%S")
        ),
        None => "nothing is known yet".to_owned(),
    };
    Finding::fail(
        "redis",
        format!("waiting for redis: {fault}; {figures}"),
        "start Redis, or correct REDIS_URL; everything continues by itself then, and nothing is lost meanwhile",
    )
}

/// The figures as JSON, like those of `status --json`.
fn text(figures: &Figures) -> Arc<str> {
    let text = serde_json::to_string(figures).unwrap_or_default();
    shown::json(&text).into()
}
