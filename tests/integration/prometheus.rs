//! The pages at METRICS_ADDR, as a scraper, a health check and Prometheus' own tool read them.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::generator::Events;
use crate::relay::frames::Frame;
use crate::support::consumer::Line;
use crate::support::entries::{did, follow};
use crate::support::postgres::Database;
use crate::support::process::free_port;
use crate::support::skip::skip;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{PostgresOptions, PostgresServer, RedisServer, Stack, wait_until};

/// The time in which a worker has to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(45);

/// Status and body of a GET; `None` while the worker does not listen.
pub(crate) fn get(address: &str, path: &str) -> Option<(u16, String)> {
    answer(ask(address, &format!("GET {path}"), "")?)
}

/// Sends a request, up to whatever follows its head, and leaves the connection open.
fn ask(address: &str, line: &str, rest: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a time limit");
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{rest}\r\n"
    )
    .ok()?;
    Some(stream)
}

fn answer(mut stream: TcpStream) -> Option<(u16, String)> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// The value of one series, as it is written.
pub(crate) fn value<'t>(text: &'t str, series: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

#[test]
fn the_metrics_count_what_the_dashboard_counts_and_pass_promtool() {
    let stack = Stack::new("prometheus");
    let address = format!("127.0.0.1:{}", free_port());
    let sent = stack.push_events(Events::new(31, 2000));
    stack.push("commit", serde_json::json!([]));
    let worker = stack.worker().env("METRICS_ADDR", &address).spawn();
    wait_until("all entries are acknowledged", || {
        equal(stack.metric("cluster:metrics", "totalEvents"), sent.total)
    });
    wait_until("the bad entry is set apart", || {
        equal(stack.metric("cluster:metrics", "errors"), 1)
    });
    let (status, text) = get(&address, "/metrics").unwrap_or_else(|| panic!("no answer; {}", shown(&worker.log())));
    assert_eq!(status, 200, "{text}");
    for (series, wanted) in [
        (r#"firehose_worker_events_total{type="commit"}"#, sent.commit),
        (r#"firehose_worker_events_total{type="identity"}"#, sent.identity),
        (r#"firehose_worker_events_total{type="account"}"#, sent.account),
        ("firehose_worker_errors_total", 1),
        ("firehose_worker_in_flight_entries", 0),
        ("firehose_worker_in_flight_bytes", 0),
    ] {
        let found = value(&text, series).map(|value| value.parse::<f64>().expect("a number"));
        assert_eq!(found, Some(wanted as f64), "{series} in\n{text}");
    }
    for series in [
        "firehose_worker_batch_entries_count",
        "firehose_worker_transaction_seconds_sum",
        "firehose_worker_commit_freshness_seconds_sum",
        "firehose_worker_freshness_seconds",
        "firehose_worker_resident_memory_bytes",
    ] {
        let found = value(&text, series).map(|value| value.parse::<f64>().expect("a number"));
        assert!(
            found.is_some_and(|value| value > 0.0),
            "{series} is {found:?} in\n{text}"
        );
    }
    check_with_promtool(&text);
    check_dashboard(&text, "firehose_worker_");
    assert_eq!(get(&address, "/nothing").map(|(status, _)| status), Some(404));
}

#[test]
fn the_metrics_of_the_consumer_count_its_events_and_pass_promtool() {
    let line = Line::new();
    line.append(1, 500);
    line.relay.append(Frame::sync(&did("alice")).message());
    let address = format!("127.0.0.1:{}", free_port());
    let consumer = line.consumer().env("METRICS_ADDR", &address).spawn();
    line.wait_until_read();
    let text = || get(&address, "/metrics").map_or_else(String::new, |(_, text)| text);
    wait_until("everything is counted", || {
        equal(
            value(&text(), r#"firehose_consumer_set_aside_total{reason="sync"}"#).map(str::to_owned),
            Some("1".to_owned()),
        )
    });
    let text = text();
    let entries: u64 = ["commit", "identity", "account"]
        .iter()
        .filter_map(|kind| value(&text, &format!("firehose_consumer_entries_total{{type=\"{kind}\"}}")))
        .map(|value| value.parse::<u64>().expect("a number"))
        .sum();
    assert_eq!(entries, line.length(), "{}\n{text}", shown(&consumer.log()));
    check_with_promtool(&text);
    check_dashboard(&text, "firehose_consumer_");
}

/// Debian's and Ubuntu's package `prometheus` has it.
fn check_with_promtool(text: &str) {
    let mut command = Command::new("promtool");
    command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut promtool = match command.spawn() {
        Ok(child) => child,
        Err(error) => return skip("promtool check metrics", error),
    };
    promtool
        .stdin
        .take()
        .expect("its stdin")
        .write_all(text.as_bytes())
        .expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    assert!(
        output.status.success(),
        "{}{}\nof\n{text}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Every metric with this prefix that the Grafana dashboard asks for is there.
fn check_dashboard(text: &str, prefix: &str) {
    let dashboard = include_str!("../../systemd/grafana-dashboard.json");
    serde_json::from_str::<Value>(dashboard).expect("the dashboard is JSON");
    let asked: BTreeSet<&str> = dashboard
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(prefix))
        .collect();
    assert!(asked.len() > 8, "{asked:?}");
    for name in asked {
        let is_there = text
            .lines()
            .any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        assert!(is_there, "the dashboard asks for {name}, which is not in\n{text}");
    }
}

#[test]
fn a_worker_is_ready_once_it_has_acknowledged_something_or_seen_the_stream_empty() {
    let server = PostgresServer::start(PostgresOptions::default());
    let stack = Stack::of(RedisServer::start(), Database::new(server.clone(), "ready"));
    server.stop();
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    let address = format!("127.0.0.1:{}", free_port());
    let worker = stack.worker().env("METRICS_ADDR", &address).spawn();
    let status_of = |path: &str| get(&address, path).map(|(status, _)| status);
    wait_until("the process answers", || equal(status_of("/healthz"), Some(200)));
    assert_eq!(status_of("/readyz"), Some(503), "{}", shown(&worker.log()));
    server.restart();
    wait_until("the worker is ready", || equal(status_of("/readyz"), Some(200)));
    assert_eq!(stack.count("follows"), 1);

    let idle = Stack::new("ready_idle");
    let address = format!("127.0.0.1:{}", free_port());
    let _worker = idle.worker().env("METRICS_ADDR", &address).spawn();
    wait_until("the idle worker is ready", || {
        equal(get(&address, "/readyz").map(|(status, _)| status), Some(200))
    });
}

#[test]
fn endless_requests_and_missing_bodies_delay_no_other_client() {
    let stack = Stack::new("metrics_bodies");
    let address = format!("127.0.0.1:{}", free_port());
    let mut worker = stack.worker().env("METRICS_ADDR", &address).spawn();
    let status_of = |line: &str, rest: &str| answer(ask(&address, line, rest)?).map(|(status, _)| status);
    wait_until("the process answers", || {
        equal(status_of("GET /healthz", ""), Some(200))
    });
    for length in ["18446744073709551615", "9999999999999", "99999999999999999999999", "-1"] {
        let status = status_of("GET /metrics", &format!("Content-Length: {length}\r\n"));
        assert_eq!(status, Some(200), "Content-Length: {length}; {}", shown(&worker.log()));
    }
    // As many as hang about, all of them held open to the end.
    let unfinished = [
        ask(&address, "POST /metrics", "Content-Length: 10\r\n\r\nabc"),
        ask(
            &address,
            "POST /metrics",
            "Transfer-Encoding: chunked\r\n\r\nffff\r\nabc",
        ),
        TcpStream::connect(&address).ok(),
    ];
    assert_eq!(status_of("GET /healthz", ""), Some(200), "{}", shown(&worker.log()));
    let endless = "X-Endless: x\r\n".repeat(1000);
    assert_ne!(status_of("GET /metrics", &endless), Some(200));
    assert_eq!(status_of("DELETE /metrics", ""), Some(405));
    assert_eq!(status_of("HEAD /metrics", ""), Some(200));
    drop(unfinished);
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    wait_until("the worker works on", || equal(stack.count("follows"), 1));
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.wait_exit(STOP_LIMIT).code(), Some(0), "{}", shown(&worker.log()));
}

#[test]
fn fifty_slow_clients_delay_no_other_and_are_cut_off() {
    let stack = Stack::new("metrics_slow");
    let address = format!("127.0.0.1:{}", free_port());
    let _worker = stack.worker().env("METRICS_ADDR", &address).spawn();
    wait_until("the process answers", || {
        equal(get(&address, "/healthz").map(|(status, _)| status), Some(200))
    });
    let mut slow: Vec<TcpStream> = Vec::new();
    // Repeated in case this machine is so slow that the first clients are cut off before the answer arrives.
    wait_until("there is an answer while all slow clients are connected", || {
        slow = (0..50)
            .filter_map(|_| {
                let mut stream = TcpStream::connect(&address).ok()?;
                stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ").ok()?;
                Some(stream)
            })
            .collect();
        let status = get(&address, "/healthz").map(|(status, _)| status);
        let n_open = slow.iter().filter(|stream| is_open(stream)).count();
        equal((status, n_open), (Some(200), 50))
    });
    wait_until("the slow clients are cut off", || {
        equal(slow.iter().filter(|stream| is_open(stream)).count(), 0)
    });
    // More than there is room for, all of them silent: the oldest give way.
    let _silent: Vec<TcpStream> = (0..400).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    assert_eq!(get(&address, "/healthz").map(|(status, _)| status), Some(200));
}

/// Whether the connection, on which the worker sends nothing, is still open.
fn is_open(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a mode of the socket");
    matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn an_address_in_use_is_logged_and_waited_for_while_the_worker_runs() {
    let stack = Stack::new("metrics_taken");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let mut worker = stack.worker().env("METRICS_ADDR", &address).spawn();
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    wait_until("the worker works", || equal(stack.count("follows"), 1));
    let refusal = format!("cannot listen on METRICS_ADDR={address}");
    wait_until("the address is named", || match worker.log().contains(&refusal) {
        true => Ok(()),
        false => Err(shown(&worker.log())),
    });
    drop(listener);
    wait_until("the process answers", || {
        equal(get(&address, "/healthz").map(|(status, _)| status), Some(200))
    });
    let log = worker.log();
    assert_eq!(log.matches(&refusal).count(), 1, "{}", shown(&log));
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.wait_exit(STOP_LIMIT).code(), Some(0), "{}", shown(&worker.log()));
}
