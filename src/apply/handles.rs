//! Which user a handle belongs to. Readers look users up by handle, so one handle must lead to one user.
//!
//! Owns the rule: of the identity events that name a handle, the last in the stream decides whose it is. Every other user
//! who had the handle gets `handle.invalid`. Several workers may apply such events at once, since they are of different
//! DIDs. Each therefore takes the handle's place in `firehose_worker.versions` before it writes users: that row's lock lets
//! one worker at a time give the handle away, and an event that finds a later place there has come too late.
//!
//! Invariant: no transaction commits that leaves a handle with two users, `handle.invalid` aside.

use std::collections::{BTreeMap, HashMap};

use postgres::Client;

use super::versions;
use crate::entry::Position;
use crate::fold::UserChange;
use crate::postgres::fault::ApplyError;
use crate::rows::{Change, Handle, Op, Row};

/// The handle of a user who has none. Any number of users share it.
const INVALID: &str = "handle.invalid";

/// What the identity events of a batch come to.
#[derive(Debug, Default)]
pub struct Handles<'o> {
    /// The last event of the batch that gave each handle away, and the user it named.
    given: BTreeMap<&'o str, (Position, &'o str)>,
    /// The handle of each user that an event named, after all of them.
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

    /// Takes the places of the handles, and drops those that a later event has given away already.
    pub fn take_places(&mut self, client: &mut Client) -> Result<(), ApplyError> {
        if self.given.is_empty() {
            return Ok(());
        }
        let places = self.given.iter().map(|(handle, (position, _))| (*handle, *position));
        let taken = versions::take_places(client, places)?;
        self.given.retain(|handle, _| taken.contains(*handle));
        let given = &self.given;
        for handle in self.of_users.values_mut() {
            if !given.contains_key(handle) {
                *handle = INVALID;
            }
        }
        Ok(())
    }

    /// Has the changes set the handles that their users end up with.
    pub fn correct(&self, changes: &mut [UserChange<'o>]) {
        for change in changes {
            change.handle = self.of_users.get(change.did).copied();
        }
    }

    /// Each handle that was given away, in order, with its user.
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

    /// The handles of users after events `(ms, did, handle)`, and who was given which.
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
