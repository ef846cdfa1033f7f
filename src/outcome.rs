//! What became of an entry: what the worker threads tell the acker, and what the counters tell apart.

use crate::dead_letter::DeadLetter;
use crate::entry::EntryId;

/// An entry that is done with.
pub struct Done {
    pub id: EntryId,
    /// Which entries are of its DID, as `partition` tells them; `None` if it has no order to keep.
    pub repo: Option<u64>,
    pub outcome: Outcome,
}

impl Done {
    /// One that was trimmed from the stream.
    pub fn trimmed(id: EntryId, outcome: Outcome) -> Done {
        Done {
            id,
            repo: None,
            outcome,
        }
    }
}

/// What became of an entry.
pub enum Outcome {
    /// All of it is applied or deliberately ignored.
    Applied(Kind),
    /// Some of it, or all, is set apart.
    Dead(Vec<DeadLetter>),
    /// It was trimmed from the stream before it was read.
    Lost,
    /// The same, and it was taken off when that was found.
    Dropped,
}

/// An entry's type, as the counters tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Commit,
    Identity,
    Account,
    Unknown,
}

impl Kind {
    pub fn of(field: Option<&[u8]>) -> Kind {
        match field {
            Some(b"commit") => Kind::Commit,
            Some(b"identity") => Kind::Identity,
            Some(b"account") => Kind::Account,
            _ => Kind::Unknown,
        }
    }
}
