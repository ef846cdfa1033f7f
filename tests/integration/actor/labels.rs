//! Labelers and labels.

use serde_json::json;

use crate::records::*;
use crate::support::Stack;

// Labelers

#[test]
fn a_labeler_is_a_row_and_its_creator_and_keeps_its_likes() {
    let policies = json!({"labelValues": ["rude"], "labelValueDefinitions": []});
    Life {
        record: labeler(ALICE),
        updated: labeler(ALICE).with(json!({"policies": policies, "createdAt": LATER})),
        other: labeler(BOB),
        rows: |labeler, _| vec![("labeler_services", labeler_row(labeler))],
        changes: json!({"policies": policies}),
        kept: json!({"like_count": 7}),
        indexed_at: IndexedAt::Renewed,
        users: &[ALICE],
        users_later: &[ALICE, BOB],
    }
    .run(&Stack::new("labeler"));
}

#[test]
fn a_labeler_without_policies_has_empty_ones() {
    let stack = Stack::new("labeler_minimal");
    let labeler = labeler(ALICE).without("policies");
    labeler.create(&stack);
    stack.drain();
    let columns = json!({"policies": {"labelValues": [], "labelValueDefinitions": []}});
    Expected::none()
        .users(&[ALICE])
        .row("labeler_services", with(labeler_row(&labeler), columns))
        .assert(&stack);
}

#[test]
fn a_labeler_of_another_rkey_than_self_is_ignored() {
    let stack = stack_with_user("labeler_rkey", ALICE);
    Record::new(ALICE, LABELER, "other", labeler(ALICE).value).create(&stack);
    stack.drain();
    Expected::none().users(&[ALICE]).assert(&stack);
}

// Labels

#[test]
fn a_label_is_a_row_and_one_created_event_and_no_user() {
    let subject = uri(BOB, POST, "p");
    let record = label(ALICE, "l", &subject);
    Life {
        updated: record.with(json!({"val": "rude", "neg": true, "cts": LATER})),
        record,
        other: label(ALICE, "m", &subject),
        rows: |label, _| {
            let row = label_row(label, &uri(BOB, POST, "p"));
            vec![("labels", row), ("label_events", label_event_row(label))]
        },
        changes: json!({"val": "rude", "neg": true}),
        kept: json!({}),
        indexed_at: IndexedAt::Kept,
        users: &[],
        users_later: &[],
    }
    .run(&Stack::new("label"));
}

#[test]
fn a_label_of_an_account_takes_its_subject_from_did_and_its_time_from_created_at() {
    let stack = Stack::new("label_did");
    let value = json!({"$type": LABEL, "did": BOB, "val": "spam", "neg": true, "createdAt": CREATED});
    let label = Record::new(ALICE, LABEL, "l", value);
    label.create(&stack);
    stack.drain();
    Expected::none()
        .row("labels", with(label_row(&label, BOB), json!({"neg": true})))
        .row("label_events", label_event_row(&label))
        .assert(&stack);
}

#[test]
fn a_label_whose_created_at_is_no_date_has_its_cts() {
    let stack = Stack::new("label_cts");
    let subject = post(BOB, "p", "hello").uri();
    let label = label(ALICE, "l", &subject).with(json!({"createdAt": "yesterday", "cts": LATER}));
    label.create(&stack);
    stack.drain();
    let dated = label.with(json!({"createdAt": LATER}));
    Expected::none()
        .row("labels", label_row(&dated, &subject))
        .row("label_events", label_event_row(&label))
        .assert(&stack);
}
