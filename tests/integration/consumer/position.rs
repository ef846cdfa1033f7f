//! Where the consumer begins.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::generator::Events;
use crate::relay::frames::Frame;
use crate::relay::{Conduct, Relay};
use crate::support::consumer::{CURSOR, Line, assert_equal, wait_for_log};
use crate::support::entries::did;
use crate::support::proxy::Proxy;
use crate::support::stack::EVENTS;
use crate::support::wait::wait_until;
use crate::support::{RedisServer, Worker};

/// Appends events, as a live relay does, until the log says this.
#[track_caller]
fn live_until_log(line: &Line, consumer: &Worker, text: &str) {
    wait_until(&format!("the log says {text:?}"), || {
        line.append(7, 1);
        consumer.log().contains(text)
    });
}

#[test]
fn without_a_position_the_setting_decides() {
    for (start, first_seq) in [("oldest", 1), ("40", 40)] {
        let line = Line::new();
        line.append(1, 100);
        let _consumer = line.consumer().env("FIREHOSE_START", start).spawn();
        line.wait_until_read();
        line.assert_exact_after(first_seq - 1);
    }
    let line = Line::new();
    line.append(1, 100);
    let consumer = line.consumer().env("FIREHOSE_START", "now").spawn();
    wait_for_log(&consumer, "redis holds no position: beginning with the present");
    wait_until("it is subscribed", || line.relay.n_subscribers() == 1);
    wait_for_log(&consumer, "reading");
    assert_eq!(line.relay.seen().requests[0].cursor(), None);
    line.append(2, 50);
    line.wait_until_read();
    line.assert_exact_after(100);
}

#[test]
fn an_unusable_cursor_or_key_ends_the_process_and_is_left_alone() {
    for (command, key) in [
        (["SET", CURSOR, "abc"], CURSOR),
        (["SET", CURSOR, "-5"], CURSOR),
        (["RPUSH", CURSOR, "7"], CURSOR),
        (["SET", EVENTS, "7"], EVENTS),
    ] {
        let line = Line::new();
        line.append(1, 10);
        line.query::<()>(redis::cmd(command[0]).arg(&command[1..]));
        let output = line.consumer().run_to_exit();
        assert_eq!(output.status.code(), Some(2), "{command:?}: {}", output.log);
        let keys: Vec<String> = line.query(redis::cmd("KEYS").arg("*"));
        assert_eq!(keys, [key], "{command:?}");
        assert!(output.log.contains(key), "{command:?}: {}", output.log);
    }
}

#[test]
fn a_relay_that_counts_anew_is_read_by_time_and_nothing_is_missing() {
    // Silent about cursors in the future, as most relays are.
    let line = Line::like(Conduct::indigo());
    line.append(1, 2000);
    let consumer = line.consumer().spawn();
    line.wait_until_read();
    let before = line.entries();
    line.relay.reset(1);
    line.append(2, 300);
    wait_until("it is subscribed again", || line.relay.n_subscribers() == 1);
    live_until_log(&line, &consumer, "resuming");
    wait_for_log(&consumer, "counts its events anew");
    line.wait_until_read();
    let after = line.entries();
    assert_equal(&after[..before.len()], &before);
    assert_equal(&after[before.len()..], &line.relay.entries_after(0));
}

#[test]
fn a_relay_that_replays_old_events_after_a_crash_does_not_double_them() {
    let line = Line::like(Conduct::rainbow());
    line.append(1, 500);
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    for _ in 0..3 {
        line.relay.cut();
        line.append(2, 10);
        line.wait_until_read();
    }
    line.assert_exact();
}

#[test]
fn events_that_the_relay_no_longer_keeps_are_reported_as_lost() {
    let line = Line::new();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock set after 1970");
    let two_hours_ago = u64::try_from(now.as_millis()).expect("a time") - 2 * 3_600_000;
    let event = || Frame::identity(&did("alice"), Some("alice.test")).message();
    for n in 0..10 {
        line.relay.append_at(event(), two_hours_ago + n);
    }
    let mut consumer = line.consumer().spawn();
    line.wait_until_read();
    consumer.kill();
    line.relay.skip_seqs(5000);
    line.append(1, 20);
    line.relay.keep(20);
    let consumer = line.consumer().spawn();
    line.wait_until_read();
    wait_for_log(&consumer, "lost the events of");
    assert_equal(&line.entries()[10..], &line.relay.entries_after(10));
}

#[test]
fn a_change_of_the_relay_continues_by_time() {
    let line = Line::new();
    line.append(1, 200);
    let mut consumer = line.consumer().spawn();
    line.wait_until_read();
    consumer.kill();
    let before = line.entries();
    let other = Line::with(Relay::with(700_000, Conduct::indigo(), None), RedisServer::start());
    other.append(2, 150);
    let consumer = line.consumer().env("RELAY_URL", &other.relay.url()).spawn();
    wait_for_log(&consumer, "the position is another relay's");
    live_until_log(&other, &consumer, "resuming");
    let newest = other.relay.last_seq().map(|seq| seq.to_string());
    wait_until("the cursor is the other relay's", || line.cursor() == newest);
    assert_equal(&line.entries()[before.len()..], &other.relay.entries_after(0));
}

#[test]
fn a_failing_relay_does_not_make_the_process_end() {
    let line = Line::new();
    line.append(1, 50);
    let mut consumer = line.consumer().spawn();
    line.wait_until_read();
    line.relay.stop();
    wait_for_log(&consumer, "waiting for the relay");
    line.append(2, 50);
    line.relay.listen_again();
    line.wait_until_read();
    line.assert_exact();
    wait_for_log(&consumer, "the relay is back after");
    consumer.signal(libc::SIGTERM);
    assert!(consumer.wait_exit(Duration::from_secs(20)).success());
}

#[test]
fn a_relay_that_counts_anew_is_read_as_the_setting_says() {
    for (setting, text) in [
        ("oldest", "beginning with the oldest event of the relay"),
        ("now", "beginning with the present"),
        ("stop", "FIREHOSE_ON_FUTURE_CURSOR=stop"),
    ] {
        // As bsky.network counts.
        let line = Line::with(
            Relay::with(20_000_000_000, Conduct::indigo(), None),
            RedisServer::start(),
        );
        line.append(1, 100);
        let mut consumer = line.consumer().env("FIREHOSE_ON_FUTURE_CURSOR", setting).spawn();
        line.wait_until_read();
        line.relay.reset(1);
        line.append(2, 50);
        live_until_log(&line, &consumer, text);
        if setting == "stop" {
            let status = consumer.wait_exit(Duration::from_secs(20));
            assert_eq!(status.code(), Some(1), "{}", consumer.log());
            assert_eq!(
                line.cursor().as_deref(),
                Some("20000000099"),
                "the cursor is left alone"
            );
            continue;
        }
        wait_for_log(&consumer, if setting == "now" { "from seq now" } else { "from seq 0" });
        line.append(4, 5);
        line.wait_until_read();
        let after = line.entries().split_off(100);
        let before = match setting {
            "now" => after[0].seq.parse::<u64>().expect("a seq") - 1,
            _ => 0,
        };
        assert_equal(&after, &line.relay.entries_after(before));
        assert_eq!(before >= 50, setting == "now", "the first seq after {before}");
    }
}

#[test]
fn seqs_that_a_relay_gives_out_again_after_a_crash_are_read_again() {
    let line = Line::like(Conduct::indigo());
    line.append(1, 2000);
    let consumer = line.consumer().spawn();
    line.wait_until_read();
    let before = line.entries();
    line.relay.lose_newest(1000);
    line.append(2, 300);
    wait_until("it is subscribed again", || line.relay.n_subscribers() == 1);
    live_until_log(&line, &consumer, "resuming");
    wait_for_log(&consumer, "counts its events anew");
    line.wait_until_read();
    // What was before the crash is read twice.
    assert_equal(&line.entries()[before.len()..], &line.relay.entries_after(0));
}

#[test]
fn another_relay_behind_the_same_name_costs_no_event_of_it() {
    for first_seq in [1, 9_000_000] {
        let line = Line::with(Relay::with(50_000, Conduct::indigo(), None), RedisServer::start());
        let name = Proxy::to(line.relay.port());
        let url = format!("ws://127.0.0.1:{}", name.port());
        line.append(1, 300);
        let consumer = line.consumer().env("RELAY_URL", &url).spawn();
        line.wait_until_read();
        let before = line.entries();
        let line = Line {
            relay: Relay::with(first_seq, Conduct::indigo(), None),
            ..line
        };
        line.append(2, 300);
        name.retarget(line.relay.port());
        name.reset();
        wait_until("it is subscribed to the other", || line.relay.n_subscribers() == 1);
        let text = if first_seq == 1 { "resuming" } else { "reconnecting" };
        live_until_log(&line, &consumer, text);
        line.append(4, 10);
        line.wait_until_read();
        let entries = line.entries();
        assert_equal(&entries[..before.len()], &before);
        assert_equal(&entries[before.len()..], &line.relay.entries_after(0));
    }
}

#[test]
fn an_event_of_the_far_future_does_not_hide_the_ones_after_it() {
    const YEAR_2099: u64 = 4_070_908_800_000;
    let line = Line::like(Conduct::rainbow());
    line.append(1, 20);
    let mut frame = Frame::of(&Events::new(2, 1).next().expect("an event"));
    // The revision that a clock of 2099 makes.
    frame.body.insert("rev".to_owned(), "4zzzzzzzzzz2b".to_owned().into());
    line.relay.append_at(frame.message(), YEAR_2099);
    line.append(3, 20);
    let mut consumer = line.consumer().spawn();
    line.wait_until_read();
    consumer.kill();
    line.append(4, 20);
    let consumer = line.consumer().spawn();
    line.wait_until_read();
    line.assert_exact();
    assert!(!consumer.log().contains("anew"), "{}", consumer.log());
}
