//! Names of the worker's own keys in Redis.
//!
//! Invariant: two keys have the same name only if kind, stream, group and consumer are the same, even if these contain
//! colons. A kind always has the same number of parts, in which colons are escaped, followed by the stream unescaped.
//! The default stream is omitted, so that the keys of most installations are short.

use crate::entry::EntryId;
use crate::settings::cli::DEFAULT_STREAM;
use crate::settings::config::Config;

const PREFIX: &str = "firehose:worker";

/// A key that all processes of a group share.
pub fn of_group(kind: &str, config: &Config) -> String {
    name(kind, &[&config.group], &config.stream)
}

/// A key about one consumer of the group.
pub fn of_consumer(kind: &str, config: &Config, consumer: &str) -> String {
    name(kind, &[&config.group, consumer], &config.stream)
}

/// The key that names the process that holds a consumer name.
pub fn holder(config: &Config, consumer: &str) -> String {
    of_consumer("holder", config, consumer)
}

/// A key about one entry of the group.
pub fn of_entry(kind: &str, config: &Config, id: EntryId) -> String {
    format!("{PREFIX}:{kind}:{}:{}:{id}", escape(&config.group), config.stream)
}

/// The hash of a group's losses: `unread_trimmed`, `pending_trimmed`, `groups_recreated`, and the last sample. It has
/// no TTL, since losses are permanent.
pub fn losses(config: &Config) -> String {
    of_group("losses", config)
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
