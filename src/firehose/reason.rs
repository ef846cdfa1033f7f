//! Why something that a relay sent does not become an entry, as it is counted and stored.

/// Why an event, or one op of it, is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The frame cannot be read: not two items of DAG-CBOR, or a member is absent or of the wrong type.
    UnreadableFrame,
    /// A create or update names no record.
    NoCid,
    /// The commit does not contain the record's block.
    MissingBlock,
    /// The record is not what its CID identifies, or the CID is of a form that nothing can be checked against.
    HashMismatch,
    /// The record is not valid DAG-CBOR.
    BadRecord,
    /// The op's path is not `collection/rkey`.
    BadPath,
    /// The op is neither create, update nor delete.
    BadAction,
    /// The frame is larger than the consumer reads, or the entry larger than it writes.
    TooLarge,
    /// The repo's state was replaced. Its records have to be fetched anew.
    Sync,
}

impl Reason {
    pub const ALL: [Reason; 9] = [
        Reason::UnreadableFrame,
        Reason::NoCid,
        Reason::MissingBlock,
        Reason::HashMismatch,
        Reason::BadRecord,
        Reason::BadPath,
        Reason::BadAction,
        Reason::TooLarge,
        Reason::Sync,
    ];

    /// The reason as it is written into the set-aside stream and into labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnreadableFrame => "unreadable_frame",
            Reason::NoCid => "no_cid",
            Reason::MissingBlock => "missing_block",
            Reason::HashMismatch => "hash_mismatch",
            Reason::BadRecord => "bad_record",
            Reason::BadPath => "bad_path",
            Reason::BadAction => "bad_action",
            Reason::TooLarge => "too_large",
            Reason::Sync => "sync",
        }
    }
}
