//! The outcome of an entry, as the worker threads report it to the acker and the counters distinguish it.

use crate::dead_letter::DeadLetter;
use crate::entry::EntryId;

/// A finished entry.
pub struct Done {
    pub id: EntryId,
    /// Identifies the entries of its DID, see `partition`. `None` if the entry has no order to keep.
    pub repo: Option<u64>,
    pub outcome: Outcome,
}

impl Done {
    /// An entry that was trimmed from the stream.
    pub fn trimmed(id: EntryId, outcome: Outcome) -> Done {
        Done {
            id,
            repo: None,
            outcome,
        }
    }
}

/// The outcome of an entry.
pub enum Outcome {
    /// The entry is applied, or deliberately ignored.
    Applied(Kind),
    /// Part of the entry, or all of it, became dead letters.
    Dead(Vec<DeadLetter>),
    /// The entry was trimmed from the stream before it was read.
    Lost,
    /// The same, and Redis has already removed it from the pending entries list.
    Dropped,
}

/// An entry's type, as far as the counters distinguish it.
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
