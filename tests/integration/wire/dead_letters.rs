//! Entries that can never be applied become dead letters one by one, while all others are applied.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::records::*;
use crate::support::Stack;

/// Pushes ten good entries of different repos with `bad` among them. Returns the expected rows and the ID of `bad`.
fn push_among_good(stack: &Stack, bad: impl FnOnce(&Stack) -> String) -> (Expected, String) {
    let post = |n: u32| post(&format!("did:web:good{n}.example"), "p", "hello");
    let mut expected = Expected::none();
    let mut bad_id = None;
    let mut bad = Some(bad);
    for n in 1..=10_u32 {
        if n == 6 {
            bad_id = bad.take().map(|bad| bad(stack));
        }
        let post = post(n);
        let data = commit(&post.repo, vec![post.op("create")]);
        stack.push_with_seq("commit", data, &n.to_string());
        expected = expected.users(&[&post.repo]).post(&post, n);
    }
    (expected, bad_id.expect("the bad entry was pushed"))
}

fn only_dead_letter(stack: &Stack) -> BTreeMap<String, String> {
    let letters = stack.dead_letters();
    assert_eq!(letters.len(), 1, "dead letters: {letters:?}");
    assert_eq!(stack.pending(), 0, "pending entries");
    letters.into_iter().next().expect("just counted")
}

/// One entry became a dead letter and ten commits were applied.
fn assert_one_error(stack: &Stack) {
    for key in ["firehose:metrics", "cluster:metrics"] {
        let counts = ["totalEvents", "#commit", "errors"].map(|field| stack.metric(key, field));
        assert_eq!(counts, [10, 10, 1], "totalEvents, #commit and errors of {key}");
    }
}

/// What can be no event: its type and data.
fn poison() -> Vec<(&'static str, String)> {
    let post = post(ALICE, "p", "hello").op("create");
    let commit_of = |ops: Value| commit_with(json!(ALICE), ops);
    vec![
        ("commit", "{".to_owned()),
        ("commit", "no json".to_owned()),
        ("commit", String::new()),
        ("commit", r#"{"repo": "did:plc:x", "ops": []} and more"#.to_owned()),
        ("commit", "[]".to_owned()),
        ("commit", "5".to_owned()),
        ("commit", "null".to_owned()),
        ("commit", commit_of(json!({"0": post}))),
        ("commit", commit_of(json!("ops"))),
        ("commit", commit_with(json!("alice.example"), json!([post]))),
        ("commit", commit_with(json!(5), json!([post]))),
        ("commit", commit_with(json!(""), json!([post]))),
        ("commit", commit_with(Value::Null, json!([post]))),
        ("identity", "not json".to_owned()),
        ("identity", "[]".to_owned()),
        (
            "identity",
            json!({"did": "alice.example", "handle": "alice.example"}).to_string(),
        ),
        ("identity", json!({"did": 5, "handle": "alice.example"}).to_string()),
        ("identity", json!({"handle": "alice.example"}).to_string()),
        ("account", "not json".to_owned()),
        ("account", json!({"did": "alice.example", "active": true}).to_string()),
    ]
}

fn commit_with(repo: Value, ops: Value) -> String {
    json!({"repo": repo, "ops": ops}).to_string()
}

#[test]
fn an_entry_that_cannot_be_read_is_set_apart_whole_and_alone() {
    for (kind, data) in poison() {
        eprintln!("poison: {kind} {data}");
        let stack = Stack::new("poison");
        let (expected, id) = push_among_good(&stack, |stack| {
            stack.push_fields(&[("type", kind.as_bytes()), ("data", data.as_bytes()), ("seq", b"77")])
        });
        stack.drain();
        let letter = only_dead_letter(&stack);
        assert_eq!(letter["type"], kind, "{letter:?}");
        assert_eq!(letter["data"], data, "{letter:?}");
        assert_eq!(letter["seq"], "77", "{letter:?}");
        assert_eq!(letter["origId"], id, "{letter:?}");
        assert!(letter["deliveries"].parse::<u32>().is_ok_and(|n| n >= 1), "{letter:?}");
        assert!(!letter["error"].is_empty(), "{letter:?}");
        assert_one_error(&stack);
        expected.assert_rows(&stack);
    }
}

#[test]
fn many_entries_that_cannot_be_read_become_a_dead_letter_each() {
    let stack = Stack::new("poison_many");
    let poison = poison();
    let mut expected = Expected::none();
    for ((kind, data), n) in poison.iter().zip(1..) {
        stack.push_fields(&[("type", kind.as_bytes()), ("data", data.as_bytes()), ("seq", b"")]);
        let post = post(ALICE, &format!("p{n}"), "hello");
        post.create(&stack);
        expected = expected.post(&post, n);
    }
    stack.drain();
    let found: Vec<(String, String)> = stack
        .dead_letters()
        .into_iter()
        .map(|letter| (letter["type"].clone(), letter["data"].clone()))
        .collect();
    let mut found_sorted = found.clone();
    found_sorted.sort();
    let mut sent: Vec<(String, String)> = poison.into_iter().map(|(kind, data)| (kind.to_owned(), data)).collect();
    sent.sort();
    assert_eq!(found_sorted, sent);
    assert_eq!(stack.pending(), 0, "pending entries");
    expected.users(&[ALICE]).assert_rows(&stack);
}

#[test]
fn a_bad_op_does_not_take_its_neighbours_along() {
    let bad_ops = [
        json!("op"),
        json!(5),
        json!(null),
        json!([]),
        json!({"action": "create", "path": 5, "cid": IMAGE}),
    ];
    for bad_op in bad_ops {
        eprintln!("bad op: {bad_op}");
        let stack = Stack::new("bad_op");
        let (before, after) = (post(ALICE, "before", "one"), post(ALICE, "after", "two"));
        let ops = vec![before.op("create"), bad_op, after.op("create")];
        let (expected, id) = push_among_good(&stack, |stack| stack.push_with_seq("commit", commit(ALICE, ops), "77"));
        stack.drain();
        let letter = only_dead_letter(&stack);
        assert_eq!(letter["origId"], id, "{letter:?}");
        assert_one_error(&stack);
        expected
            .users(&[ALICE])
            .post(&before, 77)
            .post(&after, 77)
            .assert_rows(&stack);
    }
}

/// Makes the database refuse posts of the text `poison` as data: by a value that is out of range (class 22).
const REFUSE_AS_DATA: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.text = 'poison' THEN RAISE EXCEPTION 'this text is refused' USING ERRCODE = '22003'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION refuse()";

/// The same by a constraint on a column that the worker writes (class 23).
const REFUSE_BY_CHECK: &str = "ALTER TABLE posts ADD CONSTRAINT no_poison CHECK (text <> 'poison')";

/// A commit of three posts, of which the database refuses the middle one for the reason given.
fn refused_op(name: &str, reason: &str) {
    let stack = Stack::new(name);
    stack.sql(reason);
    let (before, after) = (post(ALICE, "before", "one"), post(ALICE, "after", "two"));
    let poison = post(ALICE, "poison", "poison");
    let ops = vec![before.op("create"), poison.op("create"), after.op("create")];
    let (expected, id) = push_among_good(&stack, |stack| stack.push_with_seq("commit", commit(ALICE, ops), "77"));
    stack.drain();
    let letter = only_dead_letter(&stack);
    assert_eq!(letter["origId"], id, "{letter:?}");
    assert_eq!(letter["type"], "commit", "{letter:?}");
    assert_eq!(letter["seq"], "77", "{letter:?}");
    assert_eq!(letter["op"], poison.path(), "{letter:?}");
    let data: Value = serde_json::from_str(&letter["data"]).expect("a dead letter's data is JSON");
    assert_eq!(data, commit(ALICE, vec![poison.op("create")]));
    assert_one_error(&stack);
    expected
        .users(&[ALICE])
        .post(&before, 77)
        .post(&after, 77)
        .assert_rows(&stack);
}

#[test]
fn an_op_whose_data_the_database_refuses_becomes_a_dead_letter_with_its_path() {
    refused_op("refused_as_data", REFUSE_AS_DATA);
}

#[test]
fn an_op_that_a_constraint_refuses_becomes_a_dead_letter_with_its_path() {
    refused_op("refused_by_check", REFUSE_BY_CHECK);
}

#[test]
fn a_refused_record_leaves_nothing_of_its_side_effects() {
    let stack = Stack::new("refused_effects");
    stack.sql(REFUSE_AS_DATA);
    let parent = post(BOB, "p", "parent");
    let poison = reply(ALICE, "r", &parent, &parent).with(json!({"text": "poison"}));
    let (expected, _) = push_among_good(&stack, |stack| {
        parent.create(stack);
        poison.create(stack)
    });
    stack.drain();
    only_dead_letter(&stack);
    // Whether a refused record creates its author's users row is undefined.
    stack.sql(&format!("DELETE FROM users WHERE did = '{ALICE}'"));
    expected.users(&[BOB]).post(&parent, 1).assert_rows(&stack);
}

#[test]
fn a_refused_update_leaves_the_row_that_was_created_before_it() {
    let good = post(ALICE, "p", "hello");
    let poison = good.with(json!({"text": "poison"}));
    let stacks = in_one_batch_and_entry_by_entry("refused_update", |stack, step| {
        stack.sql(REFUSE_AS_DATA);
        push_among_good(stack, |stack| good.create(stack));
        step();
        poison.update(stack);
    });
    for stack in stacks {
        only_dead_letter(&stack);
        let found = stack.query(&format!("SELECT text, cid FROM posts WHERE uri = '{}'", good.uri()));
        assert_eq!(found, [json!({"text": "hello", "cid": good.cid})]);
    }
}

#[test]
fn an_entry_with_several_bad_ops_is_one_error() {
    let stack = Stack::new("bad_ops");
    stack.sql(REFUSE_AS_DATA);
    let good = post(ALICE, "good", "hello");
    let refused = ["one", "two"].map(|rkey| post(ALICE, rkey, "poison").op("create"));
    let ops = [vec![json!(5), good.op("create"), json!([])], refused.to_vec()].concat();
    let (expected, id) = push_among_good(&stack, |stack| stack.push_with_seq("commit", commit(ALICE, ops), "77"));
    stack.drain();
    assert_one_error(&stack);
    for letter in stack.dead_letters() {
        assert_eq!(letter["origId"], id, "{letter:?}");
    }
    expected.users(&[ALICE]).post(&good, 77).assert_rows(&stack);
}
