//! The worker's commands.

use super::{Command, Key, REQUIRED, random};
use crate::dead_letter::DEAD_LETTERS;
use crate::settings::config::Config;

/// The keys of a command.
#[derive(Clone, Copy)]
enum Keys {
    None,
    Stream,
    DeadLetters,
    /// A key of the worker's own that does not exist.
    Own,
    Metrics,
    RecordCounts,
}

const GROUP: &str =
    "a group that is created again when it disappears, and consumers that are removed with their process";
const DEAD_LETTER: &str = "dead letters, without which failed entries wait";
const CLAIM: &str = "entries that dead consumers left pending";
const CLOCK: &str = "a check of this machine's clock";
const COUNTERS: &str = "the dashboard's counters";
const STATE: &str = "a standby, exact counters, the status, the growth of the database";
const LOSSES: &str = "losses, and a warning before them";
const RESTARTS: &str = "exact losses beside other workers and after a worker was killed";
const LONG: &str = "long transactions during which no other worker takes the entries";

/// Each with its keys and the feature that the worker lacks without it.
const COMMANDS: [(&str, Keys, &str); 27] = [
    (
        REQUIRED,
        Keys::Stream,
        "XREADGROUP GROUP {group} {consumer} STREAMS {key} x",
    ),
    (REQUIRED, Keys::Stream, "XACK {key} {group} x"),
    (GROUP, Keys::Stream, "XGROUP CREATE {key} {group} x"),
    (GROUP, Keys::Stream, "XGROUP DELCONSUMER {key} {random} x"),
    (DEAD_LETTER, Keys::DeadLetters, "XADD {key} x type x"),
    (CLAIM, Keys::Stream, "XAUTOCLAIM {key} {group} {consumer} x 0"),
    (CLAIM, Keys::Stream, "XCLAIM {key} {group} {consumer} x 0-1"),
    (CLOCK, Keys::None, "TIME"),
    (COUNTERS, Keys::Metrics, "HINCRBY {key} errors x"),
    (COUNTERS, Keys::RecordCounts, "HINCRBY {key} errors x"),
    (COUNTERS, Keys::RecordCounts, "EXISTS {key}"),
    (STATE, Keys::Own, "GET {key}"),
    (STATE, Keys::Own, "SET {key} x PX x"),
    (STATE, Keys::Own, "DEL {key}"),
    (STATE, Keys::Own, "PEXPIRE {key} x"),
    (STATE, Keys::Own, "HGET {key} x"),
    (STATE, Keys::Own, "HSET {key} x x x"),
    (STATE, Keys::Own, "WATCH {key}"),
    (STATE, Keys::None, "UNWATCH"),
    (STATE, Keys::None, "MULTI"),
    (STATE, Keys::None, "EXEC"),
    (LOSSES, Keys::Stream, "XINFO STREAM {key}"),
    (LOSSES, Keys::Stream, "XINFO GROUPS {key}"),
    (LOSSES, Keys::Stream, "XINFO CONSUMERS {key} {group}"),
    (LOSSES, Keys::DeadLetters, "XLEN {key}"),
    (RESTARTS, Keys::None, "INFO"),
    (LONG, Keys::Stream, "XPENDING {key} {group} x + 1"),
];

/// The commands of a worker with these settings.
pub fn commands(config: &Config) -> Vec<Command> {
    let random = random();
    let parts = [
        ("{group}", &config.group[..]),
        ("{consumer}", &config.consumer),
        ("{random}", &random),
    ];
    let of = |(feature, keys, line): (&'static str, Keys, &'static str)| {
        let command = move |key| Command::new(feature, key, line, &parts);
        match keys {
            Keys::None => vec![command(None)],
            _ => keys.of(config).into_iter().map(Some).map(command).collect(),
        }
    };
    COMMANDS.into_iter().flat_map(of).collect()
}

impl Keys {
    fn of(self, config: &Config) -> Vec<Key> {
        match self {
            Keys::None => Vec::new(),
            Keys::Stream => vec![Key::of(&config.stream)],
            Keys::DeadLetters => vec![Key::of(DEAD_LETTERS)],
            Keys::Own => vec![Key::own("firehose:worker:")],
            Keys::Metrics => config.metrics_keys.iter().map(|key| Key::of(key)).collect(),
            Keys::RecordCounts => vec![Key::of("db:record_counts")],
        }
    }
}
