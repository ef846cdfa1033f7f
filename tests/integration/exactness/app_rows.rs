//! Rows that the AppView or an older worker has inserted, and rows that the AppView has deleted.
//!
//! Rows of other programs have no commit_seq; the worker's always have one. If an op finds a row without it, it is
//! unknown whether the row was counted. Its missing side effects are added, and the subject's counter is set to the
//! number of rows.

use serde_json::json;

use crate::records::*;
use crate::support::Stack;

/// What the app's write API inserts for a like, and what a miscounting worker may have left as the count.
pub(super) fn insert_like(stack: &Stack, like: &Record, subject: &Record) {
    stack.sql(&format!(
        "INSERT INTO likes (uri, user_did, post_uri, created_at) VALUES ('{}', '{}', '{}', '2025-12-31')",
        like.uri(),
        like.repo,
        subject.uri(),
    ));
}

pub(super) fn insert_repost(stack: &Stack, repost: &Record, subject: &Record) {
    stack.sql(&format!(
        "INSERT INTO reposts (uri, user_did, post_uri, created_at) VALUES ('{}', '{}', '{}', '2025-12-31')",
        repost.uri(),
        repost.repo,
        subject.uri(),
    ));
}

fn insert_follow(stack: &Stack, follow: &Record) {
    stack.sql(&format!(
        "INSERT INTO follows (uri, follower_did, following_did, created_at)
             VALUES ('{}', '{}', {}, '2025-12-31')",
        follow.uri(),
        follow.repo,
        follow.value["subject"].to_string().replace('"', "'"),
    ));
}

/// A bare post, as a reply where it has a parent.
pub(super) fn insert_post(stack: &Stack, post: &Record) {
    let parent = post.value["reply"]["parent"]["uri"]
        .as_str()
        .map_or("NULL".to_owned(), |uri| format!("'{uri}'"));
    stack.sql(&format!(
        "INSERT INTO posts (uri, cid, author_did, text, parent_uri, embed, created_at)
             VALUES ('{}', 'cid of the app', '{}', 'text of the app', {parent}, '{}', '2025-12-31')",
        post.uri(),
        post.repo,
        post.value["embed"],
    ));
}

/// The aggregation row of `subject` as another program has counted.
pub(super) fn insert_counts(stack: &Stack, subject: &Record, like: i32, repost: i32, reply: i32, quote: i32) {
    stack.sql(&format!(
        "INSERT INTO post_aggregations (post_uri, like_count, repost_count, reply_count, quote_count)
             VALUES ('{}', {like}, {repost}, {reply}, {quote})",
        subject.uri(),
    ));
}

#[test]
fn a_like_of_the_app_is_completed_whether_or_not_it_was_counted() {
    for counted in [None, Some(0), Some(1), Some(5)] {
        let stack = Stack::new("app_like");
        let post = post(ALICE, "p", "hello");
        let like = like(BOB, "l", &post);
        insert_like(&stack, &like, &post);
        if let Some(count) = counted {
            insert_counts(&stack, &post, count, 0, 0, 0);
        }
        like.create(&stack);
        stack.drain();
        Expected::none().users(&[BOB]).only_like(&like, &post, 1).assert(&stack);
    }
}

#[test]
fn a_repost_of_an_older_worker_gets_what_it_lacks() {
    let stack = Stack::new("app_repost");
    let post = post(ALICE, "p", "hello");
    let repost = repost(BOB, "r", &post);
    insert_repost(&stack, &repost, &post);
    insert_counts(&stack, &post, 0, 3, 0, 0);
    repost.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[BOB])
        .only_repost(&repost, &post, 1)
        .assert(&stack);
}

#[test]
fn a_follow_of_the_app_gets_users_and_notification() {
    let stack = Stack::new("app_follow");
    let follow = follow(ALICE, "f", BOB);
    insert_follow(&stack, &follow);
    follow.create(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, BOB]).follow(&follow, 1).assert(&stack);
}

#[test]
fn a_post_of_the_app_gets_the_records_values_and_all_side_effects() {
    let stack = Stack::new("app_post");
    let (parent, quoted) = (post(BOB, "p", "parent"), post(CAROL, "q", "quoted"));
    let embed = json!({"$type": "app.bsky.embed.record", "record": strong_ref(&quoted)});
    let facets = json!([mention_facet(DAVE)]);
    let post = reply(ALICE, "a", &parent, &parent).with(json!({"embed": embed, "facets": facets}));
    insert_post(&stack, &post);
    insert_counts(&stack, &parent, 0, 0, 7, 0);
    insert_counts(&stack, &quoted, 0, 0, 0, 0);
    post.create(&stack);
    stack.drain();
    let columns = with(
        reply_columns(&parent, &parent),
        json!({"embed": embed, "facets": facets}),
    );
    Expected::none()
        .users(&[ALICE])
        .post_with(&post, 1, columns)
        .counts(&parent, json!({"reply_count": 1}))
        .counts(&quoted, json!({"quote_count": 1}))
        .row("quotes", quote_row(&post, &quoted))
        .row("notifications", reply_notification(&post, BOB))
        .row("notifications", quote_notification(&post, CAROL))
        .row("notifications", mention_notification(&post, DAVE))
        .assert(&stack);
}

#[test]
fn rows_of_the_app_are_counted_beside_ours_when_one_of_them_is_met() {
    let stack = Stack::new("app_likes_beside_ours");
    let post = post(ALICE, "p", "hello");
    let likes = [like(BOB, "l", &post), like(CAROL, "l", &post), like(DAVE, "l", &post)];
    insert_like(&stack, &likes[0], &post);
    insert_like(&stack, &likes[1], &post);
    // Not counted so far; Carol's row has no side effects, since no op has found it.
    likes[0].create(&stack);
    likes[2].create(&stack);
    stack.drain();
    assert_eq!(
        stack.rows("post_aggregations"),
        [aggregation_row(&post.uri(), json!({"like_count": 3}))]
    );
    stack.assert_counters_equal_rows();
}

#[test]
fn an_unlike_of_a_like_of_the_app_leaves_the_right_count_in_any_case() {
    for count in [0, 1, 2, 5] {
        let stack = Stack::new("app_unlike");
        let post = post(ALICE, "p", "hello");
        let (gone, kept) = (like(BOB, "l", &post), like(CAROL, "l", &post));
        insert_like(&stack, &gone, &post);
        insert_like(&stack, &kept, &post);
        insert_counts(&stack, &post, count, 0, 0, 0);
        gone.delete(&stack);
        stack.drain();
        assert_eq!(
            stack.rows("post_aggregations"),
            [aggregation_row(&post.uri(), json!({"like_count": 1}))]
        );
        assert_eq!(stack.count("likes"), 1);
    }
}

#[test]
fn an_update_that_moves_a_like_of_the_app_leaves_both_counts_right() {
    let stack = Stack::new("app_like_moved");
    let (old, new) = (post(ALICE, "p", "old"), post(CAROL, "p", "new"));
    let (before, after) = (like(BOB, "l", &old), like(BOB, "l", &new));
    insert_like(&stack, &before, &old);
    after.update(&stack);
    stack.drain();
    Expected::none().users(&[BOB]).only_like(&after, &new, 1).assert(&stack);
}

#[test]
fn the_delete_of_a_reply_of_the_app_leaves_the_right_count_of_its_parent() {
    for count in [0, 1, 2] {
        let stack = Stack::new("app_reply_deleted");
        let parent = post(BOB, "p", "parent");
        let (gone, kept) = (reply(ALICE, "a", &parent, &parent), reply(ALICE, "b", &parent, &parent));
        insert_post(&stack, &gone);
        insert_post(&stack, &kept);
        insert_counts(&stack, &parent, 0, 0, count, 0);
        gone.delete(&stack);
        stack.drain();
        assert_eq!(
            stack.rows("post_aggregations"),
            [aggregation_row(&parent.uri(), json!({"reply_count": 1}))]
        );
    }
}

#[test]
fn an_app_like_created_and_deleted_at_once_or_one_by_one_leaves_nothing() {
    let post = post(ALICE, "p", "hello");
    let like = like(BOB, "l", &post);
    both_ways_give("app_like_folded", Expected::none().users(&[BOB]), |stack, step| {
        insert_like(stack, &like, &post);
        like.create(stack);
        step();
        like.delete(stack);
    });
}

#[test]
fn an_unlike_of_a_row_deleted_by_the_app_recounts_and_removes_the_notification() {
    let stack = Stack::new("app_deleted_like");
    let post = post(ALICE, "p", "hello");
    let (gone, kept) = (like(BOB, "l", &post), like(CAROL, "l", &post));
    gone.create(&stack);
    kept.create(&stack);
    stack.drain();
    stack.sql(&format!("DELETE FROM likes WHERE uri = '{}'", gone.uri()));
    gone.delete(&stack);
    stack.drain();
    Expected::none()
        .users(&[BOB, CAROL])
        .only_like(&kept, &post, 2)
        .assert(&stack);
}

#[test]
fn an_unlike_after_the_app_has_deleted_and_counted_counts_no_second_time() {
    let stack = Stack::new("app_deleted_and_counted_like");
    let post = post(ALICE, "p", "hello");
    let (gone, kept) = (like(BOB, "l", &post), like(CAROL, "l", &post));
    gone.create(&stack);
    kept.create(&stack);
    stack.drain();
    stack.sql(&format!("DELETE FROM likes WHERE uri = '{}'", gone.uri()));
    stack.sql("UPDATE post_aggregations SET like_count = 1");
    gone.delete(&stack);
    stack.drain();
    Expected::none()
        .users(&[BOB, CAROL])
        .only_like(&kept, &post, 2)
        .assert(&stack);
}

#[test]
fn an_unrepost_after_the_app_has_deleted_the_row_takes_back_the_rest() {
    let stack = Stack::new("app_deleted_repost");
    let post = post(ALICE, "p", "hello");
    let repost = repost(BOB, "r", &post);
    repost.create(&stack);
    stack.drain();
    stack.sql("DELETE FROM reposts");
    repost.delete(&stack);
    stack.drain();
    Expected::none().users(&[BOB]).assert(&stack);
}

#[test]
fn an_unfollow_after_the_app_has_deleted_the_row_removes_the_notification() {
    let stack = Stack::new("app_deleted_follow");
    let follow = follow(ALICE, "f", BOB);
    follow.create(&stack);
    stack.drain();
    stack.sql("DELETE FROM follows");
    follow.delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, BOB]).assert(&stack);
}

#[test]
fn a_like_whose_row_the_app_has_deleted_may_come_again() {
    let stack = Stack::new("app_deleted_then_liked");
    let post = post(ALICE, "p", "hello");
    let (first, second) = (like(BOB, "l", &post), like(BOB, "m", &post));
    first.create(&stack);
    stack.drain();
    stack.sql("DELETE FROM likes");
    first.delete(&stack);
    second.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[BOB])
        .only_like(&second, &post, 3)
        .assert(&stack);
}

#[test]
fn a_rival_takes_over_from_a_like_of_the_app_with_the_right_count() {
    let stack = Stack::new("app_like_rival");
    let post = post(ALICE, "p", "hello");
    let (of_app, rival) = (like(BOB, "l", &post), like(BOB, "m", &post));
    insert_like(&stack, &of_app, &post);
    insert_counts(&stack, &post, 5, 0, 0, 0);
    rival.create(&stack);
    stack.drain();
    assert_eq!(stack.count("likes"), 1);
    of_app.delete(&stack);
    stack.drain();
    Expected::none()
        .users(&[BOB])
        .only_like(&rival, &post, 1)
        .assert(&stack);
    rival.delete(&stack);
    stack.drain();
    Expected::none().users(&[BOB]).assert(&stack);
}

#[test]
fn an_update_that_moves_a_reply_of_the_app_leaves_both_counts_right() {
    let stack = Stack::new("app_reply_moved");
    let (old, new) = (post(BOB, "p", "old"), post(CAROL, "p", "new"));
    let (before, after) = (reply(ALICE, "a", &old, &old), reply(ALICE, "a", &new, &new));
    insert_post(&stack, &before);
    insert_counts(&stack, &old, 0, 0, 0, 0);
    insert_counts(&stack, &new, 0, 0, 3, 0);
    after.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&after, 1, reply_columns(&new, &new))
        .counts(&new, json!({"reply_count": 1}))
        .row("notifications", reply_notification(&after, CAROL))
        .assert(&stack);
}

#[test]
fn a_delete_of_a_post_deleted_by_the_app_removes_its_side_effects() {
    let stack = Stack::new("app_deleted_post");
    let target = post(BOB, "p", "parent");
    let embed = json!({"$type": "app.bsky.embed.record", "record": strong_ref(&target)});
    let post = reply(ALICE, "a", &target, &target).with(json!({"embed": embed}));
    post.create(&stack);
    stack.drain();
    stack.sql("DELETE FROM posts");
    post.delete(&stack);
    stack.drain();
    for table in ["feed_items", "quotes", "notifications"] {
        assert!(stack.rows(table).is_empty(), "{table}: {:?}", stack.rows(table));
    }
}

/// Bob's two records of one pair, for each kind without a notification, and the number of rows that count for their
/// subject.
fn silent_pairs() -> Vec<[Record; 2]> {
    let own = post(BOB, "p", "of his own");
    let both = |record: &dyn Fn(&str) -> Record| ["a", "b"].map(record);
    vec![
        both(&|rkey| like(BOB, rkey, &generator(ALICE, "g"))),
        both(&|rkey| repost(BOB, rkey, &own)),
        both(&|rkey| bookmark(BOB, rkey, &own)),
        both(&|rkey| block(BOB, rkey, CAROL)),
        both(&|rkey| list_block(BOB, rkey, &list(ALICE, "l"))),
    ]
}

#[test]
fn a_rival_replaces_a_record_whose_row_the_app_deleted_without_a_trace() {
    let stack = Stack::new("app_deleted_holder");
    let pairs = silent_pairs();
    pairs.iter().flatten().for_each(|record| _ = record.create(&stack));
    stack.drain();
    let tables = ["likes", "reposts", "bookmarks", "blocks", "list_blocks"];
    tables
        .iter()
        .for_each(|table| stack.sql(&format!("DELETE FROM {table}")));
    pairs.iter().for_each(|[holder, _]| _ = holder.delete(&stack));
    stack.drain();
    for (table, [_, rival]) in tables.iter().zip(&pairs) {
        let uris: Vec<String> = stack.rows(table).iter().map(|row| text_of(row, "uri")).collect();
        assert_eq!(uris, [rival.uri()], "{table}");
    }
    stack.assert_counters_equal_rows();
    pairs.iter().for_each(|[_, rival]| _ = rival.delete(&stack));
    stack.drain();
    for table in tables {
        assert_eq!(stack.count(table), 0, "{table}");
    }
    stack.assert_counters_equal_rows();
}

#[test]
fn records_that_go_together_after_the_app_has_deleted_their_row_leave_no_viewer_state() {
    let stack = Stack::new("app_deleted_holder_all");
    let pairs = silent_pairs();
    pairs.iter().flatten().for_each(|record| _ = record.create(&stack));
    stack.drain();
    for table in ["likes", "reposts", "bookmarks"] {
        stack.sql(&format!("DELETE FROM {table}"));
    }
    pairs.iter().flatten().for_each(|record| _ = record.delete(&stack));
    stack.drain();
    Expected::none().users(&[BOB, CAROL]).assert(&stack);
}
