//! Entry → ops.
//!
//! Owns the result of parsing an entry: ops to apply, ops to ignore, and dead letters for what cannot be parsed.

use std::borrow::Cow;

use crate::dead_letter::{Cause, DeadLetter};
use crate::decode::{self, EntryError, RawCommit};
use crate::entry::Entry;
use crate::outcome::Kind;
use crate::rows::{self, Change, Ignored, Op, Source, Table};
use crate::settings::config::Switches;

/// The result of one entry so far.
pub struct EntryProgress {
    pub kind: Kind,
    pub dead: Vec<DeadLetter>,
    /// The reasons of ignored ops. They are counted once the entry is finished, however often it was tried.
    pub ignored: Vec<Ignored>,
}

impl EntryProgress {
    /// For an entry that becomes a dead letter without being read, because it has ended the process too often.
    pub fn of_dead(entry: &Entry, text: &str) -> EntryProgress {
        let cause = Cause::new("ended_the_process", text);
        EntryProgress {
            kind: Kind::of(entry.kind.as_deref()),
            dead: vec![DeadLetter::entry(entry, cause)],
            ignored: Vec::new(),
        }
    }
}

/// Parses an entry into ops. What cannot be parsed becomes a dead letter.
pub fn read<'a>(
    entry: &'a Entry,
    text: &'a Result<Cow<'a, str>, EntryError>,
    source: &Source<'a>,
    switches: Switches,
    ops: &mut Vec<Op<'a>>,
) -> EntryProgress {
    let mut progress = EntryProgress {
        kind: Kind::of(entry.kind.as_deref()),
        dead: Vec::new(),
        ignored: Vec::new(),
    };
    let event = match text {
        Ok(text) => decode::decode(entry.kind.as_deref(), text),
        // An entry of an unknown type may contain anything.
        Err(_) if progress.kind == Kind::Unknown && entry.kind.is_some() => return progress,
        Err(error) => Err(error.clone()),
    };
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            let cause = Cause::new(error.name(), &error);
            progress.dead.push(DeadLetter::entry(entry, cause));
            return progress;
        }
    };
    let mut commit = None;
    for outcome in rows::outcomes(event, source) {
        match outcome {
            rows::OpOutcome::Op(mut op) => {
                if is_switched_off(&op, switches) {
                    progress.ignored.push(Ignored::SwitchedOff);
                    // Otherwise the row of an older version of the record would remain.
                    op.change = Change::PutAsAbsent;
                }
                ops.push(op);
            }
            rows::OpOutcome::Ignored(reason) => progress.ignored.push(reason),
            rows::OpOutcome::Bad { index, error } => {
                // Parsed at most once, even if all of its ops are bad.
                let commit = commit.get_or_insert_with(|| text.as_deref().ok().and_then(RawCommit::new));
                let cause = Cause::new(error.name(), &error);
                progress
                    .dead
                    .push(DeadLetter::op(entry, commit.as_ref(), index, "", cause));
            }
        }
    }
    progress
}

fn is_switched_off(op: &Op, switches: Switches) -> bool {
    op.table == Table::GENERIC_RECORDS && !switches.generic_records && matches!(op.change, Change::Put(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryId;
    use crate::settings::config::Accounts;

    /// The number of ops, the number of dead letters, and the reasons of ignored ops.
    fn read_as(kind: &str, data: &str, generic_records: bool) -> (usize, usize, Vec<&'static str>) {
        let entry = Entry {
            id: EntryId { ms: 1, n: 0 },
            kind: Some(kind.as_bytes().into()),
            data: Some(data.as_bytes().into()),
            seq: None,
            deliveries: 1,
        };
        let text = decode::text(&entry);
        let source = Source::new(&entry, 0, 0);
        let switches = Switches {
            notifications: Accounts::All,
            viewer_states: Accounts::All,
            generic_records,
        };
        let mut ops = Vec::new();
        let progress = read(&entry, &text, &source, switches, &mut ops);
        let ignored = progress.ignored.iter().map(|reason| reason.name()).collect();
        (ops.len(), progress.dead.len(), ignored)
    }

    #[test]
    fn an_entry_becomes_ops_dead_letters_and_what_is_ignored() {
        let delete = r#"{"action":"delete","path":"app.bsky.feed.post/1"}"#;
        let custom = r#"{"action":"create","cid":"c","path":"org.example.note/1","record":{"title":"t"}}"#;
        let without_path = r#"{"action":"delete","path":"nothing"}"#;
        let commit = |ops: &[&str]| format!(r#"{{"repo":"did:plc:alice","ops":[{}]}}"#, ops.join(","));
        for (kind, data, generic_records, wanted) in [
            ("commit", commit(&[delete, custom]), true, (2, 0, vec![])),
            ("commit", commit(&[delete, custom]), false, (2, 0, vec!["switched_off"])),
            (
                "commit",
                commit(&[without_path, delete]),
                true,
                (1, 0, vec!["bad_path"]),
            ),
            ("commit", commit(&["3", delete]), true, (1, 1, vec![])),
            ("commit", "not JSON".to_owned(), true, (0, 1, vec![])),
            ("new", "not JSON".to_owned(), true, (0, 0, vec![])),
        ] {
            assert_eq!(read_as(kind, &data, generic_records), wanted, "{kind} {data}");
        }
    }
}
