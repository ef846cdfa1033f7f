//! Likes and reposts; bookmarks with viewer states, feed generators and gates in files of their own.
//!
//! Each test compares the whole database, so what a test does not name must not be there.

mod bookmarks;
mod gates;
mod generators;

use serde_json::json;

use crate::records::*;
use crate::support::Stack;

// Likes

#[test]
fn a_like_becomes_a_row_a_count_a_viewer_state_and_a_notification() {
    let stack = Stack::new("like_create");
    let post = post(ALICE, "p", "hello");
    let like = like(BOB, "l", &post);
    post.create(&stack);
    like.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB])
        .post(&post, 1)
        .only_like(&like, &post, 2)
        .assert(&stack);
}

#[test]
fn a_like_keeps_the_via_of_its_record() {
    let stack = Stack::new("like_via");
    let subject = post(ALICE, "p", "hello");
    let via = strong_ref(&repost(CAROL, "r", &subject));
    let like = like(BOB, "l", &subject).with(json!({"via": via}));
    like.create(&stack);
    stack.drain();
    let mut expected = Expected::none().users(&[BOB]).only_like(&like, &subject, 1);
    expected.change("likes", json!({"via": via}));
    expected.assert(&stack);
}

#[test]
fn an_unlike_takes_back_the_count_the_viewer_state_and_the_notification() {
    let stack = Stack::new("like_delete");
    let post = post(ALICE, "p", "hello");
    let like = like(BOB, "l", &post);
    post.create(&stack);
    like.create(&stack);
    stack.drain();
    like.delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, BOB]).post(&post, 1).assert(&stack);
}

#[test]
fn an_unlike_that_comes_twice_counts_once() {
    let stack = Stack::new("like_delete_twice");
    let post = post(ALICE, "p", "hello");
    let (gone, kept) = (like(BOB, "l", &post), like(CAROL, "l", &post));
    for record in [&post, &gone, &kept] {
        record.create(&stack);
    }
    for _ in 0..2 {
        gone.delete(&stack);
        stack.drain();
    }
    Expected::none()
        .users(&[ALICE, BOB, CAROL])
        .post(&post, 1)
        .only_like(&kept, &post, 3)
        .assert(&stack);
}

#[test]
fn a_repeated_like_counts_once() {
    let stack = Stack::new("like_repeat");
    let post = post(ALICE, "p", "hello");
    let like = like(BOB, "l", &post);
    for _ in 0..3 {
        like.create(&stack);
        stack.drain();
    }
    any_seq_of_equals(&stack, "likes", 1);
    Expected::none().users(&[BOB]).only_like(&like, &post, 1).assert(&stack);
}

#[test]
fn an_updated_like_moves_to_its_new_subject_with_all_it_caused() {
    let stack = Stack::new("like_update");
    let (old, new) = (post(ALICE, "p", "old"), post(CAROL, "p", "new"));
    let (before, after) = (like(BOB, "l", &old), like(BOB, "l", &new));
    for record in [&old, &new, &before] {
        record.create(&stack);
    }
    stack.drain();
    after.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB, CAROL])
        .post(&old, 1)
        .post(&new, 2)
        .only_like(&after, &new, 4)
        .assert(&stack);
}

#[test]
fn an_updated_like_of_the_same_subject_takes_the_new_values_and_keeps_is_read() {
    let stack = Stack::new("like_update_values");
    let subject = post(ALICE, "p", "hello");
    let before = like(BOB, "l", &subject);
    let via = strong_ref(&repost(CAROL, "r", &subject));
    let after = before.with(json!({"createdAt": LATER, "via": via}));
    before.create(&stack);
    stack.drain();
    stack.sql("UPDATE notifications SET is_read = true");
    stack.sql("UPDATE likes SET indexed_at = '2020-01-01'");
    after.update(&stack);
    stack.drain();
    let mut expected = Expected::none().users(&[BOB]).only_like(&after, &subject, 2);
    expected.change("likes", json!({"via": via}));
    expected.change("notifications", json!({"is_read": true}));
    expected.assert(&stack);
    assert_eq!(
        stack.query("SELECT indexed_at FROM likes"),
        [json!({"indexed_at": "2020-01-01T00:00:00"})]
    );
}

#[test]
fn a_self_like_makes_no_notification() {
    let stack = Stack::new("like_self");
    let post = post(ALICE, "p", "hello");
    let like = like(ALICE, "l", &post);
    post.create(&stack);
    like.create(&stack);
    stack.drain();
    let mut expected = Expected::none()
        .users(&[ALICE])
        .post(&post, 1)
        .only_like(&like, &post, 2);
    expected.clear("notifications");
    expected.assert(&stack);
}

#[test]
fn a_like_of_a_feed_counts_without_a_notification() {
    let stack = Stack::new("like_feed");
    let feed = generator(ALICE, "feed");
    let like = like(BOB, "l", &feed);
    feed.create(&stack);
    like.create(&stack);
    stack.drain();
    let mut expected = Expected::none()
        .users(&[ALICE, BOB])
        .row("feed_generators", generator_row(&feed))
        .only_like(&like, &feed, 2);
    expected.clear("notifications");
    expected.assert(&stack);
}

#[test]
fn likes_of_several_people_add_up() {
    let stack = Stack::new("like_many");
    let post = post(ALICE, "p", "hello");
    let likes = [like(BOB, "l", &post), like(CAROL, "l", &post), like(DAVE, "l", &post)];
    let mut expected = Expected::none()
        .users(&[BOB, CAROL, DAVE])
        .counts(&post, json!({"like_count": 3}));
    for (like, seq) in likes.iter().zip(1..) {
        like.create(&stack);
        expected = expected
            .row("likes", subject_row(like, &post, seq))
            .row(
                "post_viewer_states",
                with(viewer_row(&post, &like.repo), json!({"like_uri": like.uri()})),
            )
            .row("notifications", subject_notification(like, "like", &post));
    }
    stack.drain();
    expected.assert(&stack);
}

// Reposts

#[test]
fn a_repost_becomes_a_row_a_feed_item_a_count_a_viewer_state_and_a_notification() {
    let stack = Stack::new("repost_create");
    let post = post(ALICE, "p", "hello");
    let repost = repost(BOB, "r", &post);
    post.create(&stack);
    repost.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB])
        .post(&post, 1)
        .only_repost(&repost, &post, 2)
        .assert(&stack);
}

#[test]
fn an_unrepost_takes_back_all_that_the_repost_caused() {
    let stack = Stack::new("repost_delete");
    let post = post(ALICE, "p", "hello");
    let repost = repost(BOB, "r", &post);
    post.create(&stack);
    repost.create(&stack);
    stack.drain();
    repost.delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, BOB]).post(&post, 1).assert(&stack);
}

#[test]
fn a_repeated_repost_counts_once() {
    let stack = Stack::new("repost_repeat");
    let post = post(ALICE, "p", "hello");
    let repost = repost(BOB, "r", &post);
    for _ in 0..3 {
        repost.create(&stack);
        stack.drain();
    }
    any_seq_of_equals(&stack, "reposts", 1);
    Expected::none()
        .users(&[BOB])
        .only_repost(&repost, &post, 1)
        .assert(&stack);
}

#[test]
fn an_updated_repost_moves_to_its_new_subject_with_all_it_caused() {
    let stack = Stack::new("repost_update");
    let (old, new) = (post(ALICE, "p", "old"), post(CAROL, "p", "new"));
    let (before, after) = (repost(BOB, "r", &old), repost(BOB, "r", &new));
    before.create(&stack);
    stack.drain();
    after.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[BOB])
        .only_repost(&after, &new, 2)
        .assert(&stack);
}

#[test]
fn an_updated_repost_of_the_same_subject_takes_the_new_values() {
    let stack = Stack::new("repost_update_values");
    let subject = post(ALICE, "p", "hello");
    let before = repost(BOB, "r", &subject);
    let via = strong_ref(&repost(CAROL, "r", &subject));
    let after = before.with(json!({"createdAt": LATER, "via": via}));
    before.create(&stack);
    stack.drain();
    after.update(&stack);
    stack.drain();
    let mut expected = Expected::none().users(&[BOB]).only_repost(&after, &subject, 2);
    expected.change("reposts", json!({"via": via}));
    expected.assert(&stack);
}

#[test]
fn a_self_repost_makes_no_notification() {
    let stack = Stack::new("repost_self");
    let post = post(ALICE, "p", "hello");
    let repost = repost(ALICE, "r", &post);
    post.create(&stack);
    repost.create(&stack);
    stack.drain();
    let mut expected = Expected::none()
        .users(&[ALICE])
        .post(&post, 1)
        .only_repost(&repost, &post, 2);
    expected.clear("notifications");
    expected.assert(&stack);
}
