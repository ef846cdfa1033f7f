//! Labelers and labels.

use serde_json::json;

use crate::records::*;
use crate::support::Stack;

// Labelers

#[test]
fn a_labeler_becomes_a_row_and_its_creator() {
    let stack = Stack::new("labeler_create");
    let labeler = labeler(ALICE);
    labeler.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .row("labeler_services", labeler_row(&labeler))
        .assert(&stack);
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
fn an_updated_labeler_is_what_the_update_says_and_keeps_its_likes() {
    let stack = Stack::new("labeler_update");
    labeler(ALICE).create(&stack);
    stack.drain();
    stack.sql("UPDATE labeler_services SET like_count = 7, indexed_at = '2020-01-01'");
    let policies = json!({"labelValues": ["rude"], "labelValueDefinitions": []});
    let after = labeler(ALICE).with(json!({"policies": policies, "createdAt": LATER}));
    after.update(&stack);
    stack.drain();
    let columns = json!({"policies": policies, "like_count": 7});
    Expected::none()
        .users(&[ALICE])
        .row("labeler_services", with(labeler_row(&after), columns))
        .assert(&stack);
    assert_indexed_now(&stack, "labeler_services");
}

#[test]
fn a_repeated_labeler_changes_nothing() {
    let stack = Stack::new("labeler_repeat");
    let labeler = labeler(ALICE);
    for _ in 0..2 {
        labeler.create(&stack);
        stack.drain();
    }
    Expected::none()
        .users(&[ALICE])
        .row("labeler_services", labeler_row(&labeler))
        .assert(&stack);
}

#[test]
fn a_deleted_labeler_is_gone() {
    let stack = Stack::new("labeler_delete");
    let (gone, kept) = (labeler(ALICE), labeler(BOB));
    gone.create(&stack);
    kept.create(&stack);
    stack.drain();
    gone.delete(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB])
        .row("labeler_services", labeler_row(&kept))
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
fn a_label_becomes_a_row_and_a_created_event_and_no_user() {
    let stack = Stack::new("label_create");
    let subject = uri(BOB, POST, "p");
    let label = label(ALICE, "l", &subject);
    label.create(&stack);
    stack.drain();
    Expected::none()
        .row("labels", label_row(&label, &subject))
        .row("label_events", label_event_row(&label))
        .assert(&stack);
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

#[test]
fn an_updated_label_is_what_the_update_says_with_one_event() {
    let stack = Stack::new("label_update");
    let subject = uri(BOB, POST, "p");
    let before = label(ALICE, "l", &subject);
    let after = before.with(json!({"val": "rude", "neg": true, "cts": LATER}));
    before.create(&stack);
    stack.drain();
    after.update(&stack);
    stack.drain();
    let columns = json!({"val": "rude", "neg": true});
    Expected::none()
        .row("labels", with(label_row(&after, &subject), columns))
        .row("label_events", label_event_row(&after))
        .assert(&stack);
}

#[test]
fn a_repeated_label_has_one_event() {
    let stack = Stack::new("label_repeat");
    let subject = uri(BOB, POST, "p");
    let label = label(ALICE, "l", &subject);
    for _ in 0..3 {
        label.create(&stack);
        stack.drain();
    }
    Expected::none()
        .row("labels", label_row(&label, &subject))
        .row("label_events", label_event_row(&label))
        .assert(&stack);
}

#[test]
fn a_deleted_label_takes_its_event_with_it() {
    let stack = Stack::new("label_delete");
    let subject = uri(BOB, POST, "p");
    let (gone, kept) = (label(ALICE, "l", &subject), label(ALICE, "m", &subject));
    gone.create(&stack);
    kept.create(&stack);
    stack.drain();
    gone.delete(&stack);
    stack.drain();
    Expected::none()
        .row("labels", label_row(&kept, &subject))
        .row("label_events", label_event_row(&kept))
        .assert(&stack);
}
