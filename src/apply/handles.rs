//! Decides which user has a handle. Readers look users up by handle, so a handle must identify a single user.
//!
//! Owns the rule: the last identity event in the stream that names a handle decides which user has it. Every other
//! user who had the handle gets `handle.invalid`. Several workers may apply such events at once, since the events are
//! about different DIDs. Each worker therefore takes the handle's position in `firehose_worker.versions` before it
//! writes users. The lock on that row lets only one worker at a time assign the handle, and an event that finds a
//! later position there is too late.
//!
//! Invariant: no committed transaction leaves a handle with two users, except `handle.invalid`.

use std::collections::{BTreeMap, HashMap};

use super::versions;
use crate::entry::Position;
use crate::fold::UserChange;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::rows::{Change, Handle, Op, Row};

/// The handle of a user without a valid one. Any number of users share it.
const INVALID: &str = "handle.invalid";

/// The combined effect of a batch's identity events.
#[derive(Debug, Default)]
pub struct Handles<'o> {
    /// For each handle, the position of the last event in the batch that assigned it, and the user it named.
    given: BTreeMap<&'o str, (Position, &'o str)>,
    /// The handle that each user named by an event has after all events of the batch.
    of_users: HashMap<&'o str, &'o str>,
}

impl<'o> Handles<'o> {
    pub fn of(ops: &[&'o Op<'o>]) -> Self {
        let event = |op: &&'o Op<'o>| match &op.change {
            Change::Put(Row::Handle(Handle(handle))) => Some((op.position, op.key.as_str(), handle.as_str())),
            _ => None,
        };
        let mut events: Vec<_> = ops.iter().filter_map(event).collect();
        events.sort_unstable();
        let mut handles = Handles::default();
        for (position, did, handle) in events {
            handles.give(position, did, handle);
        }
        handles
    }

    fn give(&mut self, position: Position, did: &'o str, handle: &'o str) {
        if handle != INVALID
            && let Some((_, before)) = self.given.insert(handle, (position, did))
            && self.of_users.get(before) == Some(&handle)
        {
            self.of_users.insert(before, INVALID);
        }
        self.of_users.insert(did, handle);
    }

    /// Takes the positions of the handles, and drops handles that a later event has already assigned.
    pub fn take_positions(&mut self, client: &mut Client) -> Result<(), ApplyError> {
        if self.given.is_empty() {
            return Ok(());
        }
        let positions = self.given.iter().map(|(handle, (position, _))| (*handle, *position));
        let taken = versions::take_positions(client, positions)?;
        self.given.retain(|handle, _| taken.contains(*handle));
        let given = &self.given;
        for handle in self.of_users.values_mut() {
            if !given.contains_key(handle) {
                *handle = INVALID;
            }
        }
        Ok(())
    }

    /// Sets in each change the handle that its user ends up with.
    pub fn correct(&self, changes: &mut [UserChange<'o>]) {
        for change in changes {
            change.handle = self.of_users.get(change.did).copied();
        }
    }

    /// The handles that this batch assigns, in order, each with its user.
    pub fn given(&self) -> impl Iterator<Item = (&'o str, &'o str)> {
        self.given.iter().map(|(handle, (_, did))| (*handle, *did))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::entry::EntryId;
    use crate::rows::Table;

    /// The handles of users after the events `(ms, did, handle)`, and the assigned handles with their users.
    fn after(events: &[(u64, &'static str, &str)]) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let op = |&(ms, did, handle): &(u64, &'static str, &str)| Op {
            time: crate::micros::Micros(0),
            position: Position {
                entry: EntryId { ms, n: 0 },
                op: 0,
            },
            entry: 0,
            path: Cow::Borrowed(""),
            repo: Cow::Borrowed(did),
            key: did.to_owned(),
            table: Table::Users,
            change: Change::Put(Row::Handle(Handle(handle.to_owned()))),
        };
        let ops: Vec<Op> = events.iter().map(op).collect();
        let ops: Vec<&Op> = ops.iter().collect();
        let handles = Handles::of(&ops);
        let texts = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
        let of_users = handles.of_users.iter().map(|(did, handle)| texts((did, handle)));
        (of_users.collect(), handles.given().map(texts).collect())
    }

    fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    }

    #[test]
    fn the_last_event_in_the_stream_gives_a_handle_away() {
        for events in [[(1, "a", "h"), (2, "b", "h")], [(2, "b", "h"), (1, "a", "h")]] {
            let (of_users, given) = after(&events);
            assert_eq!(of_users, texts([("a", INVALID), ("b", "h")]));
            assert_eq!(given, texts([("h", "b")]));
        }
    }

    #[test]
    fn users_who_swap_their_handles_both_have_one() {
        let (of_users, _) = after(&[(1, "a", "x"), (2, "b", "y"), (3, "a", "y"), (4, "b", "x")]);
        assert_eq!(of_users, texts([("a", "y"), ("b", "x")]));
    }

    #[test]
    fn a_handle_that_its_new_user_gives_up_does_not_go_back() {
        let (of_users, given) = after(&[(1, "a", "h"), (2, "b", "h"), (3, "b", "other")]);
        assert_eq!(of_users, texts([("a", INVALID), ("b", "other")]));
        assert_eq!(given, texts([("h", "b"), ("other", "b")]));
    }

    #[test]
    fn any_number_of_users_have_no_handle() {
        let (of_users, given) = after(&[(1, "a", INVALID), (2, "b", INVALID)]);
        assert_eq!(of_users, texts([("a", INVALID), ("b", INVALID)]));
        assert!(given.is_empty());
    }
}
