//! Names of the program's own keys in Redis: those of the worker, and those of the consumer that others read.
//!
//! Invariant of the worker's: two keys have the same name only if kind, stream, group and consumer are the same, even if these contain
//! colons. A kind always has the same number of parts, in which colons are escaped, followed by the stream unescaped.
//! The default stream is omitted, so that the keys of most installations are short.

use crate::entry::EntryId;
use crate::settings::cli::DEFAULT_STREAM;
use crate::settings::config::Config;

const PREFIX: &str = "firehose:worker";

/// The stream of what the consumer has set aside.
pub const SET_ASIDE: &str = "firehose:consumer:set-aside";

/// The key that names the process that holds a cursor.
pub fn cursor_holder(cursor_key: &str) -> String {
    format!("firehose:consumer:holder:{cursor_key}")
}

/// The group that a key of the worker is about.
#[derive(Clone, Copy)]
pub struct Group<'a> {
    pub stream: &'a str,
    pub name: &'a str,
}

impl<'a> From<&'a Config> for Group<'a> {
    fn from(config: &'a Config) -> Group<'a> {
        Group {
            stream: &config.stream,
            name: &config.group,
        }
    }
}

/// A key that all processes of a group share.
pub fn of_group<'a>(kind: &str, group: impl Into<Group<'a>>) -> String {
    let group = group.into();
    name(kind, &[group.name], group.stream)
}

/// A key about one consumer of the group.
pub fn of_consumer<'a>(kind: &str, group: impl Into<Group<'a>>, consumer: &str) -> String {
    let group = group.into();
    name(kind, &[group.name, consumer], group.stream)
}

/// The key that names the process that holds a consumer name.
pub fn holder<'a>(group: impl Into<Group<'a>>, consumer: &str) -> String {
    of_consumer("holder", group, consumer)
}

/// A key about one entry of the group.
pub fn of_entry(kind: &str, config: &Config, id: EntryId) -> String {
    format!("{PREFIX}:{kind}:{}:{}:{id}", escape(&config.group), config.stream)
}

/// The hash of a group's losses: `unread_trimmed`, `pending_trimmed`, `groups_recreated`, and the last sample. It has
/// no TTL, since losses are permanent.
pub fn losses<'a>(group: impl Into<Group<'a>>) -> String {
    of_group("losses", group)
}

/// The sizes of the group's database, hour by hour.
pub fn growth(config: &Config) -> String {
    of_group("growth", config)
}

fn name(kind: &str, parts: &[&str], stream: &str) -> String {
    let parts: Vec<String> = parts.iter().map(|part| escape(part)).collect();
    let name = format!("{PREFIX}:{kind}:{}", parts.join(":"));
    match stream {
        DEFAULT_STREAM => name,
        stream => format!("{name}:{stream}"),
    }
}

fn escape(part: &str) -> String {
    part.replace('%', "%25").replace(':', "%3A")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_readable_and_differ_wherever_a_part_does() {
        assert_eq!(
            name("holder", &["firehose-processors", "worker-a"], DEFAULT_STREAM),
            "firehose:worker:holder:firehose-processors:worker-a"
        );
        let parts = ["g", "x", "g:x", ":g", "g:", "g%3Ax", "%", ":", DEFAULT_STREAM];
        let names: HashSet<String> = parts
            .iter()
            .flat_map(|group| parts.iter().map(move |consumer| (group, consumer)))
            .flat_map(|(group, consumer)| parts.iter().map(move |stream| name("k", &[group, consumer], stream)))
            .collect();
        assert_eq!(names.len(), parts.len().pow(3));
    }
}
