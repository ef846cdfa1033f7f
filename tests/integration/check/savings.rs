//! What `check` says that local side effects and pruning would save.

use std::collections::BTreeSet;

use super::growth::write_growth;
use super::{Checked, check};
use crate::generator::Events;
use crate::support::Stack;

/// What is told about a subject, with its remedy.
#[track_caller]
fn told(checked: &Checked, what: &str) -> String {
    let finding = checked.findings().iter().find(|finding| finding["what"] == what);
    let finding = finding.unwrap_or_else(|| panic!("nothing about {what} in {:#}", checked.report));
    assert_eq!(finding["level"], "ok", "{finding}");
    format!("{} — {}", finding["found"], finding["remedy"])
}

/// The number before a word.
#[track_caller]
fn number_before(text: &str, word: &str) -> f64 {
    let (before, _) = text.split_once(word).unwrap_or_else(|| panic!("no {word:?} in {text}"));
    let number = before.rsplit([' ', '(']).next().expect("a word");
    number
        .parse()
        .unwrap_or_else(|_| panic!("{number:?} is no number in {text}"))
}

#[test]
fn what_local_accounts_would_save_is_told_from_a_sample_of_the_rows() {
    let stack = Stack::new("savings_local");
    stack.create_group();
    let empty = told(&check(&stack, &[]), "local");
    assert!(
        empty.contains("notifications") && empty.contains("too few rows to judge"),
        "{empty}"
    );

    stack.push_events(Events::new(1, 3000));
    stack.drain();
    let nobody = told(&check(&stack, &[]), "local");
    assert_eq!(nobody.matches("100.0 % not for local accounts").count(), 2, "{nobody}");
    assert!(
        nobody.contains("WRITE_NOTIFICATIONS=local WRITE_VIEWER_STATES=local"),
        "{nobody}"
    );
    let saved = number_before(&nobody, " % less");
    assert!((1.0..90.0).contains(&saved), "{nobody}");

    let column = |query: &str| -> BTreeSet<String> {
        let dids = stack.query(query).into_iter();
        dids.map(|row| row["did"].as_str().expect("a DID").to_owned()).collect()
    };
    let recipients = column("select distinct recipient_did as did from notifications");
    let all: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let env = [("LOCAL_DIDS", all.join(","))];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    let everybody = told(&check(&stack, &env), "local");
    let (notifications, states) = everybody.split_once("; post_viewer_states").expect("two tables");
    assert!(notifications.contains(" 0.0 % not for local accounts"), "{everybody}");
    assert!(!states.contains(" 0.0 % not for local accounts"), "{everybody}");
    assert!(number_before(&everybody, " % less") < saved, "{everybody}");

    // A table of the AppView names the other half.
    stack.sql(
        "create table user_preferences (user_did varchar(255) primary key);
         insert into user_preferences (user_did)
         select distinct viewer_did from post_viewer_states join users on did = viewer_did",
    );
    let named = told(&check(&stack, &env), "local");
    let (_, states) = named.split_once("; post_viewer_states").expect("two tables");
    assert!(states.contains(" 0.0 % not for local accounts"), "{named}");
}

#[test]
fn settings_that_save_already_are_told_as_such() {
    let stack = Stack::new("savings_modes");
    stack.push_events(Events::new(1, 3000));
    stack.drain();
    let env = [("WRITE_NOTIFICATIONS", "local"), ("WRITE_VIEWER_STATES", "false")];
    let both = told(&check(&stack, &env), "local");
    assert!(both.contains("written for local accounts only"), "{both}");
    assert!(both.contains("not written any more"), "{both}");
    assert!(!both.contains("less"), "{both}");
    let one = told(&check(&stack, &env[..1]), "local");
    assert!(one.contains("with WRITE_VIEWER_STATES=local,"), "{one}");
}

#[test]
fn what_pruning_would_leave_follows_from_the_growth() {
    let stack = Stack::new("savings_prune");
    stack.push_events(Events::new(1, 3000));
    stack.drain();
    let unmeasured = told(&check(&stack, &[]), "prune");
    assert!(unmeasured.contains("once that is measured"), "{unmeasured}");
    let share = number_before(&unmeasured, " %)");
    assert!((10.0..100.0).contains(&share), "{unmeasured}");

    // So much a day that all rows are newer than a week.
    write_growth(&stack, 24, 1 << 30, 1_000_000);
    let young = told(&check(&stack, &[]), "prune");
    let size = number_before(&young, " MiB, about this much");
    for age in ["7d", "14d", "30d"] {
        let left = number_before(&young, &format!(" MiB with --older-than {age}"));
        assert!((left - size).abs() <= 1.0, "{young}");
    }
    write_growth(&stack, 24, 1 << 18, 1_000_000);
    let old = told(&check(&stack, &[]), "prune");
    let left = |age: &str| number_before(&old, &format!(" MiB with --older-than {age}"));
    assert!(left("7d") < left("30d") && left("30d") <= size, "{old}");
}

#[test]
fn a_lack_of_rights_is_told_and_ends_no_other_check() {
    let stack = Stack::new("savings_rights");
    stack.create_group();
    check(&stack, &[]).assert_finds("ok", "local", &["notifications"]);
    stack.push_events(Events::new(1, 300));
    stack.drain();
    let rights = "grant select on all tables in schema public to ROLE; revoke select on notifications from ROLE;
                  grant usage on schema firehose_worker to ROLE;
                  grant select on all tables in schema firehose_worker to ROLE";
    let checked = super::postgres::check_as(&stack, "lesser", rights);
    checked.assert_finds("warn", "local", &["permission denied"]);
    checked.assert_finds("ok", "unused indexes", &["were not scanned"]);
}
