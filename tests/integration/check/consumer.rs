//! The consumer: whether there is one, its settings, its rights, its relays and its position.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use redis::cmd;

use super::{Checked, check, check_with};
use crate::relay::conduct::{Incident, Upgrade};
use crate::relay::frames::Frame;
use crate::relay::server::now_millis;
use crate::relay::{Conduct, Relay, tls};
use crate::support::certificates::Authority;
use crate::support::consumer::{CURSOR, HOLDER, Line, STATE, STATUS};
use crate::support::entries::did;
use crate::support::process::{POLL, free_port};
use crate::support::worker::WorkerBuilder;
use crate::support::{RedisServer, Stack, wait_until};

/// A check of both, without a database.
fn settings(line: &Line) -> WorkerBuilder {
    line.consumer()
        .without_args()
        .env("DATABASE_URL", "postgresql://127.0.0.1:1/none")
}

fn check_line(line: &Line, env: &[(&str, &str)]) -> Checked {
    check_with(
        env.iter()
            .fold(settings(line), |worker, (name, value)| worker.env(name, value)),
    )
}

/// Checks while the relay sends an event of this moment every few milliseconds.
fn check_live(line: &Line, env: &[(&str, &str)]) -> Checked {
    check_while(line, now_millis, || check_line(line, env))
}

/// The same with another time of the events, and another check.
fn check_while(line: &Line, time: impl Fn() -> u64 + Sync, check: impl FnOnce() -> Checked) -> Checked {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                line.relay
                    .append_at(Frame::identity(&did("alice"), None).message(), time());
                thread::sleep(POLL);
            }
        });
        let checked = check();
        is_over.store(true, Ordering::Relaxed);
        checked
    })
}

fn run(line: &Line, words: &[&str]) {
    line.query::<()>(cmd(words[0]).arg(&words[1..]));
}

#[test]
fn a_consumer_that_can_run_is_told_to_line_by_line() {
    let line = Line::new();
    line.append(1, 20);
    let url = line.relay.url();
    let checked = check_live(&line, &[]);
    checked.assert_finds("ok", "consumer", &[&url, "firehose:events", CURSOR]);
    checked.assert_finds("ok", "consumer rights", &["everything that the consumer does"]);
    checked.assert_finds("ok", "relay", &[&url, "sends events", "s old"]);
    checked.assert_finds("ok", "cursor", &["no position", "the oldest event"]);
    checked.assert_finds("warn", "consumer", &["no process holds the cursor", "systemctl start"]);
    let keys: Vec<String> = line.query(cmd("KEYS").arg("*"));
    assert!(keys.is_empty(), "the check has made {keys:?}");
    assert_eq!(line.relay.seen().closes.len(), 1, "the check leaves politely");

    let _consumer = line.consumer().spawn();
    wait_until("the consumer has a position", || line.cursor().is_some());
    let checked = check_live(&line, &[]);
    checked.assert_finds("ok", "consumer", &["holds the cursor"]);
    checked.assert_finds(
        "ok",
        "cursor",
        &["continues with 127.0.0.1:", "behind; the newest event"],
    );
    let is_warning = |what| {
        checked
            .findings()
            .iter()
            .any(|found| found["what"] == what && found["level"] != "ok")
    };
    for what in ["consumer", "consumer rights", "relay", "cursor", "relay clock"] {
        assert!(!is_warning(what), "{:#}", checked.report);
    }
}

#[test]
fn a_consumer_that_is_not_in_use_fails_no_check_of_the_worker() {
    let stack = Stack::new("check_no_consumer");
    stack.create_group();
    let checked = check(&stack, &[("FIREHOSE_ENABLED", "true"), ("DATABASE_POOL", "1")]);
    checked.assert_finds("ok", "consumer", &["none of its settings is set here"]);
    checked.assert_nothing_fails();
    // The Python producer has this variable too, and its own program runs.
    let shared = [("RELAY_URL", "ws://127.0.0.1:1"), ("MAX_CONCURRENT_OPS", "80")];
    let checked = check(&stack, &shared);
    checked.assert_finds(
        "warn",
        "relay connection",
        &["ws://127.0.0.1:1", "refused", "HTTPS_PROXY"],
    );
    checked.assert_nothing_fails();
    let checked = check(&stack, &[("RELAY_URL", "ftp://relay")]);
    checked.assert_finds("warn", "consumer", &["RELAY_URL=ftp://relay is unusable"]);
    checked.assert_nothing_fails();
    // Certain to be meant for this program's consumer.
    let own = [shared[0], ("FIREHOSE_START", "now")];
    check(&stack, &own).assert_finds("fail", "relay connection", &["refused"]);
    cmd("HSET")
        .arg(&[STATE, "relay", "127.0.0.1:1", "127.0.0.1:1", "7 7"])
        .exec(&mut stack.redis())
        .expect("HSET");
    check(&stack, &shared).assert_finds("fail", "relay connection", &["refused"]);
}

#[test]
fn all_faults_of_its_settings_are_told_at_once() {
    let line = Line::new();
    let faults = [
        ("RELAY_URL", "wss://relay/path"),
        ("FIREHOSE_START", "yesterday"),
        ("FIREHOSE_COLLECTIONS", "@/not/there"),
    ];
    let checked = check_line(&line, &faults);
    for (variable, _) in faults {
        checked.assert_finds("fail", "consumer", &[variable, "the consumer does not start"]);
    }
    let checked = check_live(&line, &[("ADDITIONAL_RELAY_URLS", "ws://127.0.0.1:1")]);
    checked.assert_finds("warn", "consumer", &["ADDITIONAL_RELAY_URLS: relays are not merged"]);
    checked.assert_finds("ok", "relay", &["sends events"]);
    // It is needed only while the first one fails.
    checked.assert_finds("warn", "relay connection", &["ws://127.0.0.1:1"]);
}

#[test]
fn the_step_to_a_relay_that_fails_is_told() {
    let line = Line::new();
    let checked = |url: &str| check_line(&line, &[("RELAY_URL", url)]);
    let name = checked("ws://relay.invalid");
    name.assert_finds("fail", "relay name", &[]);
    let closed = format!("ws://127.0.0.1:{}", free_port());
    checked(&closed).assert_finds(
        "fail",
        "relay connection",
        &[&closed, "refused", "the port in RELAY_URL"],
    );
    let without_tls = line.relay.url().replace("ws://", "wss://");
    checked(&without_tls).assert_finds("fail", "relay tls", &[&without_tls, "certificate"]);
    let authority = Authority::new();
    let identity = authority.sign("relay", &["127.0.0.1"]);
    let settings = tls(Path::new(&identity.certificate()), Path::new(&identity.key()));
    let encrypted = Relay::with(1, Conduct::pds(), Some(settings));
    checked(&encrypted.url()).assert_finds("fail", "relay tls", &["UnknownIssuer", "SSL_CERT_FILE"]);
    for (upgrade, words) in [
        (
            Upgrade::answer("404 Not Found", &[], "nothing here"),
            ["404 Not Found: nothing here", "a relay or a PDS"],
        ),
        (
            Upgrade::answer("429 Too Many Requests", &[], ""),
            ["429 Too Many Requests", "limits connections"],
        ),
        (
            Upgrade::answer("503 Service Unavailable", &[], ""),
            ["503 Service Unavailable", "wait until"],
        ),
        (Upgrade::Silence, ["no answer in time", "a relay or a PDS"]),
    ] {
        line.relay.conduct(|conduct| conduct.upgrade = upgrade);
        check_line(&line, &[]).assert_finds("fail", "relay upgrade", &words);
    }
}

#[test]
fn a_relay_that_sends_nothing_or_ends_the_connection_is_told() {
    let line = Line::new();
    let checked = check_line(&line, &[]);
    checked.assert_finds("warn", "relay", &["has sent no event within 4 s", "quiet host"]);
    checked.assert_finds("ok", "cursor", &["no position"]);
    line.relay
        .conduct(|conduct| conduct.incident = Some((0, Incident::Close(1008, "go away"))));
    check_live(&line, &[]).assert_finds("fail", "relay", &["ended the connection", "name another relay"]);
}

#[test]
fn the_step_to_an_encrypted_relay_that_works_is_told() {
    let authority = Authority::new();
    let identity = authority.sign("relay", &["127.0.0.1"]);
    let settings = tls(Path::new(&identity.certificate()), Path::new(&identity.key()));
    let line = Line::with(Relay::with(1, Conduct::pds(), Some(settings)), RedisServer::start());
    let checked = check_live(&line, &[("SSL_CERT_FILE", &authority.path())]);
    checked.assert_finds("ok", "relay", &["wss://127.0.0.1:", "sends events"]);
}

#[test]
fn a_cursor_ahead_of_the_relay_is_told_with_what_follows() {
    let line = Line::new();
    run(&line, &["SET", CURSOR, "9000000"]);
    let host = format!("127.0.0.1:{}", line.relay.port());
    run(&line, &["HSET", STATE, "relay", &host, &host, "9000000 1767225600000"]);
    for (setting, word) in [
        ("time", "by the time of the events"),
        ("oldest", "oldest event"),
        ("now", "loses the events before"),
        ("stop", "stops"),
    ] {
        let checked = check_live(&line, &[("FIREHOSE_ON_FUTURE_CURSOR", setting)]);
        checked.assert_finds(
            "warn",
            "cursor",
            &["seq 9000000", "ahead of the relay", word, "RELAY_URL"],
        );
    }
}

#[test]
fn an_unusable_cursor_is_told() {
    let line = Line::new();
    run(&line, &["SET", CURSOR, "abc"]);
    let words = [CURSOR, "abc", "not a seq", "or delete it"];
    check_line(&line, &[]).assert_finds("fail", "cursor", &words);
    run(&line, &["DEL", CURSOR]);
    run(&line, &["RPUSH", CURSOR, "7"]);
    check_line(&line, &[]).assert_finds("fail", "cursor", &["is a list, not a string", "delete or rename"]);
}

#[test]
fn the_cursor_of_another_producer_or_relay_is_told() {
    let line = Line::new();
    line.append(1, 20);
    run(&line, &["SET", CURSOR, "15"]);
    let checked = check_live(&line, &[]);
    checked.assert_finds("ok", "cursor", &["after seq 15, where another producer is", "behind"]);
    let words = ["always reads bsky.network", "set RELAY_URL=wss://bsky.network"];
    checked.assert_finds("warn", "cursor", &words);
    run(
        &line,
        &[
            "HSET",
            STATE,
            "relay",
            "relay.example",
            "relay.example",
            "15 1767225600000",
        ],
    );
    let checked = check_live(&line, &[]);
    checked.assert_finds("ok", "cursor", &["that of relay.example", "by the time of the events"]);
}

#[test]
fn a_start_with_the_present_and_one_with_a_seq_are_told() {
    let line = Line::new();
    let checked = check_line(&line, &[("FIREHOSE_START", "now")]);
    checked.assert_finds("ok", "cursor", &["the present", "FIREHOSE_START=oldest"]);
    check_line(&line, &[("FIREHOSE_START", "40")]).assert_finds("ok", "cursor", &["begins with seq 40"]);
}

#[test]
fn events_from_the_future_are_told_as_a_wrong_clock() {
    let line = Line::new();
    let in_two_hours = || now_millis() + 2 * 3_600_000;
    let checked = check_while(&line, in_two_hours, || check_line(&line, &[]));
    checked.assert_finds("warn", "relay clock", &["ahead of this machine's clock", "timedatectl"]);
}

#[test]
fn another_producer_that_runs_is_told_with_what_follows() {
    let line = Line::new();
    let foreign = r#"{"connected":true,"url":"wss://their.relay","currentCursor":"42"}"#;
    run(&line, &["SET", STATUS, foreign]);
    run(&line, &["SET", HOLDER, "vm pid 7 boot x y start 1"]);
    let checked = check_line(&line, &[]);
    checked.assert_finds(
        "warn",
        "consumer",
        &["wss://their.relay", "stands by", "then stop the other producer"],
    );
    checked.assert_finds("ok", "consumer", &["vm pid 7 holds the cursor"]);
    let beside = check_line(&line, &[("FIREHOSE_BESIDE_OTHERS", "true")]);
    beside.assert_finds(
        "warn",
        "consumer",
        &["each event a second time", "stop the other producer"],
    );
}

/// With these the consumer does all that it can.
const ALL: &str = "~firehose:* &firehose:events:broadcast +type +xrevrange +xadd +xinfo +get +set +setex +del +pexpire \
                   +hgetall +hset +publish +watch +unwatch +multi +exec +info";

/// Checks as a user who has these rules alone.
fn as_user(line: &Line, rules: &str) -> Checked {
    let mut words = vec!["ACL", "SETUSER", "feeder", "reset", "resetchannels", "on", ">secret"];
    words.extend(rules.split_whitespace());
    run(line, &words);
    let url = line.redis.url().replace("redis://", "redis://feeder:secret@");
    check_line(line, &[("REDIS_URL", &url)])
}

#[test]
fn each_right_that_the_consumer_lacks_is_told_with_the_rule_that_allows_it() {
    let line = Line::new();
    line.relay
        .conduct(|conduct| conduct.upgrade = Upgrade::answer("404 Not Found", &[], ""));
    as_user(&line, ALL).assert_finds("ok", "consumer rights", &["feeder"]);
    for rule in [
        "+type",
        "+xrevrange",
        "+xadd",
        "+set ",
        "+hgetall",
        "+hset",
        "+watch",
        "+multi",
        "+exec",
    ] {
        let rule_at_the_end = format!("{}\"", rule.trim());
        let checked = as_user(&line, &ALL.replacen(rule, "", 1));
        checked.assert_finds(
            "fail",
            "consumer rights",
            &["ACL SETUSER feeder ", &rule_at_the_end, "that the consumer requires"],
        );
    }
    for (rule, feature) in [
        ("+xinfo", "a pause before unread entries are trimmed"),
        ("+setex", "the AppView's dashboard"),
        ("+publish", "the AppView's dashboard"),
        ("&firehose:events:broadcast", "the AppView's dashboard"),
        ("+pexpire", "a lease on the cursor"),
        ("+unwatch", "a lease on the cursor"),
    ] {
        let rule_at_the_end = format!("{rule}\"");
        let checked = as_user(&line, &ALL.replacen(rule, "", 1));
        checked.assert_finds(
            "warn",
            "consumer rights",
            &["ACL SETUSER feeder ", &rule_at_the_end, feature],
        );
    }
    let words = ["~firehose:consumer:* ~firehose:events ~firehose:python_cursor", "+xadd"];
    as_user(&line, "").assert_finds("fail", "consumer rights", &words);
}

#[test]
fn a_redis_that_the_consumer_cannot_reach_keeps_the_relay_from_no_check() {
    let line = Line::new();
    line.redis.stop();
    let checked = check_live(&line, &[]);
    checked.assert_finds("fail", "consumer", &["refused", "correct the consumer's REDIS_URL"]);
    checked.assert_finds("ok", "relay", &["sends events"]);
}

#[test]
fn a_hanging_redis_ends_the_looks_at_the_consumer() {
    let line = Line::new();
    line.redis.signal(libc::SIGSTOP);
    let checked = check_line(&line, &[]);
    line.redis.signal(libc::SIGCONT);
    checked.assert_finds("fail", "consumer", &["no answer"]);
}
