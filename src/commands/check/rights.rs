//! What the Redis user may do of what the worker does.
//!
//! Owns the list of commands, each in a form that Redis refuses after it has looked at the user's rights and before it does
//! anything: a number that is none, an ID that is none, a key that nobody has. So nothing is changed, no right to ask for
//! rights is needed, and every version of Redis tells.

use redis::Cmd;

use super::Report;
use super::redis::is_refused;
use crate::ack::DEAD_LETTERS;
use crate::config::Config;
use crate::link::Link;

/// What is no number and no ID.
const NOTHING: &str = "x";

/// A command in a harmless form.
struct Try {
    /// As an ACL rule allows it.
    rule: &'static str,
    /// Of what kind the key is, so that the rule for it can be named.
    key: Option<String>,
    command: Cmd,
}

fn attempt(rule: &'static str, key: Option<&str>, words: &[&str]) -> Try {
    let (name, rest) = words.split_first().expect("a command has a name");
    let mut command = redis::cmd(name);
    for word in rest {
        command.arg(*word);
    }
    Try {
        rule,
        key: key.map(str::to_owned),
        command,
    }
}

/// Without these there is no worker.
fn needed(config: &Config) -> Vec<Try> {
    let (stream, group, consumer) = (config.stream.as_str(), config.group.as_str(), config.consumer.as_str());
    let of_stream = |rule, words: &[&str]| attempt(rule, Some(stream), words);
    vec![
        of_stream(
            "+xreadgroup",
            &[
                "XREADGROUP",
                "GROUP",
                group,
                consumer,
                "COUNT",
                NOTHING,
                "STREAMS",
                stream,
                ">",
            ],
        ),
        of_stream("+xack", &["XACK", stream, group, NOTHING]),
        of_stream("+xgroup", &["XGROUP", "CREATE", stream, group, NOTHING]),
        of_stream("+xautoclaim", &["XAUTOCLAIM", stream, group, consumer, NOTHING, "0"]),
    ]
}

/// What the worker does besides, each with what there is not where it is refused.
fn liked(config: &Config) -> Vec<(&'static str, Vec<Try>)> {
    let (stream, group, consumer) = (config.stream.as_str(), config.group.as_str(), config.consumer.as_str());
    let own = format!("firehose:worker:check:{:x}", fastrand::u64(..));
    let own = own.as_str();
    let of_own = |rule, words: &[&str]| attempt(rule, Some("firehose:worker:*"), words);
    let count = |key: &str| attempt("+hincrby", Some(key), &["HINCRBY", key, "errors", NOTHING]);
    let mut counters: Vec<Try> = config.metrics_keys.iter().map(|key| count(key)).collect();
    counters.push(count("db:record_counts"));
    counters.push(attempt(
        "+exists",
        Some("db:record_counts"),
        &["EXISTS", "db:record_counts"],
    ));
    vec![
        (
            "dead letters, for which entries wait then",
            vec![attempt(
                "+xadd",
                Some(DEAD_LETTERS),
                &["XADD", DEAD_LETTERS, NOTHING, "type", NOTHING],
            )],
        ),
        ("the dashboard's counters", counters),
        (
            "a standby, exact counters, the status",
            vec![
                of_own("+get", &["GET", own]),
                of_own("+set", &["SET", own, NOTHING, "PX", NOTHING]),
                of_own("+del", &["DEL", own]),
                of_own("+pexpire", &["PEXPIRE", own, NOTHING]),
                of_own("+hget", &["HGET", own, NOTHING]),
                of_own("+hset", &["HSET", own, NOTHING, NOTHING, NOTHING]),
                of_own("+watch", &["WATCH", own]),
                attempt("+unwatch", None, &["UNWATCH"]),
                attempt("+multi", None, &["MULTI"]),
                attempt("+exec", None, &["EXEC"]),
            ],
        ),
        (
            "losses, and a warning before them",
            vec![
                attempt("+xinfo", Some(stream), &["XINFO", "STREAM", stream]),
                attempt("+xlen", Some(DEAD_LETTERS), &["XLEN", DEAD_LETTERS]),
            ],
        ),
        (
            "long transactions without another worker taking the entries",
            vec![
                attempt(
                    "+xpending",
                    Some(stream),
                    &["XPENDING", stream, group, NOTHING, "+", "1"],
                ),
                attempt(
                    "+xclaim",
                    Some(stream),
                    &["XCLAIM", stream, group, consumer, NOTHING, "0-1"],
                ),
            ],
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
    let lacking = rules(link, needed(config));
    if !lacking.is_empty() {
        let found = format!("the user {user} may not do what the worker must");
        report.fail(what, found, set_user(&lacking));
    }
    let mut missed: Vec<&str> = Vec::new();
    let mut all: Vec<String> = Vec::new();
    for (purpose, tries) in liked(config) {
        let rules = rules(link, tries);
        if !rules.is_empty() {
            missed.push(purpose);
        }
        all.extend(rules);
    }
    all.sort_by_key(|rule| (!rule.starts_with('~'), rule.clone()));
    all.dedup();
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
            rules.push(rule.to_owned());
        }
    }
    rules.sort_by_key(|rule| (!rule.starts_with('~'), rule.clone()));
    rules.dedup();
    rules
}
