//! Likes, reposts and bookmarks of which the AppView has deleted only the row, and whose subject no notification
//! reveals.

use crate::records::*;
use crate::support::Stack;

/// One record of each kind that counts, of Bob.
fn of_bob(subject: &Record) -> [Record; 3] {
    [
        like(BOB, "l", subject),
        repost(BOB, "r", subject),
        bookmark(BOB, "b", subject),
    ]
}

/// Stores records of Bob and of another account about one subject. Then the AppView deletes Bob's rows, and the stream
/// deletes his records.
fn taken_back(name: &str, subject: &Record, env: &[(&str, &str)]) -> Stack {
    let stack = Stack::new(name);
    let kept = [
        like(CAROL, "l", subject),
        repost(CAROL, "r", subject),
        bookmark(CAROL, "b", subject),
    ];
    let gone = of_bob(subject);
    gone.iter().chain(&kept).for_each(|record| _ = record.create(&stack));
    stack.drain_with(env);
    for table in ["likes", "reposts", "bookmarks"] {
        stack.sql(&format!("DELETE FROM {table} WHERE user_did = '{BOB}'"));
    }
    gone.iter().for_each(|record| _ = record.delete(&stack));
    stack.drain_with(env);
    stack
}

fn assert_only_carols_is_left(stack: &Stack) {
    stack.assert_counters_equal_rows();
    let states = stack.query(&format!(
        "SELECT * FROM post_viewer_states
         WHERE viewer_did = '{BOB}' AND (like_uri IS NOT NULL OR repost_uri IS NOT NULL OR bookmarked)"
    ));
    assert!(states.is_empty(), "{states:?}");
    let items = stack.query(&format!("SELECT * FROM feed_items WHERE originator_did = '{BOB}'"));
    assert!(items.is_empty(), "{items:?}");
    assert_eq!(stack.count("likes"), 1);
}

#[test]
fn what_the_app_takes_back_of_ones_own_post_is_counted_anew() {
    let stack = taken_back("forgotten_own", &post(BOB, "p", "of his own"), &[]);
    assert_only_carols_is_left(&stack);
}

#[test]
fn what_the_app_takes_back_of_something_else_than_a_post_is_counted_anew() {
    let stack = taken_back("forgotten_feed", &generator(ALICE, "g"), &[]);
    assert_only_carols_is_left(&stack);
}

#[test]
fn what_the_app_takes_back_is_counted_anew_without_notifications() {
    let env = [("WRITE_NOTIFICATIONS", "false")];
    let stack = taken_back("forgotten_quiet", &post(ALICE, "p", "hello"), &env);
    assert_only_carols_is_left(&stack);
}

#[test]
fn a_repost_that_the_app_takes_back_is_counted_anew_by_its_feed_item_alone() {
    let stack = Stack::new("forgotten_repost");
    let subject = post(ALICE, "p", "hello");
    let (gone, kept) = (repost(BOB, "r", &subject), repost(CAROL, "r", &subject));
    let env = [("WRITE_NOTIFICATIONS", "false"), ("WRITE_VIEWER_STATES", "false")];
    gone.create(&stack);
    kept.create(&stack);
    stack.drain_with(&env);
    stack.sql(&format!("DELETE FROM reposts WHERE user_did = '{BOB}'"));
    gone.delete(&stack);
    stack.drain_with(&env);
    stack.assert_counters_equal_rows();
    assert_eq!(stack.count("feed_items"), 1);
}

#[test]
fn a_like_removed_by_the_app_is_distinguished_from_others_of_its_user() {
    let stack = Stack::new("forgotten_others");
    let posts: Vec<Record> = (0..30).map(|n| post(BOB, &format!("p{n}"), "of his own")).collect();
    let likes: Vec<Record> = posts
        .iter()
        .zip(0..)
        .map(|(post, n)| like(BOB, &format!("l{n}"), post))
        .collect();
    likes.iter().for_each(|like| _ = like.create(&stack));
    stack.drain();
    let gone = &likes[17];
    stack.sql(&format!("DELETE FROM likes WHERE uri = '{}'", gone.uri()));
    gone.delete(&stack);
    // One that is there, and one that never was.
    likes[3].delete(&stack);
    like(BOB, "never", &posts[5]).delete(&stack);
    stack.drain();
    stack.assert_counters_equal_rows();
    assert_eq!(stack.count("likes"), 28);
    let states = stack.query("SELECT * FROM post_viewer_states WHERE like_uri IS NOT NULL");
    assert_eq!(states.len(), 28);
}
