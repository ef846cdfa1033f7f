//! Which rows `WRITE_NOTIFICATIONS=local` and `WRITE_VIEWER_STATES=local` write, and which accounts are local.

use serde_json::Value;

use super::local;
use crate::records::*;
use crate::support::Stack;

/// One like, repost and bookmark by each of two accounts on a post of the other, and what they cause besides.
fn both_ways() -> Vec<Record> {
    let mut records = Vec::new();
    for (author, other) in [(ALICE, BOB), (BOB, ALICE)] {
        let subject = post(author, "p", "hello");
        records.extend([
            subject.clone(),
            like(other, "l", &subject),
            repost(other, "r", &subject),
            bookmark(other, "b", &subject),
            follow(other, "f", author),
            reply(other, "a", &subject, &subject),
            quote(other, "q", &subject),
        ]);
    }
    records
}

fn accounts(stack: &Stack, query: &str) -> Vec<String> {
    let did = |row: Value| row["did"].as_str().expect("a DID").to_owned();
    stack.query(query).into_iter().map(did).collect()
}

fn recipients(stack: &Stack) -> Vec<String> {
    accounts(stack, "SELECT recipient_did AS did FROM notifications ORDER BY 1")
}

fn viewers(stack: &Stack) -> Vec<String> {
    accounts(stack, "SELECT viewer_did AS did FROM post_viewer_states ORDER BY 1")
}

#[test]
fn only_local_accounts_get_notifications_and_viewer_states() {
    let stack = Stack::new("local_scope");
    both_ways().iter().for_each(|record| _ = record.create(&stack));
    stack.drain_with(&local(ALICE));
    assert_eq!(recipients(&stack), vec![ALICE; 5]);
    assert_eq!(viewers(&stack), [ALICE]);
    stack.assert_counters_equal_rows();
}

#[test]
fn each_of_the_appviews_tables_makes_its_accounts_local() {
    let stack = Stack::new("local_sources");
    let follows: Vec<Record> = [BOB, CAROL, DAVE, "did:plc:eve", "did:plc:frank", "did:plc:grace"]
        .into_iter()
        .map(|did| follow(ALICE, did.rsplit(':').next().expect("a name"), did))
        .collect();
    stack.sql(&format!(
        "CREATE TABLE sessions (user_did text, access_token text);
         INSERT INTO sessions VALUES ('{BOB}', 'secret'), ('{BOB}', 'another');
         CREATE TABLE user_preferences (user_did varchar(255));
         INSERT INTO user_preferences VALUES ('{CAROL}'), ('no DID');
         CREATE TABLE push_subscriptions (user_did varchar(255));
         INSERT INTO push_subscriptions VALUES ('{DAVE}');
         CREATE TABLE authorized_admins (did varchar(255));
         INSERT INTO authorized_admins VALUES ('did:plc:eve');
         INSERT INTO users (did, handle) VALUES ('did:plc:frank', 'frank.example');
         INSERT INTO user_settings (user_did) VALUES ('did:plc:frank')"
    ));
    follows.iter().for_each(|record| _ = record.create(&stack));
    stack.drain_with(&local(""));
    assert_eq!(recipients(&stack), [BOB, CAROL, DAVE, "did:plc:eve", "did:plc:frank"]);
}

#[test]
fn a_notification_that_moves_to_an_account_that_is_not_local_is_removed() {
    let stack = Stack::new("local_moved");
    let [of_alice, of_bob] = [ALICE, BOB].map(|did| post(did, "p", "hello"));
    let about = |subject: &Record| {
        [
            follow(CAROL, "f", &subject.repo),
            like(CAROL, "l", subject),
            repost(CAROL, "r", subject),
            reply(CAROL, "a", subject, subject),
            quote(CAROL, "q", subject),
        ]
    };
    for (subject, expected) in [(&of_alice, 5), (&of_bob, 0), (&of_alice, 5)] {
        about(subject).iter().for_each(|record| _ = record.update(&stack));
        stack.drain_with(&local(ALICE));
        assert_eq!(recipients(&stack), vec![ALICE; expected], "about {}", subject.repo);
    }
}
