//! Records that do not have the shape that their row needs: counted as processed, no error, and without a trace.

use serde_json::{Value, json};

use crate::records::*;
use crate::support::{Sent, Stack};

fn op(path: &str, record: Value) -> Value {
    json!({"action": "create", "path": path, "cid": IMAGE, "record": record})
}

/// Ops that are no error and have no effect, each with what is odd in it.
fn ignored_ops() -> Vec<(&'static str, Value)> {
    let mut ops = odd_envelopes();
    ops.extend(odd_paths());
    ops.extend(odd_types());
    ops.extend(odd_subjects());
    ops.extend(keys_too_long());
    ops
}

fn odd_envelopes() -> Vec<(&'static str, Value)> {
    let record = json!({"$type": POST, "text": "hello", "createdAt": CREATED});
    let path = format!("{POST}/p");
    vec![
        ("no action", json!({"path": path, "cid": IMAGE, "record": record})),
        (
            "unknown action",
            json!({"action": "upsert", "path": path, "cid": IMAGE, "record": record}),
        ),
        ("no record", json!({"action": "create", "path": path, "cid": IMAGE})),
        (
            "null record",
            json!({"action": "create", "path": path, "cid": IMAGE, "record": null}),
        ),
        (
            "text record",
            json!({"action": "update", "path": path, "cid": IMAGE, "record": "hello"}),
        ),
        (
            "array record",
            json!({"action": "create", "path": path, "cid": IMAGE, "record": [record]}),
        ),
        ("no cid", json!({"action": "create", "path": path, "record": record})),
        (
            "null cid",
            json!({"action": "create", "path": path, "cid": null, "record": record}),
        ),
        (
            "number cid",
            json!({"action": "update", "path": path, "cid": 5, "record": record}),
        ),
        (
            "generic without record",
            json!({"action": "create", "path": format!("{CUSTOM}/c"), "cid": IMAGE}),
        ),
        (
            "generic without cid",
            json!({"action": "create", "path": format!("{CUSTOM}/c"), "record": {"a": 1}}),
        ),
        (
            "profile without cid",
            json!({"action": "create", "path": format!("{PROFILE}/self"), "record": {}}),
        ),
    ]
}

fn odd_paths() -> Vec<(&'static str, Value)> {
    let record = json!({"text": "hello", "createdAt": CREATED});
    vec![
        ("no rkey", op(POST, record.clone())),
        ("empty rkey", op(&format!("{POST}/"), record.clone())),
        ("three parts", op(&format!("{POST}/p/q"), record.clone())),
        ("empty path", op("", record.clone())),
        ("no collection", op("/p", record)),
        ("delete without rkey", json!({"action": "delete", "path": POST})),
        (
            "profile of another rkey",
            op(&format!("{PROFILE}/other"), profile(ALICE).value),
        ),
        (
            "labeler of another rkey",
            op(&format!("{LABELER}/other"), labeler(ALICE).value),
        ),
        (
            "status",
            op("app.bsky.actor.status/self", json!({"createdAt": CREATED})),
        ),
        (
            "declaration",
            op("app.bsky.notification.declaration/self", json!({"createdAt": CREATED})),
        ),
    ]
}

fn odd_types() -> Vec<(&'static str, Value)> {
    let subject = post(BOB, "p", "hello");
    vec![
        (
            "a like as post",
            op(&format!("{POST}/p"), like(ALICE, "l", &subject).value),
        ),
        (
            "a post as like",
            op(
                &format!("{LIKE}/l"),
                like(ALICE, "l", &subject).with(json!({"$type": POST})).value,
            ),
        ),
        (
            "a custom type as follow",
            op(&format!("{FOLLOW}/f"), json!({"$type": CUSTOM, "subject": BOB})),
        ),
        (
            "a follow as profile",
            op(&format!("{PROFILE}/self"), json!({"$type": FOLLOW, "displayName": "x"})),
        ),
        (
            "the sdk's type of another",
            op(&format!("{BLOCK}/b"), json!({"py_type": FOLLOW, "subject": BOB})),
        ),
    ]
}

fn odd_subjects() -> Vec<(&'static str, Value)> {
    let at_subjects = [
        json!(null),
        json!("at://x"),
        json!({}),
        json!({"uri": 5}),
        json!({"uri": "https://x.example"}),
    ];
    let did_subjects = [
        json!(null),
        json!({"did": BOB}),
        json!(5),
        json!(""),
        json!("bob.example"),
        json!(["did:a:b"]),
    ];
    let list_uri = list(ALICE, "l").uri();
    let mut ops = Vec::new();
    for collection in [LIKE, REPOST, BOOKMARK] {
        for subject in &at_subjects {
            ops.push((
                collection,
                op(
                    &format!("{collection}/x"),
                    json!({"subject": subject, "createdAt": CREATED}),
                ),
            ));
        }
    }
    for collection in [FOLLOW, BLOCK, LISTITEM, VERIFICATION] {
        for subject in &did_subjects {
            let record = json!({"subject": subject, "list": list_uri, "createdAt": CREATED});
            ops.push((collection, op(&format!("{collection}/x"), record)));
        }
    }
    for list in [
        json!(null),
        json!("https://x.example"),
        json!({"uri": list_uri}),
        json!(""),
    ] {
        ops.push((
            LISTITEM,
            op(&format!("{LISTITEM}/x"), json!({"subject": BOB, "list": list})),
        ));
        ops.push((LISTBLOCK, op(&format!("{LISTBLOCK}/x"), json!({"subject": list}))));
    }
    ops.push((
        "label without subject",
        op(&format!("{LABEL}/l"), json!({"val": "spam", "cts": CREATED})),
    ));
    ops.push((
        "label without val",
        op(&format!("{LABEL}/l"), json!({"uri": list_uri, "cts": CREATED})),
    ));
    ops
}

fn keys_too_long() -> Vec<(&'static str, Value)> {
    let long = "x".repeat(513);
    let long_did = format!("did:web:{}", "x".repeat(248));
    let long_uri = format!("at://{BOB}/{POST}/{long}");
    let post = post(ALICE, "p", "hello");
    let long_cid = json!({
        "action": "create", "path": post.path(), "cid": format!("b{}", "a".repeat(255)), "record": post.value,
    });
    vec![
        ("own URI", op(&format!("{POST}/{long}"), post.value.clone())),
        (
            "own URI of a generic record",
            op(&format!("{CUSTOM}/{long}"), json!({"a": 1})),
        ),
        ("cid", long_cid),
        (
            "like's subject",
            op(
                &format!("{LIKE}/l"),
                json!({"subject": {"uri": long_uri, "cid": IMAGE}}),
            ),
        ),
        (
            "follow's subject",
            op(&format!("{FOLLOW}/f"), json!({"subject": long_did})),
        ),
        (
            "list item's list",
            op(&format!("{LISTITEM}/i"), json!({"subject": BOB, "list": long_uri})),
        ),
        (
            "list item's subject",
            op(
                &format!("{LISTITEM}/i"),
                json!({"subject": long_did, "list": post.uri()}),
            ),
        ),
        (
            "list block's subject",
            op(&format!("{LISTBLOCK}/b"), json!({"subject": long_uri})),
        ),
        (
            "verification's subject",
            op(&format!("{VERIFICATION}/v"), json!({"subject": long_did})),
        ),
        (
            "label's subject",
            op(&format!("{LABEL}/l"), json!({"uri": long_uri, "val": "spam"})),
        ),
    ]
}

#[test]
fn records_that_do_not_fit_leave_no_trace_and_are_no_error() {
    let stack = Stack::new("ignored");
    let ops = ignored_ops();
    for (_, op) in &ops {
        stack.push("commit", commit(ALICE, vec![op.clone()]));
    }
    stack.drain();
    stack.assert_all_acknowledged();
    let n = i64::try_from(ops.len()).expect("a short list");
    stack.assert_counted(Sent {
        total: n,
        commit: n,
        ..Sent::default()
    });
    Expected::none().assert(&stack);
}

#[test]
fn a_repo_longer_than_its_column_is_ignored() {
    let stack = Stack::new("ignored_repo");
    let repo = format!("did:web:{}", "x".repeat(250));
    post(&repo, "p", "hello").create(&stack);
    follow(&repo, "f", ALICE).create(&stack);
    stack.drain();
    stack.assert_counted(Sent {
        total: 2,
        commit: 2,
        ..Sent::default()
    });
    Expected::none().assert(&stack);
}

#[test]
fn ops_that_are_ignored_leave_their_neighbours_and_the_old_rows_alone() {
    let stack = Stack::new("ignored_neighbours");
    let post = post(ALICE, "p", "hello");
    let follow = follow(ALICE, "x", BOB);
    stack.push("commit", commit(ALICE, vec![post.op("create"), follow.op("create")]));
    stack.drain();
    let list = list(ALICE, "l");
    let mut ops: Vec<Value> = ignored_ops().into_iter().map(|(_, op)| op).collect();
    ops.insert(ops.len() / 2, list.op("create"));
    stack.push("commit", commit(ALICE, ops));
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB])
        .post(&post, 1)
        .follow(&follow, 1)
        .row("lists", list_row(&list))
        .assert(&stack);
}

#[test]
fn a_type_that_is_absent_is_that_of_the_collection() {
    let stack = Stack::new("type_absent");
    let post = post(ALICE, "p", "hello").without("$type");
    let follow = follow(ALICE, "f", BOB).without("$type");
    post.create(&stack);
    follow.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB])
        .post(&post, 1)
        .follow(&follow, 2)
        .assert(&stack);
}

#[test]
fn an_entry_of_an_unknown_type_is_acknowledged_and_counted_nowhere() {
    let stack = Stack::new("unknown_type");
    stack.push("sync", json!({"did": ALICE}));
    let post = post(ALICE, "p", "hello");
    post.create(&stack);
    stack.drain();
    stack.assert_counted(Sent {
        total: 1,
        commit: 1,
        ..Sent::default()
    });
    Expected::none().users(&[ALICE]).post(&post, 2).assert(&stack);
}
