//! Several live records of one pair, of which the table can hold one.
//!
//! The first live record in stream order has the row and every side effect. When it is deleted, the next one replaces
//! it with its own values. Each history is played for every kind of pair, at once and entry by entry.

use serde_json::{Value, json};

use crate::records::*;
use crate::support::Stack;

/// Which of two subjects a record is about.
#[derive(Clone, Copy)]
enum Subject {
    One,
    Two,
}
use Subject::{One, Two};

impl Subject {
    fn post(self, rkey: &str) -> Record {
        match self {
            One => post(ALICE, &format!("{rkey}1"), "one"),
            Two => post(ALICE, &format!("{rkey}2"), "two"),
        }
    }

    fn did(self) -> &'static str {
        match self {
            One => CAROL,
            Two => DAVE,
        }
    }

    fn list(self) -> Record {
        match self {
            One => list(ALICE, "one"),
            Two => list(ALICE, "two"),
        }
    }
}

/// The kinds whose pair has one actor, so that the stream determines which record comes first.
const KINDS: [&str; 6] = [LIKE, REPOST, BOOKMARK, FOLLOW, BLOCK, LISTBLOCK];

/// Bob's record of that kind. The one called `a` is older than the others, so that their values differ.
fn record(kind: &str, rkey: &str, subject: Subject) -> Record {
    let record = match kind {
        LIKE => like(BOB, rkey, &subject.post("like")),
        REPOST => repost(BOB, rkey, &subject.post("repost")),
        BOOKMARK => bookmark(BOB, rkey, &subject.post("bookmark")),
        FOLLOW => follow(BOB, rkey, subject.did()),
        BLOCK => block(BOB, rkey, subject.did()),
        _ => list_block(BOB, rkey, &subject.list()),
    };
    if rkey == "a" {
        record
    } else {
        record.with(json!({"createdAt": LATER}))
    }
}

/// One step of a history: what becomes of the record with that rkey.
enum Step {
    Put(&'static str, Subject),
    Delete(&'static str),
}
use Step::{Delete, Put};

impl Step {
    fn op(&self, kind: &str) -> Value {
        match self {
            Put(rkey, subject) => record(kind, rkey, *subject).op("create"),
            Delete(rkey) => record(kind, rkey, One).delete_op(),
        }
    }
}

/// The seq of the entry that plays a step (counted from one) for the kind at this index.
fn seq(step: u32, kind_index: usize) -> u32 {
    let n_kinds = u32::try_from(KINDS.len()).expect("a few");
    (step - 1) * n_kinds + u32::try_from(kind_index).expect("a few") + 1
}

/// A record that must hold the row of its pair, with the seq of the step that put it.
struct Holder(&'static str, Subject, u32);

impl Holder {
    fn rows(&self, expected: Expected, kind_index: usize) -> Expected {
        let Self(rkey, subject, step) = self;
        let kind = KINDS[kind_index];
        let record = record(kind, rkey, *subject);
        let seq = seq(*step, kind_index);
        match kind {
            LIKE => expected.only_like(&record, &subject.post("like"), seq),
            REPOST => expected.only_repost(&record, &subject.post("repost"), seq),
            BOOKMARK => expected.only_bookmark(&record, &subject.post("bookmark")),
            FOLLOW => expected.follow(&record, seq),
            BLOCK => expected.row("blocks", block_row(&record, seq)),
            _ => expected.row("list_blocks", list_block_row(&record)),
        }
    }
}

/// Plays `history` for every kind and compares the whole database.
#[track_caller]
fn rivals(name: &str, history: &[Step], holders: &[Holder]) {
    let met_two = history.iter().any(|step| matches!(step, Put(_, Two)));
    let mut expected = Expected::none()
        .users(&[BOB, CAROL])
        .users(if met_two { &[DAVE] } else { &[] });
    for kind_index in 0..KINDS.len() {
        expected = holders
            .iter()
            .fold(expected, |expected, holder| holder.rows(expected, kind_index));
    }
    both_ways_give(name, expected, |stack, step_done| {
        for step in history {
            for kind in KINDS {
                stack.push("commit", commit(BOB, vec![step.op(kind)]));
            }
            step_done();
        }
    });
}

#[test]
fn the_first_record_of_a_pair_holds_the_row_and_every_side_effect() {
    rivals("rivals_first", &[Put("a", One), Put("b", One)], &[Holder("a", One, 1)]);
}

#[test]
fn the_second_record_takes_over_with_its_own_values_when_the_first_is_deleted() {
    rivals(
        "rivals_promotion",
        &[Put("a", One), Put("b", One), Delete("a")],
        &[Holder("b", One, 2)],
    );
}

#[test]
fn the_delete_of_a_record_that_does_not_hold_the_row_changes_no_row() {
    rivals(
        "rivals_delete",
        &[Put("a", One), Put("b", One), Delete("b")],
        &[Holder("a", One, 1)],
    );
}

#[test]
fn a_deleted_rival_does_not_come_back() {
    let history = [Put("a", One), Put("b", One), Delete("b"), Delete("a")];
    rivals("rivals_gone", &history, &[]);
}

#[test]
fn after_the_delete_of_both_records_nothing_is_left() {
    rivals(
        "rivals_both",
        &[Put("a", One), Put("b", One), Delete("a"), Delete("b")],
        &[],
    );
}

#[test]
fn the_third_record_follows_the_second() {
    let history = [Put("a", One), Put("b", One), Put("c", One), Delete("a"), Delete("b")];
    rivals("rivals_three", &history, &[Holder("c", One, 3)]);
}

#[test]
fn of_two_rivals_the_one_that_came_first_takes_over() {
    let history = [Put("a", One), Put("c", One), Put("b", One), Delete("a")];
    rivals("rivals_order", &history, &[Holder("c", One, 2)]);
}

#[test]
fn a_holder_that_moves_to_another_subject_makes_room() {
    let history = [Put("a", One), Put("b", One), Put("a", Two)];
    rivals(
        "rivals_holder_moves",
        &history,
        &[Holder("b", One, 2), Holder("a", Two, 3)],
    );
}

#[test]
fn a_rival_that_moves_to_another_subject_has_its_own_row_there() {
    let history = [Put("a", One), Put("b", One), Put("b", Two)];
    rivals(
        "rivals_rival_moves",
        &history,
        &[Holder("a", One, 1), Holder("b", Two, 3)],
    );
}

#[test]
fn a_rival_that_has_moved_does_not_take_over_where_it_was() {
    let history = [Put("a", One), Put("b", One), Put("b", Two), Delete("a")];
    rivals("rivals_rival_moved_away", &history, &[Holder("b", Two, 3)]);
}

#[test]
fn a_holder_that_was_deleted_and_created_again_comes_last() {
    let history = [Put("a", One), Put("b", One), Delete("a"), Put("a", One)];
    rivals("rivals_recreated", &history, &[Holder("b", One, 2)]);
}

#[test]
fn a_holder_that_was_created_again_takes_over_in_its_turn() {
    let history = [Put("a", One), Put("b", One), Delete("a"), Put("a", One), Delete("b")];
    rivals("rivals_recreated_turn", &history, &[Holder("a", One, 4)]);
}

#[test]
fn a_holder_that_moved_away_and_back_comes_last() {
    let history = [Put("a", One), Put("b", One), Put("a", Two), Put("a", One)];
    rivals("rivals_away_and_back", &history, &[Holder("b", One, 2)]);
    let history = [Put("a", One), Put("b", One), Put("a", Two), Put("a", One), Delete("b")];
    rivals("rivals_away_and_back_turn", &history, &[Holder("a", One, 4)]);
}

#[test]
fn a_record_that_moves_to_a_pair_that_is_taken_becomes_its_rival() {
    let history = [Put("a", One), Put("b", Two), Put("b", One)];
    rivals("rivals_moves_in", &history, &[Holder("a", One, 1)]);
    let history = [Put("a", One), Put("b", Two), Put("b", One), Delete("a")];
    rivals("rivals_moves_in_promoted", &history, &[Holder("b", One, 3)]);
}

#[test]
fn after_repeats_of_both_records_the_delete_of_one_leaves_the_other() {
    let stacks = in_one_batch_and_entry_by_entry("rivals_repeated", |stack, step| {
        for rkey in ["a", "b", "a", "b"] {
            for kind in KINDS {
                record(kind, rkey, One).create(stack);
            }
            step();
        }
        // Either may hold the row by then, so what is compared is what is left when both readings agree.
        for kind in KINDS {
            record(kind, "a", One).delete(stack);
        }
    });
    for stack in stacks {
        for (kind_index, table) in [(0, "likes"), (1, "reposts"), (3, "follows"), (4, "blocks")] {
            any_seq_of_equals(&stack, table, seq(2, kind_index));
        }
        let mut expected = Expected::none().users(&[BOB, CAROL]);
        for kind_index in 0..KINDS.len() {
            expected = Holder("b", One, 2).rows(expected, kind_index);
        }
        expected.assert(&stack);
    }
}

#[test]
fn a_promotion_outlives_the_process_that_remembered_the_rival() {
    let stack = Stack::new("rivals_restart");
    let subject = post(ALICE, "p", "hello");
    let (first, second) = (like(BOB, "a", &subject), like(BOB, "b", &subject));
    for push in [first.op("create"), second.op("create"), first.delete_op()] {
        stack.push("commit", commit(BOB, vec![push]));
        stack.drain();
    }
    Expected::none()
        .users(&[BOB])
        .only_like(&second, &subject, 2)
        .assert(&stack);
}

// List items, whose pair is not of the actor, and verifications, whose pair may have several actors.

/// Two records of one pair, by the same actor and by two.
fn open_pairs() -> Vec<[Record; 2]> {
    let list = list(ALICE, "l");
    vec![
        [
            list_item(ALICE, "a", &list, CAROL),
            list_item(ALICE, "b", &list, CAROL).with(json!({"createdAt": LATER})),
        ],
        [
            verification(ALICE, "a", CAROL),
            verification(ALICE, "b", CAROL).with(json!({"createdAt": LATER})),
        ],
        [
            verification(ALICE, "a", DAVE),
            verification(BOB, "b", DAVE).with(json!({"createdAt": LATER})),
        ],
    ]
}

fn open_row(expected: Expected, record: &Record) -> Expected {
    match record.collection {
        LISTITEM => expected.row("list_items", list_item_row(record)),
        _ => expected.row("verifications", verification_row(record)),
    }
}

/// Plays for every open pair: both are created, then those at `deleted` are deleted.
#[track_caller]
fn open_rivals(name: &str, deleted: &[usize]) {
    let mut expected = Expected::none().users(&[ALICE, BOB, CAROL]);
    for pair in open_pairs_with_distinct_keys() {
        let left: Vec<&Record> = (0..2).filter(|n| !deleted.contains(n)).map(|n| &pair[n]).collect();
        expected = left.into_iter().fold(expected, open_row);
    }
    both_ways_give(name, expected, |stack, step| {
        for n in 0..2 {
            open_pairs_with_distinct_keys().iter().for_each(|pair| {
                pair[n].create(stack);
            });
            step();
        }
        for n in deleted {
            open_pairs_with_distinct_keys().iter().for_each(|pair| {
                pair[*n].delete(stack);
            });
            step();
        }
    });
}

/// The pairs of `open_pairs`, whose records must not share a URI with those of another pair.
fn open_pairs_with_distinct_keys() -> Vec<[Record; 2]> {
    let rename = |record: Record, n: usize| {
        Record::new(
            &record.repo,
            record.collection,
            &format!("{}{n}", record.rkey),
            record.value,
        )
    };
    open_pairs()
        .into_iter()
        .enumerate()
        .map(|(n, pair)| pair.map(|record| rename(record, n)))
        .collect()
}

#[test]
fn one_of_the_records_of_an_open_pair_holds_the_row() {
    let stack = Stack::new("rivals_open");
    let pairs = open_pairs_with_distinct_keys();
    pairs.iter().flatten().for_each(|record| {
        record.create(&stack);
    });
    stack.drain();
    let rows = [stack.rows("list_items"), stack.rows("verifications")].concat();
    for [first, second] in &pairs {
        let candidates = [first.uri(), second.uri()];
        let held = rows
            .iter()
            .filter(|row| candidates.contains(&text_of(row, "uri")))
            .count();
        assert_eq!(held, 1, "rows of {candidates:?} among {rows:?}");
    }
    assert_eq!(rows.len(), pairs.len());
}

#[test]
fn the_second_record_of_an_open_pair_is_there_when_the_first_is_deleted() {
    open_rivals("rivals_open_first", &[0]);
}

#[test]
fn the_first_record_of_an_open_pair_is_there_when_the_second_is_deleted() {
    open_rivals("rivals_open_second", &[1]);
}

#[test]
fn nothing_is_left_of_an_open_pair_when_both_are_deleted() {
    open_rivals("rivals_open_both", &[0, 1]);
    open_rivals("rivals_open_both_reversed", &[1, 0]);
}

#[test]
fn a_record_that_leaves_an_open_pair_makes_room_for_the_other() {
    let moved = |record: &Record| match record.collection {
        LISTITEM => record.with(json!({"list": list(&record.repo, &record.rkey).uri()})),
        _ => record.with(json!({"subject": format!("did:web:{}.example", record.rkey)})),
    };
    let pairs = open_pairs_with_distinct_keys();
    let mut expected = Expected::none().users(&[ALICE, BOB, CAROL]);
    for [first, second] in &pairs {
        expected = open_row(open_row(expected, &moved(first)), second);
    }
    both_ways_give("rivals_open_moved", expected, |stack, step| {
        pairs.iter().flatten().for_each(|record| {
            record.create(stack);
        });
        step();
        pairs.iter().for_each(|[first, _]| {
            moved(first).update(stack);
        });
    });
}
