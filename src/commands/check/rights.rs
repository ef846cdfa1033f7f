//! What the Redis user may do of what the worker does, and which of these commands the server knows.
//!
//! Owns the list of commands. Each is sent in a form that Redis refuses after it has checked the user's rights and
//! before it does anything: `x` is neither a number nor an entry ID, and the keys and groups with random names do not
//! exist. So nothing is changed, no right to ask about rights is needed, and every version of Redis answers.

use std::collections::BTreeSet;

use redis::{Cmd, RedisError, Value};

use super::report::{Level, Report};
use crate::dead_letter::DEAD_LETTERS;
use crate::redis::link::{self, Link};
use crate::settings::config::Config;

/// The key of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    None,
    Stream,
    DeadLetters,
    /// A key of the worker's own that does not exist.
    Own,
    Metrics,
    RecordCounts,
}

/// In place of a feature: the worker does not run without these commands.
const REQUIRED: &str = "";
const GROUP: &str =
    "a group that is created again when it disappears, and consumers that are removed with their process";
const DEAD_LETTER: &str = "dead letters, without which failed entries wait";
const CLAIM: &str = "entries that dead consumers left pending";
const CLOCK: &str = "a check of this machine's clock";
const COUNTERS: &str = "the dashboard's counters";
const STATE: &str = "a standby, exact counters, the status";
const LOSSES: &str = "losses, and a warning before them";
const LONG: &str = "long transactions during which no other worker takes the entries";

const CREATE_GROUP: &str = "XGROUP CREATE {key} {group} x";

/// The worker's commands, each with its key and the feature that the worker lacks without it.
const COMMANDS: [(&str, Key, &str); 26] = [
    (
        REQUIRED,
        Key::Stream,
        "XREADGROUP GROUP {group} {consumer} STREAMS {key} x",
    ),
    (REQUIRED, Key::Stream, "XACK {key} {group} x"),
    (GROUP, Key::Stream, CREATE_GROUP),
    (GROUP, Key::Stream, "XGROUP DELCONSUMER {key} {random} x"),
    (DEAD_LETTER, Key::DeadLetters, "XADD {key} x type x"),
    (CLAIM, Key::Stream, "XAUTOCLAIM {key} {group} {consumer} x 0"),
    (CLAIM, Key::Stream, "XCLAIM {key} {group} {consumer} x 0-1"),
    (CLOCK, Key::None, "TIME"),
    (COUNTERS, Key::Metrics, "HINCRBY {key} errors x"),
    (COUNTERS, Key::RecordCounts, "HINCRBY {key} errors x"),
    (COUNTERS, Key::RecordCounts, "EXISTS {key}"),
    (STATE, Key::Own, "GET {key}"),
    (STATE, Key::Own, "SET {key} x PX x"),
    (STATE, Key::Own, "DEL {key}"),
    (STATE, Key::Own, "PEXPIRE {key} x"),
    (STATE, Key::Own, "HGET {key} x"),
    (STATE, Key::Own, "HSET {key} x x x"),
    (STATE, Key::Own, "WATCH {key}"),
    (STATE, Key::None, "UNWATCH"),
    (STATE, Key::None, "MULTI"),
    (STATE, Key::None, "EXEC"),
    (LOSSES, Key::Stream, "XINFO STREAM {key}"),
    (LOSSES, Key::Stream, "XINFO GROUPS {key}"),
    (LOSSES, Key::Stream, "XINFO CONSUMERS {key} {group}"),
    (LOSSES, Key::DeadLetters, "XLEN {key}"),
    (LONG, Key::Stream, "XPENDING {key} {group} x + 1"),
];

impl Key {
    fn names(self, config: &Config) -> Vec<String> {
        match self {
            Key::None => vec![String::new()],
            Key::Stream => vec![config.stream.clone()],
            Key::DeadLetters => vec![DEAD_LETTERS.to_owned()],
            Key::Own => vec![format!("firehose:worker:check:{}", random())],
            Key::Metrics => config.metrics_keys.clone(),
            Key::RecordCounts => vec!["db:record_counts".to_owned()],
        }
    }
}

/// A name that nothing has.
fn random() -> String {
    format!("{:x}", fastrand::u64(..))
}

/// The command of a line of the list.
fn command(line: &str, key: &str, config: &Config) -> Cmd {
    let random = random();
    let mut words = line.split(' ').map(|word| match word {
        "{key}" => key,
        "{group}" => &config.group,
        "{consumer}" => &config.consumer,
        "{random}" => &random,
        _ => word,
    });
    let mut command = redis::cmd(words.next().unwrap_or_default());
    words.for_each(|word| _ = command.arg(word));
    command
}

fn name(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// A word that allows a key in ACL SETUSER. It may contain no blank, and redis-cli knows no quotes: `?` stands for such
/// a character, and for those that have a meaning in a pattern.
fn key_rule(key: &str) -> String {
    let is_special = |c: char| c.is_whitespace() || "*?[]\\^'\"".contains(c);
    format!("~{}", key.replace(is_special, "?"))
}

/// Whether a refusal is about the key. Redis checks the command first, and does not mention the key if it refuses that.
fn is_of_key(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains(" to access "))
}

/// The user whom the remedies give rights.
pub struct User {
    name: String,
    /// Then ACL SETUSER accepts no pattern of keys in addition.
    may_use_any_key: bool,
}

impl User {
    pub fn of(link: &mut Link, config: &Config) -> User {
        let name = link.query(redis::cmd("ACL").arg("WHOAMI"));
        User {
            name: name.unwrap_or_else(|_| config.redis.user().to_owned()),
            may_use_any_key: may_use_any_key(link, config),
        }
    }

    /// What to do about a command that was refused.
    pub fn remedy(&self, error: &RedisError, key: Option<&str>, rules: &[&str]) -> String {
        if !link::is_refused(error) {
            return "follow Redis's message".to_owned();
        }
        if link::is_unknown(error) {
            // Redis quotes the name.
            let detail = error.detail().unwrap_or_default();
            let name = detail.split(['\'', '`']).nth(1).unwrap_or("the command");
            return restore([name.to_ascii_uppercase().as_str()]);
        }
        let key = key.filter(|_| !self.may_use_any_key).map(key_rule);
        grant(&self.name, key.as_deref().into_iter().chain(rules.iter().copied()))
    }

    /// The rules that would allow a command that was refused.
    fn rules(&self, error: &RedisError, kind: Key, key: &str, line: &str) -> Vec<String> {
        let mut rules = Vec::new();
        if !self.may_use_any_key {
            match kind {
                Key::None => {}
                Key::Own => rules.push("~firehose:worker:*".to_owned()),
                _ => rules.push(key_rule(key)),
            }
        }
        if !is_of_key(error) {
            rules.push(format!("+{}", name(line).to_ascii_lowercase()));
        }
        rules
    }
}

/// Whether the user may use any key. A command that it may send shows that, on a key that does not exist.
fn may_use_any_key(link: &mut Link, config: &Config) -> bool {
    for (_, _, line) in COMMANDS.iter().filter(|(_, key, _)| *key != Key::None) {
        match link.query::<Value>(&command(line, &random(), config)) {
            Err(error) if link::is_refused(&error) && is_of_key(&error) => return false,
            Err(error) if link::is_refused(&error) => {}
            _ => return true,
        }
    }
    false
}

/// The command that gives a user rights.
pub fn grant<'a>(user: &str, rules: impl IntoIterator<Item = &'a str>) -> String {
    let rules: Vec<&str> = rules.into_iter().collect();
    format!("ACL SETUSER {user} {}", rules.join(" "))
}

/// What to do about commands that a server does not know.
pub fn restore<'a>(commands: impl IntoIterator<Item = &'a str>) -> String {
    let renames: Vec<String> = commands
        .into_iter()
        .map(|name| format!("rename-command {name}"))
        .collect();
    format!(
        "take {} out of redis.conf and restart Redis; if a proxy does not know them, let REDIS_URL name the Redis behind it",
        renames.join(", ")
    )
}

/// A feature for which the user lacks a right, or the server a command.
struct Lack {
    feature: &'static str,
    /// The rule of the user, or the name of the command.
    missing: String,
    is_unknown: bool,
}

/// Sends each command.
pub fn check(link: &mut Link, user: &User, config: &Config, report: &Report) {
    report.about("redis rights");
    let lacks = lacks(link, user, config);
    let (required, optional): (Vec<&Lack>, Vec<&Lack>) = lacks.iter().partition(|lack| lack.feature == REQUIRED);
    let is_required = |lack: &&Lack| required.iter().any(|other| other.missing == lack.missing);
    let optional: Vec<&Lack> = optional.into_iter().filter(|lack| !is_required(lack)).collect();
    let name = &user.name;
    for (level, lacks) in [(Level::Fail, required), (Level::Warn, optional)] {
        let needed = |what: &str, features: String| match level {
            Level::Fail => format!("{what} that the worker requires"),
            _ => format!("the {what} for {features}"),
        };
        if let Some((features, rules)) = summary(&lacks, false) {
            let rights = needed("rights", features);
            report.add(level, format!("the user {name} lacks {rights}"), grant(name, rules));
        }
        if let Some((features, names)) = summary(&lacks, true) {
            let commands = needed("commands", features);
            report.add(level, format!("redis does not know {commands}"), restore(names));
        }
    }
    if lacks.is_empty() {
        report.ok(format!("the user {name} may do everything that the worker does"));
    }
}

fn lacks(link: &mut Link, user: &User, config: &Config) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let mut has_group = true;
    for (feature, kind, line) in COMMANDS {
        for key in &kind.names(config) {
            let Err(error) = link.query::<Value>(&command(line, key, config)) else {
                continue;
            };
            // Redis looks for the group before it reads the ID. Without one, the worker creates it.
            has_group &= link::code(&error) != "NOGROUP" || name(line) != "XREADGROUP";
            let is_required = line == CREATE_GROUP && !has_group;
            let feature = if is_required { REQUIRED } else { feature };
            let is_unknown = link::is_unknown(&error);
            let missing = if is_unknown {
                vec![name(line).to_owned()]
            } else if link::is_refused(&error) {
                user.rules(&error, kind, key, line)
            } else {
                continue;
            };
            lacks.extend(missing.into_iter().map(|missing| Lack {
                feature,
                missing,
                is_unknown,
            }));
        }
    }
    lacks
}

/// The features of the lacks of one kind, and what is missing for all of them: rules of keys first.
fn summary<'a>(lacks: &[&'a Lack], is_unknown: bool) -> Option<(String, Vec<&'a str>)> {
    let lacks = || lacks.iter().filter(|lack| lack.is_unknown == is_unknown);
    let missing: BTreeSet<&str> = lacks().map(|lack| lack.missing.as_str()).collect();
    let (keys, commands): (Vec<&str>, Vec<&str>) = missing.into_iter().partition(|rule| rule.starts_with('~'));
    let mut features: Vec<&str> = lacks().map(|lack| lack.feature).collect();
    features.sort_unstable();
    features.dedup();
    let missing = [keys, commands].concat();
    (!missing.is_empty()).then(|| (features.join("; "), missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_a_key_is_one_word_and_matches_its_key() {
        for (key, expected) in [
            ("firehose:events", "~firehose:events"),
            ("my stream [1]*", "~my?stream??1??"),
        ] {
            assert_eq!(key_rule(key), expected);
        }
    }
}
