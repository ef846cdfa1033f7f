//! The consumer's commands.

use super::{Command, Key, REQUIRED};
use crate::consumer::position::Keys;
use crate::keys::SET_ASIDE;
use crate::settings::consumer::ConsumerConfig;

/// The beginning of the names of its own keys.
const OWN: &str = "firehose:consumer:";

const LEASE: &str = "a lease on the cursor, without which the second of two consumers stops with an error";
const PRESSURE: &str = "a pause before unread entries are trimmed";
const APPEND_ONLY: &str = "a sound append-only file after a crash of Redis";
const DASHBOARD: &str = "the AppView's dashboard, and signs of other producers";

/// The commands of a consumer with these settings, each with the feature that it lacks without it.
pub fn commands(config: &ConsumerConfig) -> Vec<Command> {
    let keys = Keys::new(config);
    let own = |name: &str| Key {
        rule: format!("~{OWN}*"),
        ..Key::of(name)
    };
    let stream = || Key::of(&keys.stream);
    let cursor = || Key::of(&keys.cursor);
    let commands = [
        (REQUIRED, Some(stream()), "TYPE {key}"),
        (REQUIRED, Some(stream()), "XREVRANGE {key} x -"),
        (REQUIRED, Some(stream()), "XADD {key} x type x"),
        (REQUIRED, Some(cursor()), "GET {key}"),
        (REQUIRED, Some(cursor()), "SET {key} x PX x"),
        (REQUIRED, Some(own(&keys.state)), "HGETALL {key}"),
        (REQUIRED, Some(own(&keys.state)), "HSET {key} x x x"),
        (REQUIRED, Some(own(SET_ASIDE)), "XADD {key} x reason x"),
        (REQUIRED, Some(cursor()), "WATCH {key}"),
        (REQUIRED, None, "MULTI"),
        (REQUIRED, None, "EXEC"),
        (LEASE, Some(Key::own(OWN)), "GET {key}"),
        (LEASE, Some(Key::own(OWN)), "SET {key} x PX x"),
        (LEASE, Some(Key::own(OWN)), "PEXPIRE {key} x"),
        (LEASE, Some(Key::own(OWN)), "DEL {key}"),
        (LEASE, None, "UNWATCH"),
        (PRESSURE, Some(stream()), "XINFO STREAM {key}"),
        (PRESSURE, Some(stream()), "XINFO GROUPS {key}"),
        (APPEND_ONLY, None, "INFO"),
        (DASHBOARD, Some(Key::of("firehose:status")), "GET {key}"),
        (DASHBOARD, Some(Key::of("firehose:status")), "SETEX {key} x x"),
        (DASHBOARD, Some(Key::of("firehose:recent_events")), "SETEX {key} x x"),
        (DASHBOARD, Some(channel()), "PUBLISH {key} x"),
    ];
    let command = |(feature, key, line)| Command::new(feature, key, line, &[]);
    commands.into_iter().map(command).collect()
}

/// The dashboard's channel, which is no key, but is allowed in a similar way.
fn channel() -> Key {
    let name = "firehose:events:broadcast";
    Key {
        name: name.to_owned(),
        rule: format!("&{name}"),
    }
}
