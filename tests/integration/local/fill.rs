//! What an account gets that becomes local: by the worker that notices it, and by the command.

use std::time::Duration;

use serde_json::{Value, json};

use super::{inbox, local, local_worker};
use crate::records::*;
use crate::support::wait::equal;
use crate::support::{Output, Stack, WorkerBuilder, wait_until, wait_until_within};

/// Everything that Alice can be notified of, and all that she can have as a viewer. Some of it is about posts that are
/// not stored, some is about her own, and some is taken back.
fn events() -> Vec<(Record, &'static str)> {
    let own = post(ALICE, "own", "hello");
    let other = post(BOB, "other", "hello");
    let missing = post(ALICE, "missing", "never stored");
    let feed = Record::new(ALICE, GENERATOR, "feed", json!({}));
    let mut records = vec![own.clone(), other.clone()];
    for (author, subject, key) in [
        (BOB, &own, "1"),
        (CAROL, &own, "1"),
        (CAROL, &missing, "2"),
        (DAVE, &feed, "3"),
        (ALICE, &own, "4"),
        (ALICE, &other, "5"),
        (BOB, &other, "6"),
    ] {
        let key = |kind: &str| format!("{kind}{key}");
        records.extend([
            like(author, &key("l"), subject),
            repost(author, &key("r"), subject),
            bookmark(author, &key("b"), subject),
            reply(author, &key("a"), subject, subject),
            quote(author, &key("q"), subject),
        ]);
    }
    records.extend([
        follow(BOB, "f", ALICE),
        follow(ALICE, "f", ALICE),
        follow(ALICE, "g", BOB),
        mention(DAVE, "m", &[ALICE, BOB, ALICE]),
        mention(ALICE, "m", &[ALICE]),
    ]);
    let gone = [
        like(DAVE, "lx", &own),
        repost(DAVE, "rx", &own),
        reply(DAVE, "ax", &own, &own),
        mention(BOB, "mx", &[ALICE]),
        follow(DAVE, "fx", ALICE),
        like(ALICE, "ly", &missing),
    ];
    let created = records.into_iter().chain(gone.clone()).map(|record| (record, "create"));
    let deleted = gone.into_iter().map(|record| (record, "delete"));
    created.chain(deleted).collect()
}

fn push(stack: &Stack, events: &[(Record, &str)]) {
    for (record, action) in events {
        match *action {
            "delete" => record.delete(stack),
            _ => record.create(stack),
        };
    }
}

fn fill(stack: &Stack, args: &[&str]) -> Output {
    let command = local_worker(stack).arg("fill");
    let output = args.iter().fold(command, |command, arg| command.arg(arg)).run_to_exit();
    assert!(
        output.status.success(),
        "{args:?} ends with {}:\n{}",
        output.status,
        output.log
    );
    output
}

/// What Alice has if everything is written at once.
fn everything() -> Vec<Value> {
    let stack = Stack::new("fill_everything");
    push(&stack, &events());
    stack.drain();
    inbox(&stack, &[ALICE])
}

#[test]
fn an_account_that_is_filled_has_what_it_would_have_had_from_the_beginning() {
    let stack = Stack::new("fill_command");
    push(&stack, &events());
    stack.drain_with(&local(CAROL));
    assert_eq!(inbox(&stack, &[ALICE]), Vec::<Value>::new());
    let of_others = inbox(&stack, &[BOB, CAROL, DAVE]);
    let output = fill(&stack, &[ALICE]);
    assert_eq!(inbox(&stack, &[ALICE]), everything());
    assert_eq!(inbox(&stack, &[BOB, CAROL, DAVE]), of_others, "nothing for others");
    let (notifications, states) = (stack.count("notifications"), stack.count("post_viewer_states"));
    let summary = "2 accounts filled: 15 notifications and 2 viewer states written\n";
    assert_eq!(output.stdout, summary, "Carol is local too and has everything");
    for again in [&[ALICE][..], &["--all"]] {
        fill(&stack, again);
        assert_eq!(stack.count("notifications"), notifications);
        assert_eq!(stack.count("post_viewer_states"), states);
    }
}

#[test]
fn a_role_without_rights_is_told_all_that_it_lacks_before_a_fill() {
    let stack = Stack::new("fill_rights");
    stack.drain_with(&local(CAROL));
    let role = format!("role_{}", stack.database.name());
    stack.sql(&format!(
        "create role {role} login; grant usage on schema public, firehose_worker to {role};
         grant select, insert, update, delete on all tables in schema public to {role};
         grant select on all tables in schema firehose_worker to {role}"
    ));
    let url = stack.database_url().replace("postgres@", &format!("{role}@"));
    let output = local_worker(&stack)
        .arg("fill")
        .arg(ALICE)
        .env("DATABASE_URL", &url)
        .run_to_exit();
    assert_eq!(output.status.code(), Some(1), "{}", output.log);
    for lacking in ["local_dids", "progress"].map(|table| format!("DELETE on firehose_worker.{table}")) {
        assert!(output.log.contains(&lacking), "{lacking}: {}", output.log);
    }
    stack.sql(&format!("drop owned by {role}; drop role {role}"));
}

#[test]
fn a_worker_fills_the_accounts_that_become_local_while_it_runs() {
    let stack = Stack::new("fill_worker");
    let events = events();
    let (before, after) = events.split_at(events.len() / 2);
    stack.sql("CREATE TABLE user_preferences (user_did varchar(255))");
    push(&stack, before);
    stack.drain_with(&local(""));
    let worker = local_worker(&stack).spawn();
    stack.sql(&format!("INSERT INTO user_preferences VALUES ('{ALICE}')"));
    wait_until_within("what Alice has missed", Duration::from_secs(90), || {
        let filled = "SELECT 1 AS n FROM firehose_worker.local_dids WHERE has_notifications AND has_viewer_states";
        equal(stack.query(filled).len(), 1).map_err(|error| format!("{error}\n{}", worker.log()))
    });
    push(&stack, after);
    wait_until("all entries are applied", || {
        equal(stack.acknowledged(), events.len() as i64)
    });
    assert_eq!(inbox(&stack, &[ALICE]), everything());
    assert!(
        worker.log().contains("1 local accounts have got what they had missed"),
        "{}",
        worker.log()
    );
}

#[test]
fn notifications_older_than_30_days_are_not_filled_and_older_states_are() {
    let stack = Stack::new("fill_old");
    let own = post(ALICE, "own", "hello");
    let records = [
        own.clone(),
        like(BOB, "l", &own),
        repost(BOB, "r", &own),
        follow(BOB, "f", ALICE),
        reply(BOB, "a", &own, &own),
        quote(BOB, "q", &own),
        mention(BOB, "m", &[ALICE]),
        like(ALICE, "l", &own),
    ];
    records.iter().for_each(|record| _ = record.create(&stack));
    stack.drain_with(&local(""));
    for table in ["likes", "reposts", "follows", "posts", "quotes"] {
        stack.sql(&format!("UPDATE {table} SET indexed_at = now() - interval '31 days'"));
    }
    fill(&stack, &[ALICE]);
    assert_eq!(stack.count("notifications"), 0);
    assert_eq!(inbox(&stack, &[ALICE]).len(), 1, "her viewer state");
}

#[test]
fn filled_notifications_are_dated_as_their_causes_a_millisecond_apart_and_read_if_later_ones_are() {
    let stack = Stack::new("fill_dates");
    let own = post(ALICE, "own", "hello");
    own.create(&stack);
    for n in 0..40 {
        reply(BOB, &format!("a{n}"), &own, &own).create(&stack);
    }
    stack.drain_with(&local(""));
    stack.sql("UPDATE posts SET indexed_at = '2100-01-01' WHERE parent_uri IS NOT NULL");
    fill(&stack, &[ALICE]);
    let times = "SELECT DISTINCT indexed_at, is_read FROM notifications
                 WHERE indexed_at >= '2100-01-01' AND indexed_at < '2100-01-01 00:00:00.040'";
    let times = stack.query(times);
    assert_eq!(times.len(), 40, "{times:?}");
    assert!(times.iter().all(|row| row["is_read"] == false), "{times:?}");

    stack.sql(
        "DELETE FROM notifications WHERE uri NOT LIKE '%/a7#%';
         UPDATE notifications SET indexed_at = '2100-01-01 00:00:00.01', is_read = true;
         UPDATE posts SET indexed_at = '2100-01-01 00:00:01' WHERE uri LIKE '%/a8'",
    );
    fill(&stack, &[ALICE]);
    let unread =
        stack.query("SELECT uri FROM notifications WHERE indexed_at <= '2100-01-01 00:00:00.01' AND NOT is_read");
    assert_eq!(unread, Vec::<Value>::new());
    let unread = "SELECT count(*) AS n FROM notifications WHERE NOT is_read AND uri LIKE '%/a8#%'";
    assert_eq!(stack.query(unread), [json!({"n": 1})]);
    assert_eq!(stack.count("notifications"), 40);
}

#[test]
fn the_time_until_which_the_appview_knows_notifications_as_seen_counts() {
    let stack = Stack::new("fill_seen");
    let own = post(ALICE, "own", "hello");
    [own.clone(), like(BOB, "l", &own)]
        .iter()
        .for_each(|record| _ = record.create(&stack));
    stack.drain_with(&local(""));
    stack.sql(&format!(
        "CREATE TABLE user_preferences (user_did varchar(255), last_notification_seen_at timestamp);
         INSERT INTO user_preferences VALUES ('{ALICE}', now() + interval '1 day')"
    ));
    fill(&stack, &["--all"]);
    assert_eq!(
        stack.query("SELECT is_read FROM notifications"),
        [json!({"is_read": true})]
    );
}

#[test]
fn a_fill_that_was_killed_is_continued_by_the_same_command_and_by_a_worker() {
    for by_worker in [false, true] {
        let stack = Stack::new(&format!("fill_killed_{by_worker}"));
        push(&stack, &events());
        stack.drain_with(&local(CAROL));
        let mut killed = local_worker(&stack)
            .arg("fill")
            .arg(ALICE)
            .arg("--pause-ms=60000")
            .spawn();
        let progress = "SELECT state->'round'->>'step' AS step FROM firehose_worker.progress
                        WHERE job = 'fill' AND state->'round'->>'step' <> ''";
        wait_until("a slice is filled", || {
            equal(stack.query(progress).len(), 1).map_err(|error| format!("{error}\n{}", killed.log()))
        });
        killed.kill();
        if by_worker {
            stack.sql("UPDATE firehose_worker.progress SET updated_at = now() - interval '2 minutes'");
            let worker: WorkerBuilder = local_worker(&stack);
            let worker = worker.spawn();
            wait_until("the worker has continued", || {
                equal(stack.query("SELECT 1 AS n FROM firehose_worker.progress").len(), 0)
                    .map_err(|error| format!("{error}\n{}", worker.log()))
            });
        } else {
            let output = fill(&stack, &[ALICE]);
            assert!(output.log.contains("continuing an unfinished fill"), "{}", output.log);
        }
        assert_eq!(inbox(&stack, &[ALICE]), everything());
    }
}

#[test]
fn without_anything_to_write_or_with_a_bad_did_fill_says_so() {
    let stack = Stack::new("fill_refused");
    let off = [("WRITE_NOTIFICATIONS", "false"), ("WRITE_VIEWER_STATES", "false")];
    let command = off
        .iter()
        .fold(stack.worker(), |command, (name, value)| command.env(name, value));
    for (command, fault) in [
        (command.arg("fill").arg("--all"), "there is nothing to fill"),
        (
            local_worker(&stack).arg("fill").arg("alice.example"),
            "\"alice.example\" is not a DID",
        ),
    ] {
        let output = command.run_to_exit();
        assert_eq!(output.status.code(), Some(1), "{}", output.log);
        assert!(output.log.contains(fault), "{}", output.log);
    }
}

#[test]
fn what_was_switched_off_meanwhile_is_filled_when_it_is_switched_on_again() {
    let stack = Stack::new("fill_switched");
    stack.drain_with(&local(ALICE));
    fill(&stack, &["--all"]);
    push(&stack, &events());
    stack.drain_with(&[("WRITE_NOTIFICATIONS", "false"), ("WRITE_VIEWER_STATES", "false")]);
    let worker = local_worker(&stack).spawn();
    let expected = everything();
    wait_until("Alice has what was not written", || {
        equal(inbox(&stack, &[ALICE]).len(), expected.len()).map_err(|error| format!("{error}\n{}", worker.log()))
    });
    assert_eq!(inbox(&stack, &[ALICE]), expected);
}
