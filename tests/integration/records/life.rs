//! The life of a record whose collection has rows of its own and hardly any effect elsewhere: created, repeated,
//! updated and deleted. After each step the whole database is compared.

use serde_json::{Value, json};

use super::{Expected, Record, any_seq_of_equals, with};
use crate::support::Stack;

/// When the AppView has indexed a row, for a test that the worker keeps this time or renews it.
const PAST: &str = "2020-01-01";

/// A record and what it must become.
pub(crate) struct Life {
    /// As it is created, and then created and updated once more with the same content.
    pub(crate) record: Record,
    /// The same record as its update leaves it.
    pub(crate) updated: Record,
    /// Another record of the collection, which must outlive the first.
    pub(crate) other: Record,
    /// The rows of such a record, its own row first, if the entry has this `seq`.
    pub(crate) rows: fn(&Record, u32) -> Vec<(&'static str, Value)>,
    /// Columns of the updated row that `rows` does not derive from the record.
    pub(crate) changes: Value,
    /// Columns that the AppView changes after the create, and that the update must keep.
    pub(crate) kept: Value,
    pub(crate) indexed_at: IndexedAt,
    /// The users that exist after the create.
    pub(crate) users: &'static [&'static str],
    /// The users that exist once it is updated and `other` created.
    pub(crate) users_later: &'static [&'static str],
}

/// What an update does with the time at which the row was indexed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum IndexedAt {
    /// The table has no such column.
    Absent,
    Kept,
    Renewed,
}

impl Life {
    #[track_caller]
    pub(crate) fn run(self, stack: &Stack) {
        let created = Expected::none().users(self.users);
        self.record.create(stack);
        stack.drain();
        self.rows_of(&self.record, 1, json!({}), created.clone()).assert(stack);

        self.change_as_the_appview(stack);
        self.record.create(stack);
        self.record.update(stack);
        stack.drain();
        any_seq_of_equals(stack, self.table(), 1);
        self.rows_of(&self.record, 1, self.kept.clone(), created).assert(stack);
        assert_eq!(self.indexed_in_the_past(stack), self.indexed_at != IndexedAt::Absent);

        let later = Expected::none().users(self.users_later);
        self.updated.update(stack);
        self.other.create(stack);
        stack.drain();
        let columns = with(self.kept.clone(), self.changes.clone());
        let updated = self.rows_of(&self.updated, 4, columns, later.clone());
        self.rows_of(&self.other, 5, json!({}), updated).assert(stack);
        assert_eq!(self.indexed_in_the_past(stack), self.indexed_at == IndexedAt::Kept);

        self.record.delete(stack);
        stack.drain();
        self.rows_of(&self.other, 5, json!({}), later).assert(stack);
    }

    fn table(&self) -> &'static str {
        (self.rows)(&self.record, 1)[0].0
    }

    /// Adds the rows of a record, with `columns` changed in its own row.
    fn rows_of(&self, record: &Record, seq: u32, columns: Value, expected: Expected) -> Expected {
        let mut rows = (self.rows)(record, seq);
        rows[0].1 = with(rows[0].1.take(), columns);
        rows.into_iter()
            .fold(expected, |expected, (table, row)| expected.row(table, row))
    }

    fn change_as_the_appview(&self, stack: &Stack) {
        let kept = self.kept.as_object().expect("columns of a row").iter();
        let mut columns: Vec<String> = kept.map(|(column, value)| format!("{column} = {value}")).collect();
        if self.indexed_at != IndexedAt::Absent {
            columns.push(format!("indexed_at = '{PAST}'"));
        }
        if !columns.is_empty() {
            stack.sql(&format!("UPDATE {} SET {}", self.table(), columns.join(", ")));
        }
    }

    fn indexed_in_the_past(&self, stack: &Stack) -> bool {
        let rows = format!("SELECT FROM {} WHERE indexed_at = '{PAST}'", self.table());
        self.indexed_at != IndexedAt::Absent && !stack.query(&rows).is_empty()
    }
}
