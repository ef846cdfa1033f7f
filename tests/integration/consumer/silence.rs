//! Relays from which nothing arrives: dead ones are left, idle ones are not.
//!
//! The unit tests of `session`, `socket` and `choice` hold the time limits; the slow tests here run into them.

use std::time::{Duration, Instant};

use crate::generator::Events;
use crate::relay::frames::Frame;
use crate::relay::{Conduct, Relay};
use crate::support::consumer::{CURSOR, Line, STATUS, wait_for_log};
use crate::support::proxy::{Network, Proxy};
use crate::support::{Worker, wait_until, wait_until_within};

const MINUTE: Duration = Duration::from_secs(60);

/// Waits for a line of the log for longer than usual.
#[track_caller]
fn wait_long_for_log(consumer: &Worker, limit: Duration, text: &str) -> Duration {
    wait_until_within(&format!("the log says {text:?}"), limit, || {
        consumer.log().contains(text)
    })
}

#[test]
fn an_idle_consumer_answers_a_ping_within_a_second() {
    let line = Line::new();
    line.append(1, 10);
    let _consumer = line.consumer().spawn();
    line.wait_until_read();
    let n_pongs = line.relay.seen().n_pongs;
    line.relay
        .conduct(|conduct| conduct.ping_every = Some(Duration::from_secs(3600)));
    line.relay
        .conduct(|conduct| conduct.ping_every = Some(Duration::from_millis(100)));
    wait_until_within("a ping is answered", Duration::from_secs(1), || {
        line.relay.seen().n_pongs > n_pongs
    });
}

#[test]
#[ignore = "slow; tests/run.sh --all runs it"]
fn a_connection_that_swallows_everything_is_replaced_within_a_minute() {
    let swallowed = Line::new();
    let network = Proxy::to(swallowed.relay.port());
    let url = format!("ws://127.0.0.1:{}", network.port());
    let without_pong = Line::new();
    let consumers = [
        swallowed.consumer().env("RELAY_URL", &url).spawn(),
        without_pong.consumer().spawn(),
    ];
    for line in [&swallowed, &without_pong] {
        line.append(1, 100);
        line.wait_until_read();
    }
    network.set(Network::Stall);
    without_pong.relay.conduct(|conduct| {
        conduct.answers_pings = false;
        conduct.withholds_events = true;
    });
    for line in [&swallowed, &without_pong] {
        line.append(2, 50);
    }
    for consumer in &consumers {
        wait_long_for_log(consumer, MINUTE, "not even the answer to a ping; reconnecting");
        assert_eq!(consumer.log().matches("reconnecting").count(), 1, "{}", consumer.log());
    }
    network.set(Network::Forward);
    without_pong.relay.conduct(|conduct| conduct.withholds_events = false);
    for line in [&swallowed, &without_pong] {
        line.wait_until_read();
        line.assert_exact();
    }
}

#[test]
#[ignore = "slow; tests/run.sh --all runs it"]
fn ten_idle_minutes_cost_no_connection_and_the_status_is_always_there() {
    let line = Line::new();
    line.append(1, 20);
    let consumer = line.consumer().spawn();
    line.wait_until_read();
    wait_until("the status says connected", || {
        line.status().is_some_and(|status| status["connected"] == true)
    });
    let start = Instant::now();
    wait_until_within("ten minutes are over", 11 * MINUTE, || {
        let status = line.status();
        let is_connected = status.as_ref().is_some_and(|status| status["connected"] == true);
        assert!(is_connected, "{STATUS} is {status:?}: {}", consumer.log());
        start.elapsed() >= 10 * MINUTE
    });
    assert_eq!(line.relay.seen().requests.len(), 1, "{}", consumer.log());
    assert!(line.relay.seen().n_pings >= 15, "pings: {}", line.relay.seen().n_pings);
    line.append(2, 20);
    line.wait_until_read();
    line.assert_exact();
}

#[test]
#[ignore = "slow; tests/run.sh --all runs it"]
fn a_busy_relay_that_sends_no_event_and_answers_pings_is_left() {
    let line = Line::new();
    // More than ten a second over an hour.
    line.append(1, 40_000);
    let consumer = line.consumer().spawn();
    line.wait_until_read();
    line.relay.conduct(|conduct| conduct.withholds_events = true);
    line.append(2, 100);
    wait_long_for_log(&consumer, 7 * MINUTE, "it has sent no event for 60 s; reconnecting");
    line.relay.conduct(|conduct| conduct.withholds_events = false);
    line.wait_until_read();
    line.assert_exact();
}

#[test]
#[ignore = "slow; tests/run.sh --all runs it"]
fn a_cursor_that_stays_in_the_future_is_given_up_after_five_minutes() {
    let line = Line::new();
    line.append(1, 10);
    line.query::<()>(redis::cmd("SET").arg(CURSOR).arg(999_999));
    let consumer = line.consumer().spawn();
    wait_for_log(&consumer, "does not know seq 999999 yet");
    let time = wait_long_for_log(&consumer, 7 * MINUTE, "resuming");
    assert!(time > 4 * MINUTE, "{time:?}: {}", consumer.log());
    line.append(2, 1);
    line.wait_until_read();
    line.assert_exact();
}

#[test]
#[ignore = "slow; tests/run.sh --all runs it"]
fn the_second_relay_is_read_while_the_first_fails_and_the_first_again_once_it_is_well() {
    let line = Line::new();
    let second = Relay::with(70_000, Conduct::indigo(), None);
    let append = |seed| second.append_all(Events::new(seed, 20).map(|event| Frame::of(&event).message()));
    line.append(1, 100);
    append(2);
    let relays = format!("{},{}", line.relay.url(), second.url());
    let consumer = line.consumer().env("RELAY_URL", &relays).spawn();
    line.wait_until_read();
    line.relay.stop();
    wait_long_for_log(&consumer, 8 * MINUTE, "has failed for 300 s");
    line.relay.listen_again();
    wait_until("the second is read", || {
        append(3);
        line.cursor().is_some_and(|cursor| cursor.starts_with('7'))
    });
    wait_long_for_log(&consumer, 12 * MINUTE, "is well again");
    line.append(4, 30);
    line.wait_until_read();
    let seqs: Vec<String> = line.entries().into_iter().map(|entry| entry.seq).collect();
    for event in line.relay.entries_after(0).iter().chain(&second.entries_after(0)) {
        assert!(seqs.contains(&event.seq), "seq {} is missing", event.seq);
    }
}
