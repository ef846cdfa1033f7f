//! What the Redis user may do of what the worker does, and what of that the server knows at all.
//!
//! Owns the list of commands, each in a form that Redis refuses after it has looked at the user's rights and before it does
//! anything: a number that is none, an ID that is none, a key that nobody has. So nothing is changed, no right to ask for
//! rights is needed, and every version of Redis tells.

use redis::{Cmd, RedisError, Value};

use super::Report;
use crate::dead_letter::DEAD_LETTERS;
use crate::redis::link::{self, Link};
use crate::settings::config::Config;

/// What is no number and no ID.
const NOTHING: &str = "x";

/// A command in a harmless form.
struct Try {
    name: String,
    /// The pattern of its key's kind, so that the rule for it can be named.
    key: Option<String>,
    command: Cmd,
}

fn attempt(key: Option<&str>, words: &[&str]) -> Try {
    let (name, rest) = words.split_first().expect("a command has a name");
    let mut command = redis::cmd(name);
    command.arg(rest);
    Try {
        name: (*name).to_owned(),
        key: key.map(str::to_owned),
        command,
    }
}

/// The pattern of one key, or of a kind of keys that ends with `*`. ACL SETUSER takes no blanks in it, and redis-cli no
/// quotes: any character does instead of these, and of those that mean something in a pattern.
fn pattern(key: &str) -> String {
    let (key, end) = key.strip_suffix(":*").map_or((key, ""), |kind| (kind, ":*"));
    let is_special = |c: char| c.is_whitespace() || "*?[]\\^'\"".contains(c);
    key.replace(is_special, "?") + end
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
        (
            "a group that is created again when it disappears, and consumers that are removed with their process",
            vec![
                make_group(config),
                of_stream(&["XGROUP", "DELCONSUMER", stream, own, own]),
            ],
        ),
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
                of_stream(&["XINFO", "GROUPS", stream]),
                of_stream(&["XINFO", "CONSUMERS", stream, group]),
                of_letters(&["XLEN", DEAD_LETTERS]),
            ],
        ),
        (
            "long transactions without another worker taking the entries",
            vec![of_stream(&["XPENDING", stream, group, NOTHING, "+", "1"])],
        ),
    ]
}

/// Whether the user may use any key: then ACL SETUSER takes no pattern more. A command that it may send tells, on a key that
/// nobody has.
fn may_use_any_key(link: &mut Link) -> bool {
    let key = format!("{:x}", fastrand::u64(..));
    let tries: [&[&str]; 6] = [
        &["XACK", &key, NOTHING, NOTHING],
        &["EXISTS", &key],
        &["GET", &key],
        &["XLEN", &key],
        &["TYPE", &key],
        &["XREADGROUP", "GROUP", NOTHING, NOTHING, "STREAMS", &key, NOTHING],
    ];
    for words in tries {
        match link.query::<Value>(&attempt(None, words).command) {
            Err(error) if link::is_refused(&error) && is_of_key(&error) => return false,
            Err(error) if link::is_refused(&error) => {}
            _ => return true,
        }
    }
    false
}

/// Whether a refusal is that of a key. Redis looks at the command first, and says nothing of the key where that is refused.
fn is_of_key(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("key"))
}

/// Tries each command.
pub fn look(link: &mut Link, config: &Config, report: &Report) {
    let what = "redis rights";
    report.looking(what);
    // Asked first: a refused EXEC leaves the link inside a transaction.
    let user = user(link, config);
    let any_key = may_use_any_key(link);
    let needed = needed(link, config);
    let needed = Lack::of(link, needed, any_key);
    if !needed.rules.is_empty() {
        let found = format!("the user {user} may not do what the worker must");
        report.fail(what, found, set_user(&user, &needed.rules));
    }
    if !needed.unknown.is_empty() {
        report.fail(
            what,
            "redis does not know commands without which there is no worker",
            have_known(&needed.unknown),
        );
    }
    let mut lack = Lack::default();
    let (mut forbidden, mut unknown) = (Vec::new(), Vec::new());
    for (purpose, tries) in liked(config) {
        let mut of_purpose = Lack::of(link, tries, any_key);
        // What was said to be needed is not done without.
        of_purpose.leave_out(&needed);
        if !of_purpose.rules.is_empty() {
            forbidden.push(purpose);
        }
        if !of_purpose.unknown.is_empty() {
            unknown.push(purpose);
        }
        lack.add(of_purpose);
    }
    if !forbidden.is_empty() {
        let found = format!("the user {user} does without: {}", forbidden.join("; "));
        report.warn(what, found, set_user(&user, &lack.rules));
    }
    if !unknown.is_empty() {
        let found = format!(
            "redis does not know commands, and the worker does without: {}",
            unknown.join("; ")
        );
        report.warn(what, found, have_known(&lack.unknown));
    }
    if needed.is_none() && lack.is_none() {
        report.ok(what, format!("the user {user} may do all that the worker does"));
    }
}

/// The user as whom the link is connected.
pub fn user(link: &mut Link, config: &Config) -> String {
    let said = link.query(redis::cmd("ACL").arg("WHOAMI"));
    said.unwrap_or_else(|_| config.redis.user().to_owned())
}

/// The command that gives a user these rules.
pub fn set_user(user: &str, rules: &[String]) -> String {
    format!("ACL SETUSER {user} {}", rules.join(" "))
}

/// What to do where a server was told not to know commands.
pub fn have_known(commands: &[String]) -> String {
    let renames: Vec<String> = commands.iter().map(|name| format!("rename-command {name}")).collect();
    format!(
        "take {} out of redis.conf and restart Redis; if it is a proxy that does not know them, let REDIS_URL lead past it",
        renames.join(", ")
    )
}

/// What to do about one command that was not carried out, if that is for want of a right or of the command.
pub fn remedy(link: &mut Link, config: &Config, error: &RedisError, key: Option<&str>, rules: &[&str]) -> String {
    if !link::is_refused(error) {
        return "follow Redis's message".to_owned();
    }
    if link::is_unknown(error) {
        // Redis quotes the name.
        let detail = error.detail().unwrap_or_default();
        let name = detail.split(['\'', '`']).nth(1).unwrap_or("the command");
        return have_known(&[name.to_ascii_uppercase()]);
    }
    let key = key.filter(|_| !may_use_any_key(link));
    let mut all: Vec<String> = key.map(|key| format!("~{}", pattern(key))).into_iter().collect();
    all.extend(rules.iter().map(|&rule| rule.to_owned()));
    set_user(&user(link, config), &all)
}

/// What keeps the worker from commands.
#[derive(Default)]
struct Lack {
    /// The rules that would allow what is refused; those of keys first.
    rules: Vec<String>,
    /// The commands that the server does not know.
    unknown: Vec<String>,
}

impl Lack {
    fn of(link: &mut Link, tries: Vec<Try>, any_key: bool) -> Lack {
        let mut lack = Lack::default();
        for Try { name, key, command } in tries {
            let Err(error) = link.query::<Value>(&command) else {
                continue;
            };
            if link::is_unknown(&error) {
                lack.unknown.push(name);
            } else if link::is_refused(&error) {
                let key = key.filter(|_| !any_key);
                lack.rules.extend(key.map(|key| format!("~{}", pattern(&key))));
                if !is_of_key(&error) {
                    lack.rules.push(format!("+{}", name.to_ascii_lowercase()));
                }
            }
        }
        lack.in_order();
        lack
    }

    fn is_none(&self) -> bool {
        self.rules.is_empty() && self.unknown.is_empty()
    }

    fn leave_out(&mut self, other: &Lack) {
        self.rules.retain(|rule| !other.rules.contains(rule));
        self.unknown.retain(|name| !other.unknown.contains(name));
    }

    fn add(&mut self, other: Lack) {
        self.rules.extend(other.rules);
        self.unknown.extend(other.unknown);
        self.in_order();
    }

    /// Each once, rules of keys first.
    fn in_order(&mut self) {
        self.rules.sort_by_key(|rule| (!rule.starts_with('~'), rule.clone()));
        self.rules.dedup();
        self.unknown.sort();
        self.unknown.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_one_word_and_takes_its_key() {
        for (key, expected) in [
            ("firehose:events", "firehose:events"),
            ("firehose:worker:*", "firehose:worker:*"),
            ("my stream [1]*", "my?stream??1??"),
        ] {
            assert_eq!(pattern(key), expected);
        }
    }
}
