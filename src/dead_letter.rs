//! Dead letters, and the form in which they are stored.
//!
//! Owns the fields of a dead letter. `worker` decides when one is written, and `ack` stores it together with the
//! acknowledgement of its entry.

use std::borrow::Cow;
use std::fmt;

use redis::Cmd;

use crate::decode::RawCommit;
use crate::entry::{Entry, EntryId};

/// The stream of dead letters.
pub const DEAD_LETTERS: &str = "firehose:dead-letters";

/// Why an entry or an op can never be applied.
pub struct Cause {
    /// The name under which dead letters are counted.
    pub name: Cow<'static, str>,
    /// One line for people.
    pub text: String,
}

impl Cause {
    pub fn new(name: impl Into<Cow<'static, str>>, text: impl fmt::Display) -> Cause {
        Cause {
            name: name.into(),
            text: text.to_string(),
        }
    }
}

/// An entry, or one of its ops, that can never be applied.
pub struct DeadLetter {
    kind: Box<[u8]>,
    data: Box<[u8]>,
    seq: Box<[u8]>,
    pub cause: Cause,
    /// The path of the op, if `data` contains that op alone.
    op: Option<String>,
}

impl DeadLetter {
    pub fn entry(entry: &Entry, cause: Cause) -> DeadLetter {
        DeadLetter {
            kind: entry.kind.clone().unwrap_or_default(),
            data: entry.data.clone().unwrap_or_default(),
            seq: entry.seq.clone().unwrap_or_default(),
            cause,
            op: None,
        }
    }

    /// The dead letter of the op at `index` of a commit, or of the whole event if it has no ops.
    pub fn op(entry: &Entry, commit: Option<&RawCommit>, index: u32, path: &str, cause: Cause) -> DeadLetter {
        match commit.and_then(|commit| commit.with_one_op(index as usize)) {
            None => DeadLetter::entry(entry, cause),
            // Does not copy the whole entry, which may have thousands of such ops.
            Some(data) => DeadLetter {
                kind: entry.kind.clone().unwrap_or_default(),
                data: data.into_bytes().into(),
                seq: entry.seq.clone().unwrap_or_default(),
                cause,
                op: Some(path.to_owned()),
            },
        }
    }

    /// The command that stores the dead letter.
    pub fn store(&self, orig_id: EntryId, deliveries: u64, maxlen: usize) -> Cmd {
        let mut add = redis::cmd("XADD");
        add.arg(DEAD_LETTERS).arg("MAXLEN").arg("~").arg(maxlen).arg("*");
        add.arg("type").arg(&self.kind[..]).arg("data").arg(&self.data[..]);
        add.arg("seq").arg(&self.seq[..]).arg("origId").arg(orig_id.to_string());
        add.arg("deliveries").arg(deliveries).arg("error").arg(&self.cause.text);
        if let Some(op) = &self.op {
            add.arg("op").arg(op);
        }
        add
    }
}
