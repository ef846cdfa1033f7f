//! Every history of four ops of two records that meet in a pair, against a model of a few lines.
//!
//! An op creates one of two records about one of two subjects, or deletes it. The model keeps the live records in their
//! order; the first of each subject holds the row. The states after one, two and three ops are checked on the way,
//! where the worker sees the ops one by one.
//!
//! The AppView does not define whether a record that is created again unchanged keeps its position or moves to the end.
//! The model therefore knows both readings, and all histories must follow the same one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::records::*;
use crate::support::{Stack, assert_same, entries};

const N_OPS: usize = 4;

/// An op: of record 0 or 1, a create about subject 0 or 1, or a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Op {
    record: usize,
    subject: Option<usize>,
}

fn histories() -> Vec<Vec<Op>> {
    let ops: Vec<Op> = (0..2)
        .flat_map(|record| [Some(0), Some(1), None].map(|subject| Op { record, subject }))
        .collect();
    let mut histories = vec![Vec::new()];
    for _ in 0..N_OPS {
        histories = histories
            .iter()
            .flat_map(|history: &Vec<Op>| ops.iter().map(|op| [history.as_slice(), &[*op]].concat()))
            .collect();
    }
    histories
}

/// What happens to the position of a record that is created again unchanged.
#[derive(Clone, Copy, Debug)]
enum Repeat {
    KeepsItsPlace,
    ComesLast,
}

/// The live records and their subjects in the order in which they may hold a row.
fn live_after(history: &[Op], repeat: Repeat) -> Vec<(usize, usize)> {
    let mut live: Vec<(usize, usize)> = Vec::new();
    for op in history {
        let is_repeat = op.subject.is_some_and(|subject| live.contains(&(op.record, subject)));
        if is_repeat && matches!(repeat, Repeat::KeepsItsPlace) {
            continue;
        }
        live.retain(|(record, _)| *record != op.record);
        live.extend(op.subject.map(|subject| (op.record, subject)));
    }
    live
}

/// The first live record of each subject.
fn holders_after(history: &[Op], repeat: Repeat) -> BTreeMap<usize, usize> {
    let mut holders = BTreeMap::new();
    for (record, subject) in live_after(history, repeat) {
        holders.entry(subject).or_insert(record);
    }
    holders
}

/// How the records of one history are made; `n` is the number of the history, which shares nothing with the others.
type Make = fn(n: usize, record: usize, subject: usize) -> Record;

fn op_data(make: Make, n: usize, op: Op) -> Value {
    let record = make(n, op.record, op.subject.unwrap_or(0));
    let op = if op.subject.is_some() {
        record.op("create")
    } else {
        record.delete_op()
    };
    commit(&record.repo, vec![op])
}

/// Pushes the op at `step` of every history; answers the last entry's ID.
fn push_step(stack: &Stack, make: Make, step: usize) -> String {
    let push = |(n, history): (usize, &Vec<Op>)| stack.push("commit", op_data(make, n, history[step]));
    histories()
        .iter()
        .enumerate()
        .map(push)
        .last()
        .expect("there are histories")
}

/// Plays all histories at once and one by one, with `check` after every step; then once more as redelivered entries, of
/// the whole stream and from each step on.
fn play(name: &str, make: Make, check: impl Fn(&Stack, usize)) -> [Stack; 2] {
    let together = Stack::new(&format!("{name}_together"));
    let apart = Stack::new(&format!("{name}_apart"));
    let mut ends = Vec::new();
    for step in 0..N_OPS {
        push_step(&together, make, step);
        ends.push(push_step(&apart, make, step));
        apart.drain();
        check(&apart, step + 1);
    }
    together.drain();
    check(&together, N_OPS);
    together.redeliver();
    together.drain();
    check(&together, N_OPS);
    for id in ["0"].into_iter().chain(ends[..N_OPS - 1].iter().map(String::as_str)) {
        redeliver_after(&apart, id);
        apart.drain();
        check(&apart, N_OPS);
    }
    [together, apart]
}

/// A like by an account that does nothing else.
fn make_like(n: usize, record: usize, subject: usize) -> Record {
    let subject = post(ALICE, ["one", "two"][subject], "hello");
    like(&entries::did(&format!("liker {n}")), ["a", "b"][record], &subject)
}

fn uris(stack: &Stack, query: &str) -> BTreeSet<String> {
    stack.query(query).iter().map(|row| text_of(row, "uri")).collect()
}

/// The likes that hold a row, each with its subject, after so many ops of every history.
fn likes_after(n_ops: usize, repeat: Repeat) -> BTreeSet<String> {
    let mut likes = BTreeSet::new();
    for (history, n) in histories().iter().zip(0..) {
        for (subject, record) in holders_after(&history[..n_ops], repeat) {
            let like = make_like(n, record, subject);
            likes.insert(format!("{} of {}", like.uri(), text_of(&like.value["subject"], "uri")));
        }
    }
    likes
}

/// The ops of the first few histories whose likes are not those of the model.
fn first_differences(found: &BTreeSet<String>, expected: &BTreeSet<String>, n_ops: usize) -> Vec<String> {
    let liker = |n: usize| entries::did(&format!("liker {n}"));
    let differ = |n: usize| expected.symmetric_difference(found).any(|uri| uri.contains(&liker(n)));
    let shown = |(n, history): (usize, &Vec<Op>)| format!("\n  {} did {:?}", liker(n), &history[..n_ops]);
    histories()
        .iter()
        .enumerate()
        .filter(|(n, _)| differ(*n))
        .take(3)
        .map(shown)
        .collect()
}

#[test]
fn likes_of_one_pair_follow_the_model_after_every_op() {
    let follows = RefCell::new([Repeat::KeepsItsPlace, Repeat::ComesLast].to_vec());
    let check = |stack: &Stack, n_ops: usize| {
        stack.assert_all_acknowledged();
        stack.assert_counters_equal_rows();
        let likes = uris(stack, "SELECT uri || ' of ' || post_uri AS uri FROM likes");
        let differences: Vec<String> = follows
            .borrow()
            .iter()
            .map(|repeat| first_differences(&likes, &likes_after(n_ops, *repeat), n_ops).concat())
            .collect();
        follows
            .borrow_mut()
            .retain(|repeat| likes_after(n_ops, *repeat) == likes);
        assert!(
            !follows.borrow().is_empty(),
            "after {n_ops} ops, by either reading:{}",
            differences.join("\nor")
        );
        let side_effects = [
            "SELECT like_uri || ' of ' || post_uri AS uri FROM post_viewer_states WHERE like_uri IS NOT NULL",
            "SELECT replace(uri, '#notification', '') || ' of ' || reason_subject AS uri FROM notifications",
        ];
        for query in side_effects {
            let differences = first_differences(&uris(stack, query), &likes, n_ops);
            assert!(
                differences.is_empty(),
                "after {n_ops} ops not the likes: {query}{}",
                differences.concat()
            );
        }
    };
    let [together, apart] = play("pairs_like", make_like, check);
    assert_same(&together.snapshot(), &apart.snapshot());
}

/// Verifications of one subject by two actors.
fn make_verification(n: usize, record: usize, subject: usize) -> Record {
    let actor = entries::did(&format!("actor {record} of {n}"));
    verification(&actor, "v", &entries::did(&format!("subject {subject} of {n}")))
}

/// Items of one list about one subject.
fn make_list_item(n: usize, record: usize, subject: usize) -> Record {
    let owner = entries::did(&format!("actor of {n}"));
    let list = list(&owner, &format!("l{subject}"));
    let member = entries::did(&format!("member {n}"));
    list_item(&owner, ["a", "b"][record], &list, &member)
}

/// Where the actors differ, any live record of a pair may hold its row, and one of them does.
fn check_open(stack: &Stack, n_ops: usize, make: Make, table: &str) {
    stack.assert_all_acknowledged();
    let found = uris(stack, &format!("SELECT uri || ' ' || subject_did AS uri FROM {table}"));
    let mut n_pairs = 0;
    for (history, n) in histories().iter().zip(0..) {
        let live = live_after(&history[..n_ops], Repeat::KeepsItsPlace);
        for subject in 0..2 {
            let of_subject: Vec<Record> = live
                .iter()
                .filter(|(_, of)| *of == subject)
                .map(|(record, _)| make(n, *record, subject))
                .collect();
            n_pairs += usize::from(!of_subject.is_empty());
            let held = of_subject
                .iter()
                .filter(|record| found.contains(&format!("{} {}", record.uri(), text_of(&record.value, "subject"))))
                .count();
            assert_eq!(
                held.min(1),
                of_subject.len().min(1),
                "{table}, history {n} up to {n_ops}: {history:?}; live: {:?}",
                of_subject.iter().map(Record::uri).collect::<Vec<_>>(),
            );
        }
    }
    assert_eq!(
        found.len(),
        n_pairs,
        "rows of {table} and pairs with a live record after {n_ops} ops"
    );
}

#[test]
fn verifications_of_one_subject_have_a_row_of_a_live_record_after_every_op() {
    play("pairs_verification", make_verification, |stack, n_ops| {
        check_open(stack, n_ops, make_verification, "verifications");
    });
}

#[test]
fn list_items_of_one_pair_have_a_row_of_a_live_record_after_every_op() {
    play("pairs_list_item", make_list_item, |stack, n_ops| {
        check_open(stack, n_ops, make_list_item, "list_items");
    });
}

#[test]
fn the_model_orders_the_records_of_a_pair() {
    use Repeat::{ComesLast, KeepsItsPlace};
    let put = |record, subject| Op {
        record,
        subject: Some(subject),
    };
    let delete = |record| Op { record, subject: None };
    let repeated = [put(0, 0), put(1, 0), put(0, 0)];
    assert_eq!(live_after(&repeated, KeepsItsPlace), [(0, 0), (1, 0)]);
    assert_eq!(live_after(&repeated, ComesLast), [(1, 0), (0, 0)]);
    let moved = [put(0, 0), put(1, 0), put(0, 1)];
    let recreated = [put(0, 0), put(1, 0), delete(0), put(0, 0)];
    for repeat in [KeepsItsPlace, ComesLast] {
        assert_eq!(live_after(&recreated, repeat), [(1, 0), (0, 0)]);
        assert_eq!(holders_after(&moved, repeat), BTreeMap::from([(0, 1), (1, 0)]));
    }
    assert_eq!(histories().len(), 6_usize.pow(4));
}
