//! Bookmarks, and the viewer states to which likes, reposts and bookmarks have a part each.

use serde_json::{Value, json};

use crate::records::*;
use crate::support::Stack;

// Bookmarks

#[test]
fn a_bookmark_becomes_a_row_a_count_and_a_viewer_state() {
    let stack = Stack::new("bookmark_create");
    let post = post(ALICE, "p", "hello");
    let bookmark = bookmark(BOB, "b", &post);
    post.create(&stack);
    bookmark.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB])
        .post(&post, 1)
        .only_bookmark(&bookmark, &post)
        .assert(&stack);
}

#[test]
fn a_deleted_bookmark_takes_back_count_and_viewer_state() {
    let stack = Stack::new("bookmark_delete");
    let post = post(ALICE, "p", "hello");
    let bookmark = bookmark(BOB, "b", &post);
    post.create(&stack);
    bookmark.create(&stack);
    stack.drain();
    bookmark.delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, BOB]).post(&post, 1).assert(&stack);
}

#[test]
fn a_repeated_bookmark_counts_once() {
    let stack = Stack::new("bookmark_repeat");
    let post = post(ALICE, "p", "hello");
    let bookmark = bookmark(BOB, "b", &post);
    for _ in 0..3 {
        bookmark.create(&stack);
        stack.drain();
    }
    Expected::none()
        .users(&[BOB])
        .only_bookmark(&bookmark, &post)
        .assert(&stack);
}

#[test]
fn an_updated_bookmark_moves_to_its_new_subject() {
    let stack = Stack::new("bookmark_update");
    let (old, new) = (post(ALICE, "p", "old"), post(CAROL, "p", "new"));
    let before = bookmark(BOB, "b", &old);
    let after = bookmark(BOB, "b", &new).with(json!({"createdAt": LATER}));
    before.create(&stack);
    stack.drain();
    after.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[BOB])
        .only_bookmark(&after, &new)
        .assert(&stack);
}

// Viewer states hold the parts of three records and of the app.

#[test]
fn a_viewer_state_has_a_part_of_each_record_and_each_delete_takes_only_its_own() {
    let stack = Stack::new("viewer_state_parts");
    let post = post(ALICE, "p", "hello");
    let (like, repost, bookmark) = (
        like(BOB, "l", &post),
        repost(BOB, "r", &post),
        bookmark(BOB, "b", &post),
    );
    let state = || stack.rows("post_viewer_states");
    let with_parts = |parts: Value| vec![with(viewer_row(&post, BOB), parts)];
    for record in [&like, &repost, &bookmark] {
        record.create(&stack);
        stack.drain();
    }
    let all = json!({"like_uri": like.uri(), "repost_uri": repost.uri(), "bookmarked": true});
    assert_eq!(state(), with_parts(all));
    like.delete(&stack);
    stack.drain();
    assert_eq!(
        state(),
        with_parts(json!({"repost_uri": repost.uri(), "bookmarked": true}))
    );
    bookmark.delete(&stack);
    stack.drain();
    assert_eq!(state(), with_parts(json!({"repost_uri": repost.uri()})));
    repost.delete(&stack);
    stack.drain();
    Expected::none().users(&[BOB]).assert(&stack);
}

#[test]
fn what_the_app_set_in_a_viewer_state_stays() {
    let stack = Stack::new("viewer_state_app");
    let post = post(ALICE, "p", "hello");
    stack.sql(&format!(
        "INSERT INTO post_viewer_states (post_uri, viewer_did, thread_muted, pinned) VALUES ('{}', '{BOB}', true, true)",
        post.uri()
    ));
    let records = [
        like(BOB, "l", &post),
        repost(BOB, "r", &post),
        bookmark(BOB, "b", &post),
    ];
    for record in &records {
        record.create(&stack);
    }
    stack.drain();
    for record in &records {
        record.delete(&stack);
    }
    stack.drain();
    Expected::none()
        .users(&[BOB])
        .row(
            "post_viewer_states",
            with(viewer_row(&post, BOB), json!({"thread_muted": true, "pinned": true})),
        )
        .assert(&stack);
}

#[test]
fn an_unlike_leaves_a_viewer_state_that_names_another_like() {
    let stack = Stack::new("viewer_state_other_uri");
    let subject = post(ALICE, "p", "hello");
    let (like, repost) = (like(BOB, "l", &subject), repost(BOB, "r", &subject));
    like.create(&stack);
    repost.create(&stack);
    stack.drain();
    stack.sql("UPDATE post_viewer_states SET like_uri = 'at://another', repost_uri = 'at://another'");
    like.delete(&stack);
    repost.delete(&stack);
    stack.drain();
    let columns = json!({"like_uri": "at://another", "repost_uri": "at://another"});
    Expected::none()
        .users(&[BOB])
        .row("post_viewer_states", with(viewer_row(&subject, BOB), columns))
        .assert(&stack);
}
