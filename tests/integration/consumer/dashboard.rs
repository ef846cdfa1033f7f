//! What the AppView's dashboard and `/ready` read.

use serde_json::Value;

use crate::support::consumer::{Line, STATUS, wait_for_log};
use crate::support::wait::wait_until;

#[test]
fn the_status_is_true_while_the_relay_is_connected_and_false_soon_after_it_is_not() {
    let line = Line::new();
    line.append(1, 20);
    let mut consumer = line.consumer().spawn();
    line.wait_until_read();
    wait_until("the status says connected", || {
        line.status().is_some_and(|status| status["connected"] == true)
    });
    line.append(2, 1);
    line.wait_until_read();
    wait_until("the status has the cursor", || {
        line.status().is_some_and(|status| status["currentCursor"] == "21")
    });
    let status = line.status().expect("a status");
    assert!(
        status["url"].as_str().is_some_and(|url| url.starts_with("ws://")),
        "{status}"
    );
    assert!(
        status["producer"]
            .as_str()
            .is_some_and(|producer| producer.starts_with("firehose-worker ")),
        "{status}"
    );
    line.relay.stop();
    wait_until("the status says not connected", || {
        line.status().is_some_and(|status| status["connected"] == false)
    });
    consumer.kill();
    wait_until("the status is gone", || line.status().is_none());
}

#[test]
fn recent_events_and_the_broadcast_have_the_dashboards_form() {
    let line = Line::new();
    line.append(1, 50);
    let _consumer = line.consumer().spawn();
    let recent = || -> Option<Vec<Value>> {
        let text: Option<String> = line.query(redis::cmd("GET").arg("firehose:recent_events"));
        text.map(|text| serde_json::from_str(&text).expect("a list"))
    };
    wait_until("recent events are written", || {
        recent().is_some_and(|events| !events.is_empty())
    });
    for event in recent().expect("events") {
        for member in ["type", "lexicon", "did", "action", "timestamp"] {
            assert!(event[member].is_string(), "{member} of {event}");
        }
        let timestamp = event["timestamp"].as_str().expect("text");
        assert_eq!(timestamp.len(), "HH:MM:SS".len(), "{timestamp}");
    }
}

#[test]
fn a_user_without_the_rights_for_the_dashboard_still_appends_everything() {
    let line = Line::new();
    let rules = [
        "SETUSER",
        "lean",
        "on",
        ">secret",
        "~firehose:events",
        "~firehose:python_cursor",
        "~firehose:consumer:*",
        "+@all",
        "-publish",
        "-setex",
        "-xinfo",
    ];
    redis::cmd("ACL")
        .arg(&rules)
        .exec(&mut line.redis.connection())
        .expect("ACL");
    line.append(1, 300);
    let url = format!("redis://lean:secret@127.0.0.1:{}", line.redis.port());
    let consumer = line.consumer().env("REDIS_URL", &url).spawn();
    line.wait_until_read();
    line.assert_exact();
    wait_for_log(&consumer, "the AppView's dashboard shows less of the firehose");
    assert!(!consumer.log().contains("secret"));
    assert_eq!(
        consumer.log().matches("shows less of the firehose").count(),
        1,
        "{}",
        consumer.log()
    );
    assert!(line.query::<Option<String>>(redis::cmd("GET").arg(STATUS)).is_none());
}
