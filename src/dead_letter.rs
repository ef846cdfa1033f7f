//! What is set apart, and the form in which it is stored.
//!
//! Owns the fields of a dead letter. Does not own when one is written, which is `worker`'s, nor that it is stored
//! together with the acknowledgement of its entry, which is `ack`'s.

use redis::Cmd;

use crate::decode::RawCommit;
use crate::entry::{Entry, EntryId};

/// The stream of dead letters.
pub const DEAD_LETTERS: &str = "firehose:dead-letters";

/// An entry, or one op of it, that can never be applied.
pub struct DeadLetter {
    kind: Vec<u8>,
    data: Vec<u8>,
    seq: Vec<u8>,
    pub error: String,
    /// Path of the op that `data` was cut down to.
    op: Option<String>,
}

impl DeadLetter {
    pub fn entry(entry: &Entry, error: String) -> DeadLetter {
        DeadLetter {
            kind: entry.kind.clone().unwrap_or_default(),
            data: entry.data.clone().unwrap_or_default(),
            seq: entry.seq.clone().unwrap_or_default(),
            error,
            op: None,
        }
    }

    /// The op number `index` of a commit; of an event that has no ops, the whole.
    pub fn op(entry: &Entry, commit: Option<&RawCommit>, index: u32, path: &str, error: String) -> DeadLetter {
        match commit.and_then(|commit| commit.with_one_op(index as usize)) {
            None => DeadLetter::entry(entry, error),
            // Without a copy of the whole entry: it may have thousands of such ops.
            Some(data) => DeadLetter {
                kind: entry.kind.clone().unwrap_or_default(),
                data: data.into_bytes(),
                seq: entry.seq.clone().unwrap_or_default(),
                error,
                op: Some(path.to_owned()),
            },
        }
    }

    /// The command that stores it.
    pub fn store(&self, orig_id: EntryId, deliveries: u64, maxlen: usize) -> Cmd {
        let mut add = redis::cmd("XADD");
        add.arg(DEAD_LETTERS).arg("MAXLEN").arg("~").arg(maxlen).arg("*");
        add.arg("type").arg(&self.kind).arg("data").arg(&self.data);
        add.arg("seq").arg(&self.seq).arg("origId").arg(orig_id.to_string());
        add.arg("deliveries").arg(deliveries).arg("error").arg(&self.error);
        if let Some(op) = &self.op {
            add.arg("op").arg(op);
        }
        add
    }
}
