//! Unread entries are not trimmed.

use crate::support::consumer::{Line, wait_for_log};
use crate::support::stack::{EVENTS, GROUP};
use crate::support::wait::wait_until;

#[test]
fn the_consumer_pauses_before_unread_entries_are_trimmed_and_resumes() {
    let line = Line::new();
    let mut redis = line.redis.connection();
    let create = ["CREATE", EVENTS, GROUP, "0", "MKSTREAM"];
    redis::cmd("XGROUP").arg(&create).exec(&mut redis).expect("XGROUP");
    line.append(1, 10_000);
    let wanted = line.relay.entries_after(0);
    let consumer = line.consumer().env("REDIS_MAX_STREAM_LEN", "2000").spawn();
    wait_for_log(&consumer, "paused: the group firehose-processors has");
    let mut seqs = Vec::new();
    // A slow worker: reads and acknowledges a few at a time, until everything was read.
    wait_until("the group has read all entries", || {
        assert!(line.length() < 2000 + 300, "the stream has {} entries", line.length());
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg("slow").arg("COUNT").arg(500);
        type Reply = Option<Vec<(String, Vec<(String, Vec<(String, String)>)>)>>;
        let reply: Reply = read
            .arg("STREAMS")
            .arg(EVENTS)
            .arg(">")
            .query(&mut redis)
            .expect("XREADGROUP");
        for (_, entries) in reply.unwrap_or_default() {
            for (id, fields) in entries {
                seqs.push(fields[2].1.clone());
                redis::cmd("XACK")
                    .arg(EVENTS)
                    .arg(GROUP)
                    .arg(id)
                    .exec(&mut redis)
                    .expect("XACK");
            }
        }
        seqs.len() >= wanted.len()
    });
    let wanted: Vec<String> = wanted.into_iter().map(|event| event.seq).collect();
    assert!(seqs == wanted, "the group did not read every entry once and in order");
    wait_for_log(&consumer, "resuming after a pause of");
    let closes = line.relay.seen().closes;
    assert!(closes.contains(&(1000, "paused".to_owned())), "{closes:?}");
}

#[test]
fn without_a_group_the_consumer_does_not_pause() {
    let line = Line::new();
    line.append(1, 5000);
    let consumer = line.consumer().env("REDIS_MAX_STREAM_LEN", "1000").spawn();
    line.wait_until_read();
    assert!(!consumer.log().contains("paused"), "{}", consumer.log());
    assert!(line.length() < 1300, "{}", line.length());
}
