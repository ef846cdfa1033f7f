//! Rows of older workers, which wrote fewer side effects and counted differently: any op that finds such a row adds
//! what is missing and recounts.

use serde_json::json;

use super::app_rows::{insert_counts, insert_like, insert_post, insert_repost};
use crate::records::*;
use crate::support::Stack;

/// The row of a record that only an older worker has written.
const OLDER: &str = "2025-12-31T00:00:00";

fn insert_bookmark(stack: &Stack, bookmark: &Record, subject: &Record, created_at: &str) {
    stack.sql(&format!(
        "INSERT INTO bookmarks (uri, user_did, post_uri, created_at) VALUES ('{}', '{}', '{}', '{created_at}')",
        bookmark.uri(),
        bookmark.repo,
        subject.uri(),
    ));
}

fn insert_bookmark_count(stack: &Stack, subject: &Record, count: i32) {
    stack.sql(&format!(
        "INSERT INTO post_aggregations (post_uri, bookmark_count) VALUES ('{}', {count})",
        subject.uri(),
    ));
}

/// A post with a quote in the dialect that its worker stored it in.
fn insert_quote(stack: &Stack, post: &Record, quoted: &Record, type_name: &str) {
    insert_post(stack, post);
    let embed = json!({type_name: "app.bsky.embed.record", "record": {"uri": quoted.uri(), "cid": quoted.cid}});
    stack.sql(&format!(
        "UPDATE posts SET embed = '{embed}' WHERE uri = '{}'",
        post.uri()
    ));
}

#[test]
fn a_like_of_an_older_worker_gets_what_it_lacks_when_a_rival_meets_it() {
    let stack = Stack::new("older_like_met");
    let post = post(ALICE, "p", "hello");
    let (holder, rival) = (like(BOB, "l", &post), like(BOB, "m", &post));
    insert_like(&stack, &holder, &post);
    insert_counts(&stack, &post, 4, 0, 0, 0);
    rival.create(&stack);
    stack.drain();
    let row = with(
        subject_row(&holder, &post, 0),
        json!({"subject_cid": null, "commit_seq": null, "created_at": OLDER}),
    );
    let notification = with(
        subject_notification(&holder, "like", &post),
        json!({"cid": null, "created_at": OLDER}),
    );
    Expected::none()
        .users(&[BOB])
        .row("likes", row)
        .counts(&post, json!({"like_count": 1}))
        .row(
            "post_viewer_states",
            with(viewer_row(&post, BOB), json!({"like_uri": holder.uri()})),
        )
        .row("notifications", notification)
        .assert(&stack);
}

#[test]
fn a_repost_of_an_older_worker_keeps_its_feed_item_beside_a_rival() {
    for has_item in [true, false] {
        let stack = Stack::new("older_repost_met");
        let post = post(ALICE, "p", "hello");
        let (holder, rival) = (repost(BOB, "r", &post), repost(BOB, "s", &post));
        insert_repost(&stack, &holder, &post);
        if has_item {
            stack.sql(&format!(
                "INSERT INTO feed_items (uri, post_uri, originator_did, type, sort_at, cid, created_at)
                     VALUES ('{}', '{}', '{BOB}', 'repost', '2025-12-31', '{}', '2025-12-31')",
                holder.uri(),
                post.uri(),
                holder.cid,
            ));
        }
        rival.create(&stack);
        stack.drain();
        let cid = if has_item { holder.cid.clone() } else { holder.uri() };
        let item = with(
            feed_item_row(&holder, &post.uri(), "repost"),
            json!({"cid": cid, "sort_at": OLDER, "created_at": OLDER}),
        );
        assert_eq!(stack.rows("feed_items"), [item]);
        stack.assert_counters_equal_rows();
    }
}

#[test]
fn a_bookmark_of_an_older_worker_is_completed_even_if_its_record_is_unchanged() {
    for created_at in [CREATED_ROW, OLDER] {
        let stack = Stack::new("older_bookmark");
        let post = post(ALICE, "p", "hello");
        let bookmark = bookmark(BOB, "b", &post);
        insert_bookmark(&stack, &bookmark, &post, created_at);
        insert_bookmark_count(&stack, &post, 3);
        bookmark.create(&stack);
        stack.drain();
        Expected::none()
            .users(&[BOB])
            .only_bookmark(&bookmark, &post)
            .assert(&stack);
    }
}

#[test]
fn the_delete_of_a_bookmark_of_an_older_worker_leaves_the_right_count() {
    for count in [0, 1, 2, 5] {
        let stack = Stack::new("older_bookmark_deleted");
        let post = post(ALICE, "p", "hello");
        let (gone, kept) = (bookmark(BOB, "b", &post), bookmark(CAROL, "b", &post));
        insert_bookmark(&stack, &gone, &post, OLDER);
        insert_bookmark(&stack, &kept, &post, OLDER);
        insert_bookmark_count(&stack, &post, count);
        gone.delete(&stack);
        stack.drain();
        assert_eq!(
            stack.rows("post_aggregations"),
            [aggregation_row(&post.uri(), json!({"bookmark_count": 1}))]
        );
    }
}

#[test]
fn the_delete_of_a_quote_of_an_older_worker_leaves_the_right_count() {
    for type_name in ["$type", "py_type"] {
        let stack = Stack::new("older_quote_deleted");
        let (quoted, quoting) = (post(BOB, "q", "quoted"), post(ALICE, "p", "a quote"));
        insert_quote(&stack, &quoting, &quoted, type_name);
        insert_counts(&stack, &quoted, 0, 0, 0, 2);
        quoting.delete(&stack);
        stack.drain();
        Expected::none().assert(&stack);
    }
}

#[test]
fn an_edit_of_a_quote_of_an_older_worker_leaves_both_counts_right() {
    for type_name in ["$type", "py_type"] {
        let stack = Stack::new("older_quote_edited");
        let (old, new) = (post(BOB, "q", "quoted"), post(CAROL, "q", "quoted"));
        let edited = quote(ALICE, "p", &new);
        insert_quote(&stack, &edited, &old, type_name);
        insert_counts(&stack, &old, 0, 0, 0, 2);
        insert_counts(&stack, &new, 0, 0, 0, 7);
        edited.update(&stack);
        stack.drain();
        Expected::none()
            .users(&[ALICE])
            .post_with(&edited, 1, json!({"embed": edited.value["embed"]}))
            .counts(&new, json!({"quote_count": 1}))
            .row("quotes", quote_row(&edited, &new))
            .row("notifications", quote_notification(&edited, CAROL))
            .assert(&stack);
    }
}

#[test]
fn a_deleted_self_repost_loses_its_feed_item_though_the_app_deleted_the_row() {
    let stack = Stack::new("app_deleted_own_repost");
    let repost = repost(ALICE, "r", &post(ALICE, "p", "hello"));
    repost.create(&stack);
    stack.drain();
    stack.sql("DELETE FROM reposts");
    repost.delete(&stack);
    stack.drain();
    assert!(stack.rows("feed_items").is_empty(), "{:?}", stack.rows("feed_items"));
}

#[test]
fn a_feed_item_without_a_known_cid_gets_a_long_uri_truncated() {
    let stack = Stack::new("older_repost_long_uri");
    let post = post(ALICE, "p", "hello");
    let (older, rival) = (repost(BOB, &"r".repeat(400), &post), repost(BOB, "r", &post));
    insert_repost(&stack, &older, &post);
    rival.create(&stack);
    stack.drain();
    assert!(stack.dead_letters().is_empty(), "{:?}", stack.dead_letters());
    let cids: Vec<String> = stack.rows("feed_items").iter().map(|row| text_of(row, "cid")).collect();
    assert_eq!(cids, [&older.uri()[..255]]);
}
