//! Assigns entries to workers.
//!
//! Invariant: all entries of a DID go to the same worker, so that they take effect in stream order. They also share a
//! number, by which `ack` keeps that order.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::decode::{self, EntryError, Event};
use crate::entry::Entry;

/// The index of the worker, out of `workers`, that processes this entry.
pub fn worker_of(entry: &Entry, workers: usize) -> usize {
    repo_of(entry).map_or(0, |repo| (repo % workers as u64) as usize)
}

/// A number derived from the entry's DID, the same for all entries of that DID. `None` if the entry has no DID and
/// needs no order.
pub fn repo_of(entry: &Entry) -> Option<u64> {
    // Usually the DID is at the beginning of the entry. Otherwise the entry must be decoded to find it.
    match decode::peek_did(entry.data.as_deref()?) {
        Some(did) => Some(hash(did)),
        None => read_did(entry).ok().map(|did| hash(did.as_bytes())),
    }
}

fn read_did(entry: &Entry) -> Result<String, EntryError> {
    let text = decode::text(entry)?;
    match decode::decode(entry.kind.as_deref(), &text)? {
        Event::Commit { repo: did, .. } | Event::Identity { did, .. } => Ok(did.into_owned()),
        Event::Account | Event::Unknown => Ok(String::new()),
    }
}

fn hash(did: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    did.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryId;

    fn worker(kind: &str, data: &str) -> usize {
        let entry = Entry {
            id: EntryId::ZERO,
            kind: Some(kind.as_bytes().into()),
            data: Some(data.as_bytes().into()),
            seq: None,
            deliveries: 1,
        };
        worker_of(&entry, 1000)
    }

    #[test]
    fn one_did_has_one_worker_however_it_is_written() {
        let plain = worker("commit", r#"{"repo":"did:plc:abc","ops":[]}"#);
        for (kind, data) in [
            ("commit", r#"{"ops":[],"repo":"did:plc:abc"}"#),
            ("commit", r#"{"repo":"did:plc:\u0061bc","ops":[]}"#),
            ("commit", r#"{ "repo" : "did:plc:a\u0000bc", "ops": [] }"#),
            ("identity", r#"{"did":"did:plc:abc","handle":null}"#),
            ("identity", r#"{"handle":null,"did":"did:plc:abc"}"#),
        ] {
            assert_eq!(worker(kind, data), plain, "{data}");
        }
        assert_ne!(worker("commit", r#"{"repo":"did:plc:abd","ops":[]}"#), plain);
    }

    #[test]
    fn what_has_no_did_still_has_a_worker() {
        for data in ["", "[]", "{}", "nonsense"] {
            assert_eq!(worker("commit", data), 0);
        }
    }
}
