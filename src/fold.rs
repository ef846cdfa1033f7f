//! Reduces the ops of a batch to one change per row.
//!
//! Owns two rules. Of the ops on one row, the last decides. A delete among them is still carried out, so that a row
//! created afterwards is new.
//!
//! With one change per row, statements can process the batch as sets; a statement must not touch a row twice. The
//! order of ops on different rows no longer matters: positions determine which of several records of a pair came
//! first.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt};

use crate::micros::Micros;
use crate::rows::{Change, Handle, KeyedRow, KeyedTable, Op, PairRow, PairTable, Post, Profile, Row, Table};

/// The changes to one table: keys to delete, then rows to put, both sorted by key.
#[derive(Debug)]
pub struct Folded<'o, T> {
    pub deleted: Vec<&'o str>,
    pub put: Vec<T>,
}

impl<T> Default for Folded<'_, T> {
    fn default() -> Self {
        Folded {
            deleted: Vec::new(),
            put: Vec::new(),
        }
    }
}

/// The change that handles and profiles make to a users row.
#[derive(Debug)]
pub struct UserChange<'o> {
    pub did: &'o str,
    /// The time of the first op that makes the change.
    pub time: Micros,
    pub handle: Option<&'o str>,
    /// `Some(None)` clears the profile's columns.
    pub profile: Option<Option<&'o Profile<'o>>>,
}

/// The changes to all tables.
#[derive(Debug, Default)]
pub struct Changes<'o> {
    pub users: Vec<UserChange<'o>>,
    pub posts: Folded<'o, &'o Post<'o>>,
    pub pairs: [Folded<'o, &'o PairRow<'o>>; PairTable::ALL.len()],
    /// Rows with their keys.
    pub keyed: BTreeMap<&'static KeyedTable, Folded<'o, (&'o str, &'o KeyedRow<'o>)>>,
}

impl<'o> Changes<'o> {
    pub fn pair(&self, table: PairTable) -> &Folded<'o, &'o PairRow<'o>> {
        &self.pairs[table as usize]
    }

    fn deleted(&mut self, table: Table) -> Option<&mut Vec<&'o str>> {
        Some(match table {
            Table::Users => return None,
            Table::Posts => &mut self.posts.deleted,
            Table::Pair(table) => &mut self.pairs[table as usize].deleted,
            Table::Keyed(table) => &mut self.keyed.entry(table).or_default().deleted,
        })
    }
}

/// The combined effect of the ops on one row.
struct Last<'o> {
    was_deleted: bool,
    put: Option<&'o Row<'o>>,
    handle: Option<&'o Handle>,
    /// The time of the first op.
    time: Micros,
}

impl Last<'_> {
    fn first(time: Micros) -> Self {
        Last {
            was_deleted: false,
            put: None,
            handle: None,
            time,
        }
    }
}

/// Folds ops. The ops must be in stream order.
pub fn fold<'o>(ops: &[&'o Op<'o>]) -> Changes<'o> {
    let mut rows: HashMap<(Table, &str), Last> = HashMap::with_capacity(ops.len());
    for op in ops {
        let last = rows
            .entry((op.table, op.key.as_str()))
            .or_insert_with(|| Last::first(op.time));
        match &op.change {
            Change::Put(Row::Handle(handle)) => last.handle = Some(handle),
            Change::Put(row) => last.put = Some(row),
            Change::PutAsAbsent | Change::Delete => {
                last.was_deleted = true;
                last.put = None;
            }
        }
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_unstable_by_key(|(position, _)| *position);
    let mut changes = Changes::default();
    for ((table, key), last) in rows {
        push(&mut changes, table, key, &last);
    }
    changes
}

fn push<'o>(changes: &mut Changes<'o>, table: Table, key: &'o str, last: &Last<'o>) {
    if last.was_deleted
        && let Some(deleted) = changes.deleted(table)
    {
        deleted.push(key);
    }
    match (table, last.put) {
        (Table::Users, put) => changes.users.push(UserChange {
            did: key,
            time: last.time,
            handle: last.handle.map(|Handle(handle)| handle.as_str()),
            profile: match put {
                Some(Row::Profile(profile)) => Some(Some(profile)),
                _ if last.was_deleted => Some(None),
                _ => None,
            },
        }),
        (Table::Pair(table), Some(Row::Pair(row))) => changes.pairs[table as usize].put.push(row),
        (Table::Keyed(table), Some(Row::Keyed(row))) => {
            changes.keyed.entry(table).or_default().put.push((key, row));
        }
        (_, Some(Row::Post(post))) => changes.posts.put.push(post),
        // Unreachable: a table only has rows of its own kind.
        (_, Some(_) | None) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::entry::{EntryId, Position};
    use crate::rows::KEYED_TABLES;

    fn op(n: u64, key: &str, table: Table, change: Change<'static>) -> Op<'static> {
        Op {
            position: Position {
                entry: EntryId { ms: n, n: 0 },
                op: 0,
            },
            time: Micros(0),
            entry: 0,
            path: Cow::Borrowed(""),
            repo: Cow::Borrowed("did:plc:a"),
            key: key.into(),
            table,
            change,
        }
    }

    fn handle(name: &str) -> Change<'static> {
        Change::Put(Row::Handle(Handle(name.into())))
    }

    #[test]
    fn deletes_happen_even_where_a_put_follows_and_both_are_sorted() {
        let keyed = KEYED_TABLES[0];
        let row = || {
            Change::Put(Row::Keyed(Box::new(KeyedRow {
                table: keyed,
                values: Vec::new(),
                indexed_at: Micros(0),
            })))
        };
        let table = Table::Keyed(keyed);
        let ops = [
            op(1, "c", table, row()),
            op(2, "b", table, Change::Delete),
            op(3, "b", table, row()),
            op(4, "a", table, row()),
            op(5, "a", table, Change::Delete),
        ];
        let changes = fold(&ops.iter().collect::<Vec<_>>());
        let changes = &changes.keyed[keyed];
        assert_eq!(changes.deleted, ["a", "b"]);
        let put: Vec<_> = changes.put.iter().map(|(key, _)| *key).collect();
        assert_eq!(put, ["b", "c"]);
    }

    #[test]
    fn a_handle_and_a_profile_of_one_user_are_one_change() {
        let ops = [
            op(1, "did:plc:a", Table::Users, handle("old")),
            op(2, "did:plc:a", Table::Users, Change::Delete),
            op(3, "did:plc:a", Table::Users, handle("new")),
        ];
        let changes = fold(&ops.iter().collect::<Vec<_>>());
        assert_eq!(changes.users.len(), 1);
        assert_eq!(changes.users[0].handle, Some("new"));
        assert!(matches!(changes.users[0].profile, Some(None)));
    }
}
