//! Which of several live records of one pair holds the pair's row.
//!
//! Owns the rule: the first in stream order does, the others are remembered, and when the holder goes the
//! next takes its place. Pure: given what is stored and what the batch puts, it says which rows to delete, update,
//! insert and remember. `settle` does so.
//!
//! The place of a record is that of its last create or update, since the state after it is that of delete + create. A
//! record that never had a rival has no place written down; it came before every rival of its. Where several processes
//! apply ops of one repo, in any order, its version tells its place.
//!
//! The holder of a pair that has rivals is remembered too: if the app deletes its row, only that tells the pair that its
//! delete frees.

use std::collections::{BTreeSet, HashMap};

use crate::entry::Position;
use crate::rows::{PairRow, PairTable};

/// What to do in a table of pairs.
#[derive(Debug, Default, PartialEq)]
pub struct Plan<'p> {
    /// Rows to delete, as they are stored.
    pub delete: Vec<&'p PairRow<'p>>,
    /// Stored row and its new values; the pair may change too, if nothing stored holds the new one.
    pub update: Vec<(&'p PairRow<'p>, &'p PairRow<'p>)>,
    pub insert: Vec<&'p PairRow<'p>>,
    /// Records to remember with their places.
    pub remember: Vec<(&'p PairRow<'p>, Position)>,
}

pub type Pair<'p> = (&'p str, &'p str);

/// Plans for `items`, the records that the batch puts and that could not simply be inserted.
///
/// A stored or remembered record that the table does not admit holds no pair: its row is deleted when its pair is met.
///
/// `stored` are the table's rows with a URI or a pair of the items, or a pair of `freed`, or a URI of `remembered`;
/// `remembered` the remembered records likewise, and those with the old pairs of items that are stored under another.
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
        // A row of this pair makes it the holder; of another, it has moved there and waits for this pair no more.
        let has_row = planner.stored.contains_key(row.uri.as_ref());
        if !is_superseded && !has_row && table.admits(row) {
            contenders.entry(row.pair()).or_default().push((row.position, row));
        }
    }
    let mut plan = Plan::default();
    for pair in pairs {
        let contenders = contenders.remove(&pair).unwrap_or_default();
        planner.settle(pair, contenders, &mut plan);
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
    /// Decides one pair among its contenders and, unless the batch puts it anew, the row that holds it.
    fn settle(&self, pair: Pair<'p>, mut contenders: Vec<(Position, &'p PairRow<'p>)>, plan: &mut Plan<'p>) {
        let mut holder = self.holders.get(&pair).copied();
        if let Some(row) = holder.take_if(|row| !self.table.admits(row) && !self.items.contains_key(row.uri.as_ref())) {
            plan.delete.push(row);
        }
        if let Some(row) = holder.filter(|row| !self.items.contains_key(row.uri.as_ref())) {
            // A place in another pair says nothing here.
            let known = self
                .remembered
                .get(row.uri.as_ref())
                .filter(|known| known.pair() == pair);
            // Remembered values are whole: the table has no column for some of them.
            contenders.push(known.map_or((row.position, row), |known| (known.position, *known)));
        }
        contenders.sort_by_key(|&(place, row)| (place, &row.uri));
        let Some(&(place, winner)) = contenders.first() else {
            return;
        };
        self.seat(winner, holder, plan);
        let is_item = |row: &PairRow| self.items.contains_key(row.uri.as_ref());
        let known = self.remembered.get(winner.uri.as_ref());
        let has_news = if is_item(winner) {
            contenders.len() > 1 || known.is_some()
        } else {
            contenders.len() > 1 && known.is_none_or(|known| known.pair() != pair)
        };
        if has_news {
            plan.remember.push((winner, place));
        }
        for &(place, loser) in &contenders[1..] {
            let is_holder = holder.is_some_and(|row| row.uri == loser.uri);
            if is_item(loser) || is_holder {
                plan.remember.push((loser, place));
            }
            if is_item(loser) {
                self.unseat(loser, pair, plan);
            }
        }
    }

    /// Gives the winner the pair's row.
    fn seat(&self, winner: &'p PairRow<'p>, holder: Option<&'p PairRow<'p>>, plan: &mut Plan<'p>) {
        let own = self.stored.get(winner.uri.as_ref()).copied();
        match (own, holder) {
            (Some(own), Some(holder)) if own.uri == holder.uri => {
                if self.items.contains_key(winner.uri.as_ref()) {
                    plan.update.push((own, winner));
                }
                return;
            }
            // Its row is of another pair, and nothing holds this one: the row moves over.
            (Some(own), None) => {
                plan.update.push((own, winner));
                return;
            }
            (Some(own), Some(_)) => plan.delete.push(own),
            (None, _) => {}
        }
        // A holder that the batch puts is dealt with under the pair that it is put to.
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

    /// Takes the row that a losing item has under another pair; under this one, `seat` did.
    fn unseat(&self, loser: &'p PairRow<'p>, pair: Pair<'p>, plan: &mut Plan<'p>) {
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

    fn place(ms: u64) -> Position {
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
            position: place(ms),
        }
    }

    fn uris<'a>(rows: &[&PairRow<'a>]) -> Vec<String> {
        rows.iter().map(|row| row.uri.to_string()).collect()
    }

    #[test]
    fn a_second_record_of_a_pair_is_remembered_and_so_is_the_holder() {
        let (b, stored) = (row("b", "x", 2), [row("a", "x", 0)]);
        let plan = plan(LIKES, &[&b], &stored, &[], &[]);
        assert_eq!(plan.remember, [(&stored[0], place(0)), (&b, place(2))]);
        assert!(plan.delete.is_empty() && plan.insert.is_empty() && plan.update.is_empty());
    }

    #[test]
    fn the_next_in_stream_order_takes_a_freed_pair() {
        let remembered = [row("c", "x", 3), row("b", "x", 2)];
        let freed = [("did:plc:a", "x")];
        let plan = plan(LIKES, &[], &[], &remembered, &freed);
        assert_eq!(uris(&plan.insert), ["b"]);
        assert!(plan.remember.is_empty(), "its place is known already");
    }

    #[test]
    fn a_holder_put_again_goes_behind_its_rivals() {
        let (a, stored, remembered) = (row("a", "x", 3), [row("a", "x", 0)], [row("b", "x", 2)]);
        let plan = plan(LIKES, &[&a], &stored, &remembered, &[]);
        assert_eq!(uris(&plan.delete), ["a"]);
        assert_eq!(uris(&plan.insert), ["b"]);
        assert_eq!(plan.remember, [(&a, place(3))]);
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
        assert_eq!(plan.remember, [(&y, place(2)), (&remembered[0], place(5))]);
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
        assert_eq!(plan.remember, [(&stored[1], place(0)), (&a, place(3))]);
    }

    #[test]
    fn a_place_in_another_pair_says_nothing_about_this_one() {
        let (b, stored, remembered) = (row("b", "x", 2), [row("a", "x", 0)], [row("a", "q", 4)]);
        let plan = plan(LIKES, &[&b], &stored, &remembered, &[]);
        assert!(plan.insert.is_empty());
        assert_eq!(plan.remember, [(&stored[0], place(0)), (&b, place(2))]);
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
