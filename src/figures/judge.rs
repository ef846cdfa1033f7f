//! Judges the figures: what is wrong with the stream, its group, its workers and its producer, and what to do.
//!
//! Owns these findings, which `check` prints, and `status --json` and the page show. Pure. Reports no question that Redis
//! refused to answer, except in `refused`.

use super::finding::{Finding, Level};
use super::producer::{STATUS, State};
use super::target::Target;
use super::text::{grouped, list, quoted};
use super::{Figures, Question, Worker};
use crate::keys;
use crate::logging::shown;
use crate::losses;
use crate::losses::forecast::{WARN_WITHIN, seconds_left};
use crate::redis::link;

/// A standstill of the worker that must not lose entries, in seconds: an upgrade, or a restart of a server.
const SHORTEST_HEADROOM: f64 = 120.0;

/// Share of the producer's limit from which the backlog needs attention, in percent.
const FULL_PERCENT: u64 = 80;

const BEHIND: &str = "start the worker, or find out what it waits for: firehose-worker status";

/// All findings. Unlike `check`, which asks the servers itself, this believes what the processes say of them.
pub fn all(figures: &Figures, target: &Target) -> Vec<Finding> {
    let mut findings = waiting(figures);
    findings.extend(paused(figures));
    findings.extend(match figures.length {
        Some(_) => stream(figures, target),
        None => vec![no_stream(figures, target)],
    });
    findings.extend(rest(figures, target));
    findings.extend(refused(figures));
    findings
}

/// What workers say that they wait for.
fn waiting(figures: &Figures) -> Vec<Finding> {
    let finding = |worker: &Worker| {
        let status = worker.status.as_ref()?;
        let reason = status.waiting_for.as_deref()?;
        let found = format!("{} waits for {reason}", worker.consumer);
        let (level, remedy) = match reason.split_once(": ") {
            Some(("postgresql", _)) => (
                Level::Fail,
                "start or mend PostgreSQL, or correct DATABASE_URL: firehose-worker check tells more; the worker then \
                 continues by itself, and nothing is lost meanwhile",
            ),
            Some(_) => (
                Level::Fail,
                "firehose-worker check tells more; the worker continues by itself once it can",
            ),
            None => (
                Level::Warn,
                "this is part of a start; if it lasts, see the worker's log",
            ),
        };
        Some(Finding::new(level, "worker", found, remedy))
    };
    figures.workers.iter().filter_map(finding).collect()
}

fn paused(figures: &Figures) -> Option<Finding> {
    let consumer = figures.consumer.as_ref()?;
    (consumer.state == State::Paused).then(|| {
        let needed = figures.backlog.unwrap_or(0) + figures.pending.unwrap_or(0);
        let found = format!(
            "paused: the group has {} entries to read or acknowledge first; the relay keeps later events meanwhile",
            grouped(needed)
        );
        Finding::warn("consumer", found, BEHIND)
    })
}

fn no_stream(figures: &Figures, target: &Target) -> Finding {
    match figures.refusals.get(&Question::Stream) {
        Some(error) => Finding::warn(
            "stream",
            format!("its state is unknown: {}", link::describe(error)),
            link::remedy(error, &format!("~{} +xinfo +multi +exec", target.stream)),
        ),
        None => Finding::warn(
            "stream",
            format!("{} or its group {} does not exist yet", target.stream, target.group),
            "start the firehose consumer, which makes the stream, and the worker, which makes the group",
        ),
    }
}

/// About a stream and a group that exist.
pub fn stream(figures: &Figures, target: &Target) -> Vec<Finding> {
    vec![
        Finding::ok(
            "stream",
            format!("{} has {} entries", target.stream, grouped(figures.length.unwrap_or(0))),
        ),
        Finding::ok("group", &target.group),
        pending(figures, target),
        backlog(figures, target),
    ]
}

/// About everything else.
pub fn rest(figures: &Figures, target: &Target) -> Vec<Finding> {
    let findings = [
        dead_letters(figures),
        losses(figures, target),
        worker(figures, target),
        producer(figures),
        headroom(figures, target),
    ];
    findings.into_iter().flatten().collect()
}

fn pending(figures: &Figures, target: &Target) -> Finding {
    let claim_idle_ms = target.claim_idle.as_millis() as u64;
    let consumers = || figures.workers.iter().filter(|worker| worker.idle_ms.is_some());
    let describe = |worker: &Worker| Some(format!("{}: {}", worker.consumer, worker.describe_consumer()?));
    let described: Vec<String> = consumers().filter_map(describe).collect();
    let mut found = format!("{} entries pending", grouped(figures.pending.unwrap_or(0)));
    if !described.is_empty() {
        found += &format!(" ({})", shown::list(&described));
    }
    match consumers().any(|worker| worker.pending > 0 && worker.idle_ms > Some(claim_idle_ms)) {
        true => Finding::warn(
            "pending",
            found,
            format!(
                "make sure that a worker runs: it takes over what a consumer has left for {} s (CLAIM_IDLE_MS)",
                claim_idle_ms / 1000
            ),
        ),
        false => Finding::ok("pending", found),
    }
}

fn backlog(figures: &Figures, target: &Target) -> Finding {
    let found = figures.describe_backlog();
    let limit = target.max_stream_len;
    if figures.has_gap {
        let found = format!("{found}; other entries were trimmed before they were read");
        Finding::warn("backlog", found, BEHIND)
    } else if figures.backlog.unwrap_or(0) * 100 > limit * FULL_PERCENT {
        let found = format!("{found}; the producer keeps {} entries", grouped(limit));
        Finding::warn("backlog", found, BEHIND)
    } else {
        Finding::ok("backlog", found)
    }
}

fn dead_letters(figures: &Figures) -> Option<Finding> {
    let number = figures.dead_letters?;
    let what = "dead letters";
    let found = figures.describe_dead_letters();
    let limit = figures.dead_letter_limit;
    Some(if losses::dead_letters_are_many(number, limit) {
        Finding::warn(
            what,
            format!("{found}; beyond that, the oldest are deleted"),
            format!(
                "see firehose-worker dead-letters list, then replay or drop them; or set REDIS_DEAD_LETTER_MAXLEN={}",
                2 * number.max(limit)
            ),
        )
    } else if number > 0 {
        Finding::hint(what, found, "firehose-worker dead-letters list shows them")
    } else {
        Finding::ok(what, found)
    })
}

fn losses(figures: &Figures, target: &Target) -> Option<Finding> {
    if figures.refusals.contains_key(&Question::Losses) {
        return None;
    }
    let found = list(&figures.losses);
    let is_lost = |(name, number): (&String, &u64)| name.ends_with("_trimmed") && *number > 0;
    Some(match figures.losses.iter().any(is_lost) {
        false => Finding::ok("losses", found),
        true => Finding::warn(
            "losses",
            format!("entries were trimmed before they were applied: {found}"),
            format!(
                "raise the producer's limit of entries, or make the worker faster; to forget them: redis-cli DEL {}",
                quoted(&keys::losses(target))
            ),
        ),
    })
}

fn worker(figures: &Figures, target: &Target) -> Option<Finding> {
    if figures.refusals.contains_key(&Question::Holder) {
        return None;
    }
    let is_asked = |worker: &&Worker| match &target.consumer {
        Some(own) => worker.consumer == *own,
        None => worker.held_by.is_some(),
    };
    let asked = figures.workers.iter().find(is_asked);
    let found = asked.and_then(|worker| Some(format!("{} runs as {}", worker.held_by.as_ref()?, worker.consumer)));
    Some(match found {
        Some(found) => Finding::ok("worker", found),
        None => Finding::warn(
            "worker",
            format!(
                "no process runs as {}",
                target.consumer.as_deref().unwrap_or("a worker")
            ),
            "systemctl start firehose-worker, once nothing here fails",
        ),
    })
}

fn producer(figures: &Figures) -> Option<Finding> {
    if figures.refusals.contains_key(&Question::Producer) {
        return None;
    }
    if let Some(fault) = &figures.producer_fault {
        let found = format!("{STATUS} is not what a firehose consumer writes: {fault}");
        return Some(Finding::warn("producer", found, "find out what writes it"));
    }
    let found = figures.describe_producer();
    Some(match &figures.producer {
        None => Finding::warn("producer", found, "start the firehose consumer"),
        Some(producer) if producer.connected => Finding::ok("producer", found),
        Some(_) => Finding::warn("producer", found, "see its log, and whether it can reach the relay"),
    })
}

fn headroom(figures: &Figures, target: &Target) -> Option<Finding> {
    let (backlog, added) = (figures.backlog?, figures.added_per_second?);
    let what = "trim headroom";
    let limit = target.max_stream_len;
    let found = figures.describe_headroom();
    // Over so short a time a burst looks like a trend: only a backlog that reaches the limit soon is worth a warning.
    let growth = figures.backlog_growth.filter(|growth| *growth > added / 10.0);
    let left = seconds_left(limit, backlog, growth.unwrap_or(0.0));
    let is_short = |seconds: f64| seconds < SHORTEST_HEADROOM;
    Some(
        if let Some(left) = left.filter(|left| *left < WARN_WITHIN.as_secs_f64()) {
            let growth = growth.unwrap_or(0.0);
            Finding::warn(
                what,
                format!("{found}; the backlog grows by {growth:.0}/s, which leaves {left:.0} s"),
                "find out why the worker is slower than the producer: firehose-worker status",
            )
        } else if figures.trim_headroom_seconds.is_some_and(is_short) {
            let enough = backlog + (added * SHORTEST_HEADROOM * 1.5) as u64 + 1;
            Finding::warn(
                what,
                found,
                format!(
                    "raise the producer's limit of {limit} entries to {enough}, and set REDIS_MAX_STREAM_LEN={enough}"
                ),
            )
        } else {
            Finding::ok(what, found)
        },
    )
}

/// The questions that Redis refused to answer.
fn refused(figures: &Figures) -> Option<Finding> {
    let names: Vec<&str> = figures.refusals.keys().map(|question| question.name()).collect();
    (!names.is_empty()).then(|| {
        Finding::hint(
            "redis rights",
            format!("redis does not let this process ask about {}", names.join(", ")),
            "firehose-worker check tells which rights it lacks",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::producer::Consumer;
    use super::*;
    use crate::report::status::Status;

    fn target() -> Target {
        Target {
            stream: "s".to_owned(),
            group: "g".to_owned(),
            consumer: Some("me".to_owned()),
            counters: String::new(),
            cursor_key: String::new(),
            max_stream_len: 1000,
            dead_letter_maxlen: 100,
            claim_idle: Duration::from_secs(30),
        }
    }

    /// The findings that are not ok, as `what: found — remedy`.
    fn wrong(figures: &Figures, target: &Target) -> Vec<String> {
        let wrong = all(figures, target)
            .into_iter()
            .filter(|finding| finding.level != Level::Ok);
        wrong
            .map(|finding| format!("{}: {} — {}", finding.what, finding.found, finding.remedy))
            .collect()
    }

    /// A stream that a worker reads, and nothing is wrong but the producer, which is unknown.
    fn sound() -> Figures {
        Figures {
            length: Some(10),
            backlog: Some(0),
            pending: Some(0),
            workers: vec![Worker {
                consumer: "me".to_owned(),
                held_by: Some("vm pid 7".to_owned()),
                idle_ms: Some(0),
                ..Worker::default()
            }],
            ..Figures::default()
        }
    }

    #[test]
    fn each_fault_is_found_alone() {
        assert_eq!(wrong(&sound(), &target()).len(), 1);
        type Break = fn(&mut Figures);
        let breaks: [(&str, Break); 9] = [
            ("stream: s or its group g does not exist", |figures| {
                figures.length = None
            }),
            ("backlog: 900 unread", |figures| figures.backlog = Some(900)),
            ("backlog: 0 unread, 0 pending, not shrinking; other", |figures| {
                figures.has_gap = true
            }),
            ("pending: 1 entries pending (me: 1 pending, idle 60 s)", |figures| {
                figures.pending = Some(1);
                figures.workers[0].pending = 1;
                figures.workers[0].idle_ms = Some(60_000);
            }),
            ("dead letters: 90 of about 100", |figures| {
                figures.dead_letters = Some(90);
                figures.dead_letter_limit = 100;
            }),
            (
                "losses: entries were trimmed before they were applied: unread trimmed 3",
                |figures| {
                    figures.losses = BTreeMap::from([("unread_trimmed".to_owned(), 3)]);
                },
            ),
            ("worker: no process runs as me", |figures| figures.workers.clear()),
            ("worker: me waits for postgresql: connection refused", |figures| {
                figures.workers[0].status = Some(Status {
                    waiting_for: Some("postgresql: connection refused".to_owned()),
                    ..Status::default()
                });
            }),
            ("consumer: paused: the group has 0 entries", |figures| {
                figures.consumer = Some(Consumer {
                    state: State::Paused,
                    ..Consumer::default()
                });
            }),
        ];
        for (wanted, break_it) in breaks {
            let mut figures = sound();
            break_it(&mut figures);
            let wrong = wrong(&figures, &target());
            assert_eq!(wrong.len(), 2, "{wanted}: {wrong:?}");
            assert!(wrong.iter().any(|line| line.starts_with(wanted)), "{wanted}: {wrong:?}");
        }
    }

    #[test]
    fn the_consumers_page_asks_for_any_worker() {
        let target = Target {
            consumer: None,
            ..target()
        };
        let mut figures = sound();
        figures.workers[0].consumer = "other".to_owned();
        assert_eq!(wrong(&figures, &target).len(), 1);
        figures.workers[0].held_by = None;
        let wrong = wrong(&figures, &target);
        assert!(
            wrong.iter().any(|line| line.contains("no process runs as a worker")),
            "{wrong:?}"
        );
    }
}
