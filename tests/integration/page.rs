//! The page for people at METRICS_ADDR, as a browser asks for it. `tests/page.sh` looks at it in a real one.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use redis::cmd;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::generator::Events;
use crate::prometheus::get;
use crate::relay::Relay;
use crate::support::entries::{did, follow};
use crate::support::process::free_port;
use crate::support::stack::{EVENTS, GROUP, shown};
use crate::support::wait::equal;
use crate::support::worker::{Worker, WorkerBuilder};
use crate::support::{Stack, wait_until};

/// What a name may contain that is not harmless in a page or in a terminal.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&\u{202e}\u{1b}[2J</script><script>alert(2)</script>";

fn address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// A worker with the page at the address.
fn worker(stack: &Stack, address: &str) -> Worker {
    stack
        .worker()
        .env("CONSUMER_ID", "me")
        .env("METRICS_ADDR", address)
        .spawn()
}

/// The object at the path; null while there is no answer.
fn object(address: &str, path: &str) -> Value {
    let Some((200, text)) = get(address, path) else {
        return Value::Null;
    };
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn status(address: &str) -> Value {
    object(address, "/status.json")
}

/// Waits for figures that are as wanted, and returns them.
#[track_caller]
fn wait_for(what: &str, address: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let mut found = Value::Null;
    wait_until(what, || {
        found = status(address);
        match is_wanted(&found) {
            true => Ok(()),
            false => Err(format!("{found:#}")),
        }
    });
    found
}

/// Whether there is a finding of this level about the subject with these words.
fn finds(status: &Value, level: &str, what: &str, words: &str) -> bool {
    let is_it = |finding: &Value| {
        let found = finding["found"].as_str().unwrap_or_default();
        finding["level"] == level && finding["what"] == what && found.contains(words)
    };
    status["findings"]
        .as_array()
        .is_some_and(|findings| findings.iter().any(is_it))
}

/// The head of the answer to a GET.
fn head(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split_once("\r\n\r\n").expect("a head").0.to_owned()
}

/// The names of the members of an object and of the objects in it, as paths.
fn names(value: &Value, at: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                out.insert(format!("{at}.{name}"));
                names(member, &format!("{at}.{name}"), out);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, &format!("{at}[]"), out)),
        _ => {}
    }
}

#[test]
fn the_page_is_one_small_file_that_may_run_nothing_but_its_own_script() {
    let stack = Stack::new("page");
    let address = address();
    let _worker = worker(&stack, &address);
    wait_until("the process answers", || get(&address, "/").is_some());
    let (code, page) = get(&address, "/").expect("a page");
    assert_eq!(code, 200);
    assert!(
        page.starts_with("<!doctype html>") && page.ends_with("</html>\n"),
        "{page}"
    );
    assert!(page.len() < 40_000, "{} bytes", page.len());
    let head = head(&address, "/?reload=1");
    for line in [
        "HTTP/1.1 200 OK",
        "Content-Type: text/html; charset=utf-8",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Cross-Origin-Resource-Policy: same-origin",
    ] {
        assert!(head.lines().any(|found| found == line), "{line} is not in\n{head}");
    }
    let policy = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Security-Policy: "))
        .expect("a policy");
    let parts: Vec<&str> = policy.split("; ").collect();
    assert_eq!(parts[0], "default-src 'none'");
    assert!(
        parts.contains(&"frame-ancestors 'none'") && parts.contains(&"connect-src 'self'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!head.contains("Access-Control"), "{head}");
    let (code, text) = get(&address, "/nothing").expect("an answer");
    assert_eq!(code, 404);
    for path in ["/status.json", "/history.json", "/metrics", "/healthz", "/readyz"] {
        assert!(text.contains(path), "{text}");
        assert!(head_of_kind(&address, path), "{path}");
    }
}

#[test]
fn without_the_setting_nothing_is_gathered() {
    let stack = Stack::new("page_none");
    let threads = |worker: &Worker| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", worker.pid())).expect("the threads");
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names
            .map(|name| name.trim_end().to_owned())
            .collect::<BTreeSet<String>>()
    };
    let without = stack.worker().env("CONSUMER_ID", "other").spawn();
    let with = worker(&stack, &address());
    let has = |worker: &Worker, name: &str| threads(worker).contains(name);
    wait_until("both run", || has(&without, "reader") && has(&with, "reader"));
    assert!(has(&with, "page") && has(&with, "http"));
    assert!(
        !has(&without, "page") && !has(&without, "http"),
        "{:?}",
        threads(&without)
    );
}

/// Whether the answer cannot be embedded, nor taken for another type.
fn head_of_kind(address: &str, path: &str) -> bool {
    let head = head(address, path);
    head.contains("default-src 'none'; frame-ancestors 'none'") && head.contains("nosniff")
}

#[test]
fn both_processes_show_the_whole_pipeline_as_status_prints_it() {
    let stack = Stack::new("page_both");
    let relay = Relay::start();
    relay.append_all(Events::new(1, 300).map(|event| crate::relay::frames::Frame::of(&event).message()));
    let (workers, consumers) = (address(), address());
    let _worker = worker(&stack, &workers);
    let _consumer = WorkerBuilder::new()
        .arg("consume")
        .env("RELAY_URL", &relay.url())
        .env("REDIS_URL", &stack.redis_url())
        .env("FIREHOSE_START", "oldest")
        .env("METRICS_ADDR", &consumers)
        .spawn();
    stack.push("commit", json!([]));
    let is_whole = |status: &Value| {
        let told = &status["workers"][0]["status"];
        status["consumer"]["state"] == "connected"
            && status["consumer"]["status"]["entries"].as_u64() > Some(0)
            && told["events"]["commit"].as_u64() > Some(200)
            && status["counters"]["errors"] == 1
            && status["backlog"] == 0
    };
    let ours = wait_for("the worker's page shows both", &workers, is_whole);
    let theirs = wait_for("the consumer's page shows both", &consumers, is_whole);
    let output = stack
        .worker()
        .env("CONSUMER_ID", "me")
        .arg("status")
        .arg("--json")
        .run_to_exit();
    let printed: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let names_of = |value: &Value| {
        let mut found = BTreeSet::new();
        names(value, "", &mut found);
        found
    };
    assert_eq!(names_of(&ours), names_of(&printed));
    assert_eq!(names_of(&theirs), names_of(&printed));
    for member in [
        "stream",
        "group",
        "counters",
        "length",
        "dead_letters",
        "dead_letters_by_reason",
        "newest_dead_letters",
        "losses",
    ] {
        assert_eq!(ours[member], printed[member], "{member}");
        assert_eq!(theirs[member], printed[member], "{member}");
    }
    assert_eq!(ours["newest_dead_letters"][0]["type"], "commit", "{ours:#}");
    for status in [&ours, &theirs, &printed] {
        assert!(finds(status, "ok", "worker", "runs as me"), "{status:#}");
        assert!(finds(status, "ok", "producer", "connected, cursor"), "{status:#}");
    }
    assert_eq!(object(&workers, "/history.json")["served_by"]["kind"], "worker");
    assert_eq!(object(&consumers, "/history.json")["served_by"]["kind"], "consumer");
}

#[test]
fn samples_are_kept_in_order_and_only_newer_ones_are_sent() {
    let stack = Stack::new("page_history");
    let address = address();
    let _worker = worker(&stack, &address);
    let samples = |after: &str| {
        let history = object(&address, &format!("/history.json{after}"));
        let samples = history["samples"].as_array().cloned().unwrap_or_default();
        let time = |sample: &Value| sample[0].as_u64().expect("a time");
        samples.iter().map(time).collect::<Vec<u64>>()
    };
    wait_until("there are three samples", || equal(samples("").len().min(3), 3));
    let times = samples("");
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    let newer = samples(&format!("?after={}", times[1]));
    assert_eq!(newer[0], times[2]);
    assert!(samples(&format!("?after={}", u64::MAX)).is_empty());
    assert_eq!(samples("?after=never")[..3], times[..3]);
    let history = object(&address, "/history.json");
    assert_eq!(history["fields"][0], "time_ms");
    assert_eq!(
        history["samples"][0].as_array().map(Vec::len),
        history["fields"].as_array().map(Vec::len)
    );
}

#[test]
fn names_and_records_of_strangers_are_text() {
    let stack = Stack::new("page_hostile");
    stack.create_group();
    let long = HOSTILE.repeat(1000);
    for name in [HOSTILE, &long] {
        cmd("XGROUP")
            .arg(&["CREATECONSUMER", EVENTS, GROUP, name])
            .exec(&mut stack.redis())
            .expect("XGROUP CREATECONSUMER");
    }
    cmd("XADD")
        .arg(&[
            "firehose:dead-letters",
            "*",
            "type",
            HOSTILE,
            "op",
            &long,
            "error",
            HOSTILE,
        ])
        .exec(&mut stack.redis())
        .expect("XADD");
    let address = address();
    let _worker = worker(&stack, &address);
    let status = wait_for("the names are shown", &address, |status| {
        status["workers"].as_array().is_some_and(|workers| workers.len() == 3)
    });
    let is_there = |name: &str| {
        let workers = status["workers"].as_array().expect("workers");
        workers.iter().any(|worker| worker["consumer"] == name)
    };
    assert!(is_there(HOSTILE) && is_there(&long), "{status:#}");
    let letter = &status["newest_dead_letters"][0];
    assert_eq!(letter["error"], HOSTILE);
    assert!(
        letter["op"].as_str().is_some_and(|op| op.chars().count() == 300),
        "{letter:#}"
    );
    let (_, text) = get(&address, "/status.json").expect("an answer");
    assert!(!text.contains(['\u{202e}', '\u{1b}']), "{text}");
    assert!(head(&address, "/status.json").contains("Content-Type: application/json"));
}

#[test]
fn what_the_worker_waits_for_is_told_on_top() {
    let stack = Stack::new("page_waiting");
    let address = address();
    let worker = stack
        .worker()
        .env("DATABASE_URL", "postgresql://postgres@127.0.0.1:1/none")
        .env("CONSUMER_ID", "me")
        .env("METRICS_ADDR", &address);
    let _worker = worker.spawn();
    let status = wait_for("the page shows that the worker waits", &address, |status| {
        finds(status, "fail", "worker", "me waits for postgresql: ")
    });
    assert_eq!(status["findings"][0]["what"], "worker", "{status:#}");
    assert_ne!(status["findings"][0]["remedy"], "");
}

#[test]
fn while_redis_is_away_the_last_figures_stay_with_their_time() {
    let stack = Stack::new("page_redis");
    let address = address();
    let mut worker = worker(&stack, &address);
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    let before = wait_for("the entry is shown", &address, |status| {
        status["counters"]["totalEvents"] == 1
    });
    stack.redis.kill();
    let during = wait_for("the outage is shown", &address, |status| {
        finds(status, "fail", "redis", "waiting for redis: ")
    });
    assert!(
        finds(&during, "fail", "redis", "; these are the figures of "),
        "{during:#}"
    );
    assert_eq!(during["findings"][0]["what"], "redis", "{during:#}");
    assert_eq!(during["counters"], before["counters"]);
    assert_eq!(get(&address, "/healthz").map(|(code, _)| code), Some(200));
    stack.redis.restart();
    wait_for("the figures are those of now", &address, |status| {
        status["time_ms"].as_u64() > during["time_ms"].as_u64()
            && !finds(status, "fail", "redis", "")
            && status["workers"][0]["status"].is_object()
    });
    let log = worker.log();
    assert_eq!(log.matches("waiting for redis: ").count(), 1, "{}", shown(&log));
    worker.signal(libc::SIGTERM);
    let exit = worker.wait_exit(std::time::Duration::from_secs(45));
    assert_eq!(exit.code(), Some(0), "{}", shown(&worker.log()));
}

/// A client that asks for the page, and has room for little of it.
fn slow_client(address: &SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(1).expect("a small buffer");
    socket.connect(&(*address).into()).expect("a connection");
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a request");
    stream
}

/// Connections of that port on which data waits for the peer.
fn n_unread(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the connections");
    let local = format!(":{port:04X}");
    let is_unread = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1].ends_with(&local) && !words[4].starts_with("00000000:")
    };
    table.lines().skip(1).filter(is_unread).count()
}

#[test]
fn fifty_clients_that_do_not_read_the_page_delay_no_other_and_are_cut_off() {
    let stack = Stack::new("page_slow");
    let address = address();
    let _worker = worker(&stack, &address);
    wait_until("the process answers", || get(&address, "/healthz").is_some());
    let to: SocketAddr = address.parse().expect("an address");
    let slow: Vec<TcpStream> = (0..50).map(|_| slow_client(&to)).collect();
    wait_until("the page waits for slow clients", || {
        equal(n_unread(to.port()).max(40), 50)
    });
    for path in ["/healthz", "/", "/status.json"] {
        assert_eq!(get(&address, path).map(|(code, _)| code), Some(200), "{path}");
    }
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    wait_until("the worker works", || equal(stack.count("follows"), 1));
    wait_until("the slow clients are cut off", || equal(n_unread(to.port()), 0));
    for mut client in slow {
        let mut read = Vec::new();
        let complete = client.read_to_end(&mut read).is_ok() && read.ends_with(b"</html>\n");
        assert!(!complete, "a slow client got the whole page, {} bytes", read.len());
    }
}
