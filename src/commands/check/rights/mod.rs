//! What a Redis user may do of what the worker or the consumer does, and which of these commands the server knows.
//!
//! `worker` and `consumer` own the lists of commands. Each is sent in a form that Redis refuses after it has checked the
//! user's rights and before it does anything: `x` is neither a number nor an entry ID, and the keys and groups with
//! random names do not exist. So nothing is changed, no right to ask about rights is needed, and every version of Redis
//! answers.

pub mod consumer;
pub mod worker;

use std::collections::BTreeSet;

use redis::{Cmd, RedisError, Value};

use super::report::Report;
use crate::figures::finding::Level;
use crate::redis::address::Address;
use crate::redis::link::{self, Link};

/// In place of a feature: the process does not run without these commands.
const REQUIRED: &str = "";

/// A command in a form without effect.
pub struct Command {
    /// What is lost without it.
    feature: &'static str,
    key: Option<Key>,
    words: Vec<String>,
}

/// The key of a command.
#[derive(Clone)]
struct Key {
    name: String,
    /// The word that allows it in ACL SETUSER.
    rule: String,
}

impl Key {
    fn of(name: &str) -> Key {
        Key {
            name: name.to_owned(),
            rule: key_rule(name),
        }
    }

    /// A key that does not exist, of those that begin with `prefix`.
    fn own(prefix: &str) -> Key {
        Key {
            name: format!("{prefix}check:{}", random()),
            rule: format!("~{prefix}*"),
        }
    }
}

impl Command {
    /// `{key}` and the names of `parts` are replaced in the line.
    fn new(feature: &'static str, key: Option<Key>, line: &str, parts: &[(&str, &str)]) -> Command {
        let replaced = |word: &str| match parts.iter().find(|(name, _)| *name == word) {
            Some((_, value)) => (*value).to_owned(),
            None => word.to_owned(),
        };
        Command {
            feature,
            key,
            words: line.split(' ').map(replaced).collect(),
        }
    }

    fn creates_group(&self) -> bool {
        self.words.starts_with(&["XGROUP".to_owned(), "CREATE".to_owned()])
    }

    fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The command on a key.
    fn on(&self, key: &str) -> Cmd {
        let mut command = Cmd::new();
        for word in &self.words {
            command.arg(if word == "{key}" { key } else { word });
        }
        command
    }

    /// Sends it, and returns why it was refused or what is wrong with its form.
    fn fault(&self, link: &mut Link, key: &str) -> Option<RedisError> {
        if self.name() != "PUBLISH" {
            return link.query::<Value>(&self.on(key)).err();
        }
        // It has no form without effect. In a transaction that ends with the connection, it is never executed.
        link.query::<()>(&redis::cmd("MULTI")).ok()?;
        let queued = link.query::<Value>(&self.on(key));
        link.close();
        queued.err()
    }
}

/// A name that nothing has.
fn random() -> String {
    format!("{:x}", fastrand::u64(..))
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
    /// The user of the link.
    pub fn of(link: &mut Link, address: &Address, commands: &[Command]) -> User {
        let name = link.query(redis::cmd("ACL").arg("WHOAMI"));
        User {
            name: name.unwrap_or_else(|_| address.user().to_owned()),
            may_use_any_key: may_use_any_key(link, commands),
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
    fn rules(&self, error: &RedisError, command: &Command) -> Vec<String> {
        let name = command.name().to_ascii_lowercase();
        let mut rules = Vec::new();
        // Unlike rules of keys, that of a channel is refused if the user may use any, which cannot be asked.
        if let Some(key) = &command.key
            && (if name == "publish" {
                is_of_key(error)
            } else {
                !self.may_use_any_key
            })
        {
            rules.push(key.rule.clone());
        }
        if !is_of_key(error) {
            rules.push(format!("+{name}"));
        }
        rules
    }
}

/// Whether the user may use any key. A command that it may send shows that, on a key that does not exist.
fn may_use_any_key(link: &mut Link, commands: &[Command]) -> bool {
    let has_key = |command: &&Command| command.key.is_some() && command.name() != "PUBLISH";
    for command in commands.iter().filter(has_key) {
        match command.fault(link, &random()) {
            Some(error) if link::is_refused(&error) && is_of_key(&error) => return false,
            Some(error) if link::is_refused(&error) => {}
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

/// Sends each command of `process`, the worker or the consumer.
pub fn check(link: &mut Link, user: &User, process: &str, commands: &[Command], report: &Report) {
    let lacks = lacks(link, user, commands);
    let (required, optional): (Vec<&Lack>, Vec<&Lack>) = lacks.iter().partition(|lack| lack.feature == REQUIRED);
    let is_required = |lack: &&Lack| required.iter().any(|other| other.missing == lack.missing);
    let optional: Vec<&Lack> = optional.into_iter().filter(|lack| !is_required(lack)).collect();
    let name = &user.name;
    for (level, lacks) in [(Level::Fail, required), (Level::Warn, optional)] {
        let needed = |what: &str, features: String| match level {
            Level::Fail => format!("{what} that the {process} requires"),
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
        report.ok(format!("the user {name} may do everything that the {process} does"));
    }
}

fn lacks(link: &mut Link, user: &User, commands: &[Command]) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let mut has_group = true;
    for command in commands {
        let key = command.key.as_ref().map_or("", |key| &key.name);
        let Some(error) = command.fault(link, key) else {
            continue;
        };
        // Redis looks for the group before it reads the ID. Without one, the worker creates it.
        has_group &= link::code(&error) != "NOGROUP" || command.name() != "XREADGROUP";
        let is_required = command.creates_group() && !has_group;
        let feature = if is_required { REQUIRED } else { command.feature };
        let is_unknown = link::is_unknown(&error);
        let missing = if is_unknown {
            vec![command.name().to_owned()]
        } else if link::is_refused(&error) {
            user.rules(&error, command)
        } else {
            continue;
        };
        lacks.extend(missing.into_iter().map(|missing| Lack {
            feature,
            missing,
            is_unknown,
        }));
    }
    lacks
}

/// The features of the lacks of one kind, and what is missing for all of them: rules of keys first.
fn summary<'a>(lacks: &[&'a Lack], is_unknown: bool) -> Option<(String, Vec<&'a str>)> {
    let lacks = || lacks.iter().filter(|lack| lack.is_unknown == is_unknown);
    let missing: BTreeSet<&str> = lacks().map(|lack| lack.missing.as_str()).collect();
    let (keys, commands): (Vec<&str>, Vec<&str>) = missing.into_iter().partition(|rule| rule.starts_with(['~', '&']));
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
