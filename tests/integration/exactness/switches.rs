//! The three `WRITE_…` switches, which small machines may turn off, and the row counts that the dashboard shows.

use std::collections::BTreeMap;

use redis::cmd;
use serde_json::{Value, json};

use crate::records::*;
use crate::support::{Stack, assert_same};

const RECORD_COUNTS: &str = "db:record_counts";

/// Rows of every kind that a switch is about, and what else their records cause.
fn records() -> [Record; 6] {
    let subject = post(ALICE, "p", "hello");
    [
        subject.clone(),
        like(BOB, "l", &subject),
        repost(CAROL, "r", &subject),
        bookmark(DAVE, "b", &subject),
        follow(BOB, "f", ALICE),
        custom(DAVE, "c", "note"),
    ]
}

fn all_rows(records: &[Record; 6]) -> Expected {
    let [post, like, repost, bookmark, follow, custom] = records;
    let mut expected = Expected::none()
        .users(&[ALICE, BOB, CAROL, DAVE])
        .post(post, 1)
        .only_like(like, post, 2)
        .only_repost(repost, post, 3)
        .only_bookmark(bookmark, post)
        .follow(follow, 5)
        .row("generic_records", generic_row(custom));
    expected.clear("post_aggregations");
    expected.counts(post, json!({"like_count": 1, "repost_count": 1, "bookmark_count": 1}))
}

fn create_all(stack: &Stack, records: &[Record; 6]) {
    for record in records {
        record.create(stack);
    }
}

/// With the switch off nothing is written to `table`, and all else is as ever; rows that are there are taken back.
fn switched_off(switch: &str, table: &'static str) {
    let records = records();
    let name = switch.to_ascii_lowercase();
    let stack = Stack::new(&format!("{name}_off"));
    create_all(&stack, &records);
    stack.drain_with(&[(switch, "false")]);
    let mut expected = all_rows(&records);
    expected.clear(table);
    expected.assert(&stack);

    let stack = Stack::new(&format!("{name}_off_later"));
    create_all(&stack, &records);
    stack.drain();
    all_rows(&records).assert(&stack);
    for record in &records {
        record.delete(&stack);
    }
    stack.drain_with(&[(switch, "false")]);
    Expected::none().users(&[ALICE, BOB, CAROL, DAVE]).assert(&stack);
}

#[test]
fn without_notifications_none_are_written_and_old_ones_are_removed() {
    switched_off("WRITE_NOTIFICATIONS", "notifications");
}

#[test]
fn without_viewer_states_none_are_written_and_old_ones_are_removed() {
    switched_off("WRITE_VIEWER_STATES", "post_viewer_states");
}

#[test]
fn without_generic_records_none_are_written_and_old_ones_are_removed() {
    switched_off("WRITE_GENERIC_RECORDS", "generic_records");
}

#[test]
fn without_generic_records_an_update_takes_the_old_row_away() {
    let stack = Stack::new("generic_records_off_update");
    let [updated, created, kept] = ["u", "c", "k"].map(|rkey| custom(ALICE, rkey, "old"));
    [&updated, &created, &kept]
        .iter()
        .for_each(|record| _ = record.create(&stack));
    stack.drain();
    updated.with(json!({"title": "new"})).update(&stack);
    created.with(json!({"title": "new"})).create(&stack);
    custom(ALICE, "n", "never there").update(&stack);
    stack.drain_with(&[("WRITE_GENERIC_RECORDS", "false")]);
    Expected::none()
        .row("generic_records", generic_row(&kept))
        .assert(&stack);
}

#[test]
fn without_viewer_states_an_update_takes_the_old_state_back() {
    let stack = Stack::new("viewer_states_off_update");
    let [old, new] = ["old", "new"].map(|rkey| post(ALICE, rkey, "hello"));
    let records = |subject: &Record| {
        [
            like(BOB, "l", subject),
            repost(BOB, "r", subject),
            bookmark(BOB, "b", subject),
        ]
    };
    records(&old).iter().for_each(|record| _ = record.create(&stack));
    stack.drain();
    records(&new).iter().for_each(|record| _ = record.update(&stack));
    stack.drain_with(&[("WRITE_VIEWER_STATES", "false")]);
    let states = "SELECT * FROM post_viewer_states WHERE like_uri IS NOT NULL OR repost_uri IS NOT NULL OR bookmarked";
    assert_eq!(stack.query(states), Vec::<Value>::new());
}

#[test]
fn without_notifications_those_for_a_former_recipient_are_removed() {
    let stack = Stack::new("notifications_off_moved");
    let [of_carol, of_dave] = [CAROL, DAVE].map(|did| post(did, "p", "hello"));
    let about = |subject: &Record| {
        let quoting = |rkey: &str| {
            let embed = json!({"$type": "app.bsky.embed.record", "record": strong_ref(subject)});
            post(BOB, rkey, "look").with(json!({"embed": embed}))
        };
        [
            follow(BOB, "f", &subject.repo),
            like(BOB, "l", subject),
            repost(BOB, "r", subject),
            reply(BOB, "a", subject, subject),
            quoting("q"),
        ]
    };
    let stays = [
        like(ALICE, "l", &of_carol),
        follow(ALICE, "f", CAROL),
        reply(ALICE, "a", &of_carol, &of_carol),
    ];
    for record in about(&of_carol).iter().chain(&stays) {
        record.create(&stack);
    }
    stack.drain();
    for record in about(&of_dave).iter().chain(&stays) {
        record.update(&stack);
    }
    stack.drain_with(&[("WRITE_NOTIFICATIONS", "false")]);
    let left: Vec<Value> = stack.query("SELECT recipient_did, author_did FROM notifications");
    assert_eq!(left, vec![json!({"recipient_did": CAROL, "author_did": ALICE}); 3]);
}

fn set_record_counts(stack: &Stack, fields: &[&str]) {
    let mut command = cmd("HSET");
    command.arg(RECORD_COUNTS);
    for field in fields {
        command.arg(field).arg(100);
    }
    command.exec(&mut stack.redis()).expect("HSET");
}

fn record_counts(stack: &Stack) -> BTreeMap<String, i64> {
    cmd("HGETALL")
        .arg(RECORD_COUNTS)
        .query(&mut stack.redis())
        .expect("HGETALL")
}

#[test]
fn record_counts_move_by_the_rows_really_inserted_and_deleted() {
    let stack = Stack::new("record_counts");
    let fields = ["users", "posts", "likes", "reposts", "follows", "blocks", "feed_items"];
    set_record_counts(&stack, &fields);
    let subject = post(ALICE, "p", "hello");
    let block = block(CAROL, "b", DAVE);
    let gone = like(DAVE, "l", &subject);
    let [post, like, repost, _, follow, _] = records();
    for record in [&post, &like, &repost, &follow, &block, &gone, &like] {
        record.create(&stack);
    }
    stack.drain();
    gone.delete(&stack);
    gone.delete(&stack);
    like.create(&stack);
    stack.drain();
    let mut counts = record_counts(&stack);
    counts.remove("post_aggregations");
    let expected = [
        ("users", 104),
        ("posts", 101),
        ("likes", 101),
        ("reposts", 101),
        ("follows", 101),
        ("blocks", 101),
        ("feed_items", 102),
    ];
    assert_eq!(counts, expected.map(|(field, count)| (field.to_owned(), count)).into());
}

#[test]
fn record_counts_that_are_not_there_are_not_made() {
    let stack = Stack::new("record_counts_absent");
    for record in &records() {
        record.create(&stack);
    }
    stack.drain();
    assert_eq!(record_counts(&stack), BTreeMap::new());
}

#[test]
fn users_are_counted_though_the_batch_that_made_them_has_failed() {
    let stack = Stack::new("record_counts_failed");
    set_record_counts(&stack, &["users", "posts"]);
    let number: Value = serde_json::from_str("1e999999").expect("it is JSON");
    // PostgreSQL's jsonb refuses the number, so the batch is applied in parts.
    let refused = post(ALICE, "p", "hello").with(json!({"embed": {"$type": "com.example.embed", "number": number}}));
    refused.create(&stack);
    post(BOB, "p", "hello").create(&stack);
    follow(BOB, "f", CAROL).create(&stack);
    stack.drain();
    assert_eq!(stack.dead_letters().len(), 1);
    let counts = record_counts(&stack);
    assert_eq!((counts["posts"], counts["users"]), (101, 103), "{counts:?}");
}

#[test]
fn likes_without_viewer_states_are_met_in_a_large_batch_as_in_small_ones() {
    let subjects: Vec<Record> = (0..80).map(|n| post(ALICE, &format!("p{n}"), "hello")).collect();
    let likes = |author, name| {
        let subjects = subjects.iter().enumerate();
        subjects.map(move |(n, subject)| like(author, &format!("{name}{n}"), subject))
    };
    let rows = ["2", "2000"].map(|batch| {
        let stack = Stack::new(&format!("states_later_{batch}"));
        for record in subjects.iter().cloned().chain(likes(BOB, "a")) {
            record.create(&stack);
        }
        stack.drain_with(&[("WRITE_VIEWER_STATES", "false")]);
        for record in likes(BOB, "b").chain(likes(CAROL, "c")) {
            record.create(&stack);
        }
        stack.drain_with(&[("MAX_BATCH_ENTRIES", batch)]);
        assert_eq!(stack.count("likes"), 160);
        stack.snapshot()
    });
    assert_same(&rows[0], &rows[1]);
}
