//! The entries that share a transaction, already in the form in which they are sent to Redis.
//!
//! Owns the encoding of their commands. A batch is bounded by number, bytes and age, so that memory is bounded and an
//! event of a slow stream does not wait.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counts::Tally;
use super::dashboard::Sample;
use super::position::Keys;
use crate::firehose::reason::Reason;
use crate::keys::SET_ASIDE;

/// The maximum number of entries in a batch.
pub const MAX_ENTRIES: u64 = 256;
const MAX_BYTES: usize = 1 << 20;
const MAX_AGE: Duration = Duration::from_millis(10);

/// The approximate number of things set aside that are kept.
const SET_ASIDE_MAXLEN: &[u8] = b"1000";

/// How much of an unreadable frame is stored, in bytes.
const FRAME_SHOWN: usize = 64 << 10;

/// Entries and what else belongs into their transaction.
pub struct Batch {
    /// The term in which the events were read. A batch of an earlier term is dropped.
    pub term: u64,
    pub relay: Arc<str>,
    /// The encoded commands.
    pub packed: Vec<u8>,
    pub n_commands: usize,
    pub n_entries: u64,
    /// The seq of the last event, and the time of the newest so far.
    pub last: Option<(u64, u64)>,
    pub tally: Tally,
    /// One of the events, for the dashboard.
    pub sample: Option<Sample>,
    began_at: Option<Instant>,
}

/// An event, or an op of it, that does not become part of an entry.
pub struct SetAside<'a> {
    pub reason: Reason,
    /// The event's seq; the first and the last possible one if only these are known; empty if nothing is.
    pub seq: &'a str,
    pub did: &'a str,
    pub path: &'a str,
    /// The message, if it could not be read.
    pub frame: &'a [u8],
}

impl Batch {
    pub fn new(term: u64, relay: &Arc<str>, mut buffer: Vec<u8>) -> Batch {
        buffer.clear();
        Batch {
            term,
            relay: Arc::clone(relay),
            packed: buffer,
            n_commands: 0,
            n_entries: 0,
            last: None,
            tally: Tally::default(),
            sample: None,
            began_at: None,
        }
    }

    /// Whether there is nothing to tell Redis.
    pub fn is_empty(&self) -> bool {
        self.last.is_none() && self.n_commands == 0
    }

    /// Whether it must be sent before more is added.
    pub fn is_full(&self) -> bool {
        self.n_entries >= MAX_ENTRIES || self.packed.len() >= MAX_BYTES || self.age() >= MAX_AGE && self.n_commands > 0
    }

    /// The time since the first event was added.
    pub fn age(&self) -> Duration {
        self.began_at.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Records that the events up to `seq` are done with.
    pub fn done(&mut self, seq: u64, time_ms: u64) {
        self.began_at.get_or_insert_with(Instant::now);
        self.last = Some((seq, time_ms));
    }

    pub fn push_entry(&mut self, form: &Form, kind: &str, data: &[u8], seq: u64) {
        self.packed.extend_from_slice(&form.head);
        push(&mut self.packed, kind.as_bytes());
        push(&mut self.packed, b"data");
        push(&mut self.packed, data);
        push(&mut self.packed, b"seq");
        push_number(&mut self.packed, seq);
        self.n_commands += 1;
        self.n_entries += 1;
    }

    pub fn push_set_aside(&mut self, set_aside: &SetAside<'_>) {
        self.began_at.get_or_insert_with(Instant::now);
        let relay = Arc::clone(&self.relay);
        let mut arguments = vec![
            &b"XADD"[..],
            SET_ASIDE.as_bytes(),
            b"MAXLEN",
            b"~",
            SET_ASIDE_MAXLEN,
            b"*",
            b"reason",
            set_aside.reason.as_str().as_bytes(),
            b"relay",
            relay.as_bytes(),
            b"seq",
            set_aside.seq.as_bytes(),
            b"did",
            set_aside.did.as_bytes(),
            b"path",
            set_aside.path.as_bytes(),
        ];
        if !set_aside.frame.is_empty() {
            let shown = &set_aside.frame[..set_aside.frame.len().min(FRAME_SHOWN)];
            arguments.extend([&b"frame"[..], shown]);
        }
        push_command(&mut self.packed, &arguments);
        self.n_commands += 1;
    }
}

/// The beginning of the command that appends an entry, up to the name of the field `type`, which is the same for all.
pub struct Form {
    head: Vec<u8>,
}

impl Form {
    pub fn new(keys: &Keys, max_stream_len: u64) -> Form {
        let mut head = b"*12\r\n".to_vec();
        for argument in [b"XADD", keys.stream.as_bytes(), b"MAXLEN", b"~"] {
            push(&mut head, argument);
        }
        push_number(&mut head, max_stream_len);
        push(&mut head, b"*");
        push(&mut head, b"type");
        Form { head }
    }
}

/// Appends a command in Redis's protocol.
pub fn push_command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    push_length(out, b'*', arguments.len());
    arguments.iter().for_each(|argument| push(out, argument));
}

fn push(out: &mut Vec<u8>, argument: &[u8]) {
    push_length(out, b'$', argument.len());
    out.extend_from_slice(argument);
    out.extend_from_slice(b"\r\n");
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    let length = number.checked_ilog10().unwrap_or_default() as usize + 1;
    push_length(out, b'$', length);
    // Writing to memory cannot fail.
    let _ = write!(out, "{number}\r\n");
}

fn push_length(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    let _ = write!(out, "{length}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_command_of_redis_with_its_three_fields() {
        let keys = Keys {
            stream: "events".to_owned(),
            cursor: String::new(),
            state: String::new(),
            holder: String::new(),
        };
        let mut batch = Batch::new(1, &Arc::from("relay"), Vec::new());
        assert!(batch.is_empty());
        batch.push_entry(&Form::new(&keys, 1000), "identity", b"{}", 10);
        batch.done(10, 5);
        let mut wanted = redis::cmd("XADD");
        wanted.arg("events").arg("MAXLEN").arg("~").arg(1000).arg("*");
        wanted
            .arg("type")
            .arg("identity")
            .arg("data")
            .arg("{}")
            .arg("seq")
            .arg(10);
        assert_eq!(
            String::from_utf8(batch.packed).unwrap(),
            String::from_utf8(wanted.get_packed_command()).unwrap()
        );
    }
}
