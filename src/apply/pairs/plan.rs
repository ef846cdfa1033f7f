//! Which of several live records of one pair holds the pair's row.
//!
//! Owns the rule: the first record in stream order holds the row and the others are remembered. When the holder is
//! deleted, the next one becomes the holder. This module is pure: given what is stored and what the batch puts, it
//! returns the rows to delete, update, insert and remember. `carry_out` carries this out.
//!
//! For example, Alice likes a post twice: record `a` at position 1, record `b` at position 2.
//!
//! | batch | stored before | the plan |
//! |---|---|---|
//! | creates `a` | nothing | none: `a` is inserted without a plan, and its position is not stored |
//! | creates `b` | row `a` | remembers `a`, the holder, and `b`, its rival; the row and `like_count` do not change |
//! | deletes `a` | row `a`; `a` and `b` remembered | the pair is freed: inserts `b`, now the holder |
//!
//! An update of `a` at position 3, instead of the delete, would delete the row of `a` and insert that of `b`: an update
//! counts as delete + create, so that `b` then comes first.
//!
//! The position of a record is that of its last create or update, because an update has the same effect as delete +
//! create. The position of a record that never had a rival is not stored; such a record precedes all its rivals. If
//! several processes apply the ops of one repo in any order, the record's version supplies the position.
//!
//! The holder of a pair that has rivals is remembered too. If the AppView deletes its row, only this entry reveals
//! which pair the record's delete frees.

use std::collections::{BTreeSet, HashMap};

use crate::entry::Position;
use crate::rows::{PairRow, PairTable};

/// The changes to make in one pair table.
#[derive(Debug, Default, PartialEq)]
pub struct Plan<'p> {
    /// Rows to delete, as they are stored.
    pub delete: Vec<&'p PairRow<'p>>,
    /// Stored row and its new values. The pair may change too, if no stored row holds the new pair.
    pub update: Vec<(&'p PairRow<'p>, &'p PairRow<'p>)>,
    pub insert: Vec<&'p PairRow<'p>>,
    /// Records to remember, with their positions.
    pub remember: Vec<(&'p PairRow<'p>, Position)>,
}

pub type Pair<'p> = (&'p str, &'p str);

/// Plans for `items`: the records that the batch puts and that could not simply be inserted.
///
/// A stored or remembered record that the table does not admit holds no pair. Its row is deleted when another record
/// meets its pair.
///
/// `stored` holds the table's rows with a URI or a pair of the items, with a pair of `freed`, or with a URI of
/// `remembered`. `remembered` holds the remembered records selected in the same way, and those with the old pairs of
/// items that are stored under another pair.
pub fn plan<'p>(
    table: PairTable,
    items: &[&'p PairRow<'p>],
    stored: &'p [PairRow<'p>],
    remembered: &'p [PairRow<'p>],
    freed: &[Pair<'p>],
) -> Plan<'p> {
    let planner = Planner {
        table,
        items: items.iter().map(|item| (item.uri.as_ref(), *item)).collect(),
        stored: stored.iter().map(|row| (row.uri.as_ref(), row)).collect(),
        holders: stored.iter().map(|row| (row.pair(), row)).collect(),
        remembered: remembered.iter().map(|row| (row.uri.as_ref(), row)).collect(),
    };
    let mut pairs: BTreeSet<Pair> = items.iter().map(|item| item.pair()).collect();
    pairs.extend(freed);
    pairs.extend(
        items
            .iter()
            .filter_map(|item| planner.stored.get(item.uri.as_ref()))
            .map(|row| row.pair()),
    );

    let mut contenders: HashMap<Pair, Vec<(Position, &'p PairRow<'p>)>> = HashMap::new();
    for item in items {
        contenders.entry(item.pair()).or_default().push((item.position, item));
    }
    for row in remembered {
        let is_superseded = planner.items.contains_key(row.uri.as_ref());
        // If its row has this pair, it is the holder. If the row has another pair, the record moved there and no
        // longer waits for this one.
        let has_row = planner.stored.contains_key(row.uri.as_ref());
        if !is_superseded && !has_row && table.admits(row) {
            contenders.entry(row.pair()).or_default().push((row.position, row));
        }
    }
    let mut plan = Plan::default();
    for pair in pairs {
        let contenders = contenders.remove(&pair).unwrap_or_default();
        planner.decide(pair, contenders, &mut plan);
    }
    plan
}

struct Planner<'p> {
    table: PairTable,
    items: HashMap<&'p str, &'p PairRow<'p>>,
    stored: HashMap<&'p str, &'p PairRow<'p>>,
    holders: HashMap<Pair<'p>, &'p PairRow<'p>>,
    remembered: HashMap<&'p str, &'p PairRow<'p>>,
}

impl<'p> Planner<'p> {
    /// Decides one pair among its contenders and the row that holds it, unless the batch puts that row again.
    fn decide(&self, pair: Pair<'p>, mut contenders: Vec<(Position, &'p PairRow<'p>)>, plan: &mut Plan<'p>) {
        let mut holder = self.holders.get(&pair).copied();
        if let Some(row) = holder.take_if(|row| !self.table.admits(row) && !self.items.contains_key(row.uri.as_ref())) {
            plan.delete.push(row);
        }
        if let Some(row) = holder.filter(|row| !self.items.contains_key(row.uri.as_ref())) {
            // A position in another pair does not apply to this one.
            let known = self
                .remembered
                .get(row.uri.as_ref())
                .filter(|known| known.pair() == pair);
            // Remembered values are complete; the table has no column for some of them.
            contenders.push(known.map_or((row.position, row), |known| (known.position, *known)));
        }
        contenders.sort_by_key(|&(position, row)| (position, &row.uri));
        let Some(&(position, winner)) = contenders.first() else {
            return;
        };
        self.give_row(winner, holder, plan);
        let is_item = |row: &PairRow| self.items.contains_key(row.uri.as_ref());
        let known = self.remembered.get(winner.uri.as_ref());
        let has_news = if is_item(winner) {
            contenders.len() > 1 || known.is_some()
        } else {
            contenders.len() > 1 && known.is_none_or(|known| known.pair() != pair)
        };
        if has_news {
            plan.remember.push((winner, position));
        }
        for &(position, loser) in &contenders[1..] {
            let is_holder = holder.is_some_and(|row| row.uri == loser.uri);
            if is_item(loser) || is_holder {
                plan.remember.push((loser, position));
            }
            if is_item(loser) {
                self.take_row(loser, pair, plan);
            }
        }
    }

    /// Gives the winner the pair's row.
    fn give_row(&self, winner: &'p PairRow<'p>, holder: Option<&'p PairRow<'p>>, plan: &mut Plan<'p>) {
        let own = self.stored.get(winner.uri.as_ref()).copied();
        match (own, holder) {
            (Some(own), Some(holder)) if own.uri == holder.uri => {
                if self.items.contains_key(winner.uri.as_ref()) {
                    plan.update.push((own, winner));
                }
                return;
            }
            // The winner's row has another pair, and no row holds this one: update the row in place.
            (Some(own), None) => {
                plan.update.push((own, winner));
                return;
            }
            (Some(own), Some(_)) => plan.delete.push(own),
            (None, _) => {}
        }
        // If the batch rewrites the holder, it is handled under its new pair.
        if let Some(holder) = holder
            && self
                .items
                .get(holder.uri.as_ref())
                .is_none_or(|item| item.pair() == holder.pair())
        {
            plan.delete.push(holder);
        }
        plan.insert.push(winner);
    }

    /// Deletes the row that a losing item has under another pair. A row under this pair is handled by `give_row`.
    fn take_row(&self, loser: &'p PairRow<'p>, pair: Pair<'p>, plan: &mut Plan<'p>) {
        if let Some(&own) = self.stored.get(loser.uri.as_ref()).filter(|own| own.pair() != pair) {
            plan.delete.push(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::HashSet;

    use super::*;
    use crate::entry::EntryId;
    use crate::micros::Micros;

    const LIKES: PairTable = PairTable::Likes;

    fn position(ms: u64) -> Position {
        Position {
            entry: EntryId { ms, n: 0 },
            op: 0,
        }
    }

    fn row(uri: &'static str, subject: &'static str, ms: u64) -> PairRow<'static> {
        PairRow {
            uri: Cow::Borrowed(uri),
            key_a: Cow::Borrowed("did:plc:a"),
            key_b: Cow::Borrowed(subject),
            created_at: Micros(0),
            indexed_at: Micros(0),
            cid: Cow::Borrowed("c"),
            subject_cid: None,
            via: None,
            commit_seq: None,
            handle: None,
            verified_at: None,
            position: position(ms),
        }
    }

    fn uris<'a>(rows: &[&PairRow<'a>]) -> Vec<String> {
        rows.iter().map(|row| row.uri.to_string()).collect()
    }

    #[test]
    fn a_second_record_of_a_pair_is_remembered_and_so_is_the_holder() {
        let (b, stored) = (row("b", "x", 2), [row("a", "x", 0)]);
        let plan = plan(LIKES, &[&b], &stored, &[], &[]);
        assert_eq!(plan.remember, [(&stored[0], position(0)), (&b, position(2))]);
        assert!(plan.delete.is_empty() && plan.insert.is_empty() && plan.update.is_empty());
    }

    #[test]
    fn the_next_in_stream_order_takes_a_freed_pair() {
        let remembered = [row("c", "x", 3), row("b", "x", 2)];
        let freed = [("did:plc:a", "x")];
        let plan = plan(LIKES, &[], &[], &remembered, &freed);
        assert_eq!(uris(&plan.insert), ["b"]);
        assert!(plan.remember.is_empty(), "its position is known already");
    }

    #[test]
    fn a_holder_put_again_goes_behind_its_rivals() {
        let (a, stored, remembered) = (row("a", "x", 3), [row("a", "x", 0)], [row("b", "x", 2)]);
        let plan = plan(LIKES, &[&a], &stored, &remembered, &[]);
        assert_eq!(uris(&plan.delete), ["a"]);
        assert_eq!(uris(&plan.insert), ["b"]);
        assert_eq!(plan.remember, [(&a, position(3))]);
    }

    #[test]
    fn a_holder_delivered_again_keeps_its_row() {
        let (a, stored, remembered) = (row("a", "x", 1), [row("a", "x", 0)], [row("b", "x", 2)]);
        let plan = plan(LIKES, &[&a], &stored, &remembered, &[]);
        assert!(plan.delete.is_empty() && plan.insert.is_empty());
        assert_eq!(plan.update, [(&stored[0], &a)]);
    }

    #[test]
    fn an_earlier_record_delivered_again_displaces_a_later_one() {
        let (y, stored, remembered) = (row("y", "x", 2), [row("x1", "x", 0)], [row("x1", "x", 5)]);
        let plan = plan(LIKES, &[&y], &stored, &remembered, &[]);
        assert_eq!(uris(&plan.delete), ["x1"]);
        assert_eq!(uris(&plan.insert), ["y"]);
        assert_eq!(plan.remember, [(&y, position(2)), (&remembered[0], position(5))]);
    }

    #[test]
    fn a_record_that_changes_its_subject_moves_its_row_and_frees_the_old_pair() {
        let (a, stored, remembered) = (row("a", "new", 3), [row("a", "old", 0)], [row("b", "old", 2)]);
        let plan = plan(LIKES, &[&a], &stored, &remembered, &[]);
        assert_eq!(plan.update, [(&stored[0], &a)]);
        assert_eq!(uris(&plan.insert), ["b"]);
        assert!(plan.delete.is_empty() && plan.remember.is_empty());
    }

    #[test]
    fn a_record_that_moves_to_a_held_pair_loses_its_row() {
        let (a, stored) = (row("a", "new", 3), [row("a", "old", 0), row("h", "new", 0)]);
        let plan = plan(LIKES, &[&a], &stored, &[], &[]);
        assert_eq!(uris(&plan.delete), ["a"]);
        assert_eq!(plan.remember, [(&stored[1], position(0)), (&a, position(3))]);
    }

    #[test]
    fn a_position_in_another_pair_says_nothing_about_this_one() {
        let (b, stored, remembered) = (row("b", "x", 2), [row("a", "x", 0)], [row("a", "q", 4)]);
        let plan = plan(LIKES, &[&b], &stored, &remembered, &[]);
        assert!(plan.insert.is_empty());
        assert_eq!(plan.remember, [(&stored[0], position(0)), (&b, position(2))]);
    }

    #[test]
    fn a_remembered_record_that_has_moved_waits_no_more() {
        let (stored, remembered) = ([row("b", "q", 0)], [row("b", "x", 2)]);
        let freed = [("did:plc:a", "x")];
        assert_eq!(plan(LIKES, &[], &stored, &remembered, &freed), Plan::default());
    }

    #[test]
    fn an_item_of_somebody_elses_list_makes_room_for_the_owners_and_goes_with_it() {
        let item = |repo: &str, ms| PairRow {
            uri: Cow::Owned(format!("at://{repo}/app.bsky.graph.listitem/i")),
            key_a: Cow::Borrowed("at://did:plc:owner/app.bsky.graph.list/l"),
            ..row("", "did:plc:member", ms)
        };
        let (own, stored) = (item("did:plc:owner", 2), [item("did:plc:stranger", 0)]);
        let waiting = [item("did:plc:another", 1)];
        let put = plan(PairTable::ListItems, &[&own], &stored, &waiting, &[]);
        assert_eq!((put.delete, put.insert), (vec![&stored[0]], vec![&own]));
        let freed = [own.pair()];
        let deleted = plan(PairTable::ListItems, &[], &stored, &waiting, &freed);
        assert_eq!((deleted.delete, deleted.insert), (vec![&stored[0]], vec![]));
    }

    #[test]
    fn two_records_that_swap_their_subjects_both_keep_a_row() {
        let (a, b) = (row("a", "y", 3), row("b", "x", 4));
        let stored = [row("a", "x", 0), row("b", "y", 0)];
        let plan = plan(LIKES, &[&a, &b], &stored, &[], &[]);
        let deleted: HashSet<String> = uris(&plan.delete).into_iter().collect();
        let inserted: HashSet<String> = uris(&plan.insert).into_iter().collect();
        assert_eq!(deleted, HashSet::from(["a".into(), "b".into()]));
        assert_eq!(inserted, deleted);
        assert!(plan.update.is_empty());
    }
}
