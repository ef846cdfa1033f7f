//! What a relay sends, and the data of the entries that become of it.
//!
//! A *message* of the relay is one *frame*: an event of a repo, or word about the stream itself. `frame` reads it, and
//! `entry` writes the data of the entry that an event becomes: for a commit, `commit` finds the blocks of its records
//! and `record` writes each as lexicon JSON. `cbor` reads the encoding of both, and `filter` selects what is wanted.
//!
//! What cannot become an entry is never dropped in silence: it has a `reason`. A fault costs the smallest item that
//! contains it: in a record, the op; in what is around the records, the frame.
//!
//! Invariant: these modules are pure. They do no I/O, never panic on any input, and take memory and time in proportion
//! to the message's length.

pub mod reason;
pub mod cbor;
pub mod frame;
pub mod commit;
pub mod record;
pub mod path;
pub mod filter;
pub mod entry;

#[cfg(test)]
mod made;
