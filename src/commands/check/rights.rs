//! What the Redis user may do of what the worker does.
//!
//! Owns the list of commands, each in a form that Redis refuses after it has looked at the user's rights and before it does
//! anything: a number that is none, an ID that is none, a key that nobody has. So nothing is changed, no right to ask for
//! rights is needed, and every version of Redis tells.

use redis::{Cmd, Value};

use super::Report;
use super::redis::is_refused;
use crate::ack::dead_letter::DEAD_LETTERS;
use crate::servers::link::{self, Link};
use crate::settings::config::Config;

/// What is no number and no ID.
const NOTHING: &str = "x";

/// A command in a harmless form.
struct Try {
    /// As an ACL rule allows it.
    rule: String,
    /// Of what kind the key is, so that the rule for it can be named.
    key: Option<String>,
    command: Cmd,
}

fn attempt(key: Option<&str>, words: &[&str]) -> Try {
    let (name, rest) = words.split_first().expect("a command has a name");
    let mut command = redis::cmd(name);
    command.arg(rest);
    Try {
        rule: format!("+{}", name.to_ascii_lowercase()),
        key: key.map(str::to_owned),
        command,
    }
}

/// Without these there is no worker. The group has to be made by somebody while there is none.
fn needed(link: &mut Link, config: &Config) -> Vec<Try> {
    let (stream, group) = (config.stream.as_str(), config.group.as_str());
    let mut tries = vec![read(config), attempt(Some(stream), &["XACK", stream, group, NOTHING])];
    // Redis looks for the group before it looks at the ID.
    let answer = link.query::<Value>(&read(config).command);
    if answer.is_err_and(|error| link::code(&error) == "NOGROUP") {
        tries.push(make_group(config));
    }
    tries
}

fn read(config: &Config) -> Try {
    let (stream, group, consumer) = (config.stream.as_str(), config.group.as_str(), config.consumer.as_str());
    let words = ["XREADGROUP", "GROUP", group, consumer, "STREAMS", stream, NOTHING];
    attempt(Some(stream), &words)
}

fn make_group(config: &Config) -> Try {
    let words = ["XGROUP", "CREATE", &config.stream, &config.group, NOTHING];
    attempt(Some(&config.stream), &words)
}

/// What the worker does besides, each with what there is not where it is refused.
fn liked(config: &Config) -> Vec<(&'static str, Vec<Try>)> {
    let (stream, group, consumer) = (config.stream.as_str(), config.group.as_str(), config.consumer.as_str());
    let own = format!("firehose:worker:check:{:x}", fastrand::u64(..));
    let own = own.as_str();
    let of_stream = |words: &[&str]| attempt(Some(stream), words);
    let of_own = |words: &[&str]| attempt(Some("firehose:worker:*"), words);
    let of_letters = |words: &[&str]| attempt(Some(DEAD_LETTERS), words);
    let count = |key: &str| attempt(Some(key), &["HINCRBY", key, "errors", NOTHING]);
    let records = "db:record_counts";
    let mut counters: Vec<Try> = config.metrics_keys.iter().map(|key| count(key)).collect();
    counters.extend([count(records), attempt(Some(records), &["EXISTS", records])]);
    vec![
        (
            "dead letters, for which entries wait then",
            vec![of_letters(&["XADD", DEAD_LETTERS, NOTHING, "type", NOTHING])],
        ),
        (
            "entries that gone consumers left pending",
            vec![
                of_stream(&["XAUTOCLAIM", stream, group, consumer, NOTHING, "0"]),
                of_stream(&["XCLAIM", stream, group, consumer, NOTHING, "0-1"]),
            ],
        ),
        ("a group that is made again when it is gone", vec![make_group(config)]),
        (
            "a look at whether this machine's clock is right",
            vec![attempt(None, &["TIME"])],
        ),
        ("the dashboard's counters", counters),
        (
            "a standby, exact counters, the status",
            vec![
                of_own(&["GET", own]),
                of_own(&["SET", own, NOTHING, "PX", NOTHING]),
                of_own(&["DEL", own]),
                of_own(&["PEXPIRE", own, NOTHING]),
                of_own(&["HGET", own, NOTHING]),
                of_own(&["HSET", own, NOTHING, NOTHING, NOTHING]),
                of_own(&["WATCH", own]),
                attempt(None, &["UNWATCH"]),
                attempt(None, &["MULTI"]),
                attempt(None, &["EXEC"]),
            ],
        ),
        (
            "losses, and a warning before them",
            vec![
                of_stream(&["XINFO", "STREAM", stream]),
                of_letters(&["XLEN", DEAD_LETTERS]),
            ],
        ),
        (
            "long transactions without another worker taking the entries",
            vec![of_stream(&["XPENDING", stream, group, NOTHING, "+", "1"])],
        ),
    ]
}

/// Tries each command.
pub fn look(link: &mut Link, config: &Config, report: &Report) {
    let what = "redis rights";
    report.looking(what);
    // Asked first: a refused EXEC leaves the link inside a transaction.
    let said = link.query(redis::cmd("ACL").arg("WHOAMI"));
    let user: String = said.unwrap_or_else(|_| config.redis.user().to_owned());
    let set_user = |rules: &[String]| format!("ACL SETUSER {user} {}", rules.join(" "));
    let needed = needed(link, config);
    let lacking = rules(link, needed);
    if !lacking.is_empty() {
        let found = format!("the user {user} may not do what the worker must");
        report.fail(what, found, set_user(&lacking));
    }
    let mut missed: Vec<&str> = Vec::new();
    let mut all: Vec<String> = Vec::new();
    for (purpose, tries) in liked(config) {
        let mut rules = rules(link, tries);
        // What was said to be needed is not done without.
        rules.retain(|rule| !lacking.contains(rule));
        if !rules.is_empty() {
            missed.push(purpose);
        }
        all.extend(rules);
    }
    in_order(&mut all);
    if !missed.is_empty() {
        let found = format!("the user {user} does without: {}", missed.join("; "));
        report.warn(what, found, set_user(&all));
    } else if lacking.is_empty() {
        report.ok(what, format!("the user {user} may do all that the worker does"));
    }
}

/// The rules that would allow what is refused; those of keys first.
fn rules(link: &mut Link, tries: Vec<Try>) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    for Try { rule, key, command } in tries {
        let Some(refusal) = is_refused(link, &command) else {
            continue;
        };
        rules.extend(key.map(|key| format!("~{key}")));
        // Redis looks at the command first, and says nothing of the key where that is refused.
        if !refusal.contains("key") {
            rules.push(rule);
        }
    }
    in_order(&mut rules);
    rules
}

/// Each once, those of keys first.
fn in_order(rules: &mut Vec<String>) {
    rules.sort_by_key(|rule| (!rule.starts_with('~'), rule.clone()));
    rules.dedup();
}
