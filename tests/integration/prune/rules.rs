//! Which rows go and which stay, case by case. ALICE is local.

use super::{TABLES, age, apply, assert_exact, keys, prune};
use crate::records::*;
use crate::support::Stack;

/// Applies records, makes them two weeks old and prunes what is older than one. Answers the posts that are left.
fn left(stack: &Stack, records: &[&Record]) -> Vec<String> {
    apply(stack, records.iter().copied());
    age(stack, "14 days");
    prune(stack, ALICE, &[]);
    assert_exact(stack);
    keys(stack, "posts", "uri")
}

fn uris(records: &[&Record]) -> Vec<String> {
    let mut uris: Vec<String> = records.iter().map(|record| record.uri()).collect();
    uris.sort_unstable();
    uris
}

#[test]
fn an_old_post_of_strangers_goes_with_everything_about_it() {
    let stack = Stack::new("prune_everything");
    let subject = post(BOB, "p", "old");
    let embed =
        serde_json::json!({"$type": "app.bsky.embed.record", "record": strong_ref(&post(CAROL, "q", "quoted"))});
    let all = [
        subject.with(serde_json::json!({"embed": embed, "facets": [mention_facet(DAVE)]})),
        like(CAROL, "l", &subject),
        repost(CAROL, "r", &subject),
        bookmark(CAROL, "b", &subject),
        thread_gate(BOB, "p", serde_json::json!([])),
        post_gate(BOB, "p", &["at://did:plc:x/app.bsky.feed.post/1".to_owned()]),
        custom(BOB, "c", "note"),
    ];
    apply(&stack, &all);
    stack.sql(&format!(
        "INSERT INTO thread_contexts (post_uri) VALUES ('{}')",
        subject.uri()
    ));
    for table in TABLES {
        assert!(stack.count(table) > 0, "no row in {table}");
    }
    age(&stack, "14 days");
    let n_users = stack.count("users");
    prune(&stack, ALICE, &[]);
    let left: Vec<_> = TABLES.into_iter().filter(|table| stack.count(table) > 0).collect();
    assert!(left.is_empty(), "rows are left in {left:?}");
    assert_eq!(stack.count("users"), n_users, "users stay");
    assert_exact(&stack);
}

#[test]
fn posts_of_local_users_and_of_those_they_follow_stay() {
    let stack = Stack::new("prune_authors");
    let (own, followed, other) = (
        post(ALICE, "p", "own"),
        post(BOB, "p", "followed"),
        post(CAROL, "p", "other"),
    );
    let left = left(
        &stack,
        &[
            &own,
            &followed,
            &other,
            &follow(ALICE, "f", BOB),
            &follow(BOB, "f", CAROL),
        ],
    );
    assert_eq!(left, uris(&[&own, &followed]));
    assert_eq!(stack.count("follows"), 2);
}

#[test]
fn posts_that_a_local_user_has_touched_stay_with_what_others_did() {
    let stack = Stack::new("prune_touched");
    let posts: Vec<Record> = ["like", "repost", "bookmark", "quote", "reply", "nothing"]
        .into_iter()
        .map(|rkey| post(BOB, rkey, rkey))
        .collect();
    let mut records: Vec<Record> = posts.clone();
    records.extend(
        posts
            .iter()
            .map(|post| like(CAROL, post.path().rsplit('/').next().expect("a key"), post)),
    );
    records.extend([
        like(ALICE, "l", &posts[0]),
        repost(ALICE, "r", &posts[1]),
        bookmark(ALICE, "b", &posts[2]),
        quote(ALICE, "q", &posts[3]),
        reply(ALICE, "a", &posts[4], &posts[4]),
    ]);
    let (answer, quoting) = (records[records.len() - 1].clone(), records[records.len() - 2].clone());
    let left = left(&stack, &records.iter().collect::<Vec<_>>());
    assert_eq!(
        left,
        uris(&[&posts[0], &posts[1], &posts[2], &posts[3], &posts[4], &answer, &quoting])
    );
    assert_eq!(
        stack.count("likes"),
        6,
        "the likes of strangers on posts that stay, and the own one"
    );
}

#[test]
fn the_thread_above_a_post_that_stays_stays_too() {
    let stack = Stack::new("prune_thread");
    let root = post(BOB, "root", "root");
    let first = reply(CAROL, "first", &root, &root);
    let second = reply(DAVE, "second", &first, &root);
    let beside = reply(DAVE, "beside", &first, &root);
    let last = reply(BOB, "last", &second, &root);
    let below = reply(CAROL, "below", &last, &root);
    let like = like(ALICE, "l", &last);
    let left = left(&stack, &[&root, &first, &second, &beside, &last, &below, &like]);
    assert_eq!(
        left,
        uris(&[&root, &first, &second, &last]),
        "neither the reply beside nor the one below"
    );
}

#[test]
fn a_young_reply_of_a_local_user_keeps_an_old_thread() {
    let stack = Stack::new("prune_young_reply");
    let root = post(BOB, "root", "root");
    let middle = reply(CAROL, "middle", &root, &root);
    apply(&stack, [&root, &middle]);
    age(&stack, "14 days");
    let answer = reply(ALICE, "answer", &middle, &root);
    answer.create(&stack);
    stack.drain();
    prune(&stack, ALICE, &[]);
    assert_eq!(keys(&stack, "posts", "uri"), uris(&[&root, &middle, &answer]));
    assert_exact(&stack);
}

#[test]
fn a_young_reply_and_a_young_quote_of_a_pruned_post_stay_and_count() {
    let stack = Stack::new("prune_young_of_old");
    let old = post(BOB, "old", "old");
    apply(&stack, [&old, &like(CAROL, "l", &old)]);
    age(&stack, "14 days");
    let (answer, quoting) = (reply(CAROL, "answer", &old, &old), quote(CAROL, "quote", &old));
    apply(&stack, [&answer, &quoting]);
    prune(&stack, ALICE, &[]);
    assert_eq!(keys(&stack, "posts", "uri"), uris(&[&answer, &quoting]));
    assert_eq!(keys(&stack, "quotes", "quoted_uri"), [old.uri()]);
    let counters = stack.query(&format!(
        "SELECT like_count, reply_count, quote_count FROM post_aggregations WHERE post_uri = '{}'",
        old.uri()
    ));
    assert_eq!(
        counters,
        [serde_json::json!({"like_count": 0, "reply_count": 1, "quote_count": 1})]
    );
    assert_exact(&stack);
    // With them go the counters.
    age(&stack, "14 days");
    prune(&stack, ALICE, &[]);
    for table in ["posts", "quotes", "post_aggregations"] {
        assert_eq!(stack.count(table), 0, "{table}");
    }
}

#[test]
fn the_counters_of_posts_that_stay_go_down_with_the_rows_that_go() {
    let stack = Stack::new("prune_counters");
    let root = post(ALICE, "root", "root");
    let (answer, quoting) = (reply(BOB, "answer", &root, &root), quote(CAROL, "quote", &root));
    let left = left(&stack, &[&root, &answer, &quoting, &like(BOB, "l", &root)]);
    assert_eq!(left, uris(&[&root]));
    let counters = stack.query("SELECT like_count, reply_count, quote_count FROM post_aggregations");
    assert_eq!(
        counters,
        [serde_json::json!({"like_count": 1, "reply_count": 0, "quote_count": 0})]
    );
}

#[test]
fn likes_of_posts_that_are_not_stored_go_by_their_own_age_and_those_of_local_users_stay() {
    let stack = Stack::new("prune_unstored");
    let missing = post(BOB, "missing", "not sent");
    let old = [
        like(CAROL, "l", &missing),
        repost(CAROL, "r", &missing),
        like(ALICE, "l", &missing),
    ];
    old.iter().for_each(|record| _ = record.create(&stack));
    let of_feed = like(CAROL, "feed", &generator(BOB, "g"));
    of_feed.create(&stack);
    stack.drain();
    age(&stack, "14 days");
    let young = like(DAVE, "l", &missing);
    young.create(&stack);
    stack.drain();
    prune(&stack, ALICE, &[]);
    assert_eq!(keys(&stack, "likes", "uri"), uris(&[&old[2], &young, &of_feed]));
    assert_eq!(stack.count("reposts") + stack.count("feed_items"), 0);
    assert_exact(&stack);
}

#[test]
fn notifications_and_generic_records_go_by_their_own_age() {
    let stack = Stack::new("prune_by_age");
    let subject = post(ALICE, "p", "stays");
    let old = [
        subject.clone(),
        like(BOB, "l", &subject),
        custom(BOB, "c", "goes"),
        custom(ALICE, "c", "stays"),
    ];
    apply(&stack, &old);
    age(&stack, "14 days");
    apply(&stack, [&like(CAROL, "l", &subject), &custom(BOB, "young", "stays")]);
    prune(&stack, ALICE, &[]);
    assert_eq!(keys(&stack, "notifications", "author_did"), [CAROL]);
    assert_eq!(stack.count("likes"), 2, "the likes of a post that stays");
    assert_eq!(
        keys(&stack, "generic_records", "uri"),
        uris(&[&custom(ALICE, "c", ""), &custom(BOB, "young", "")])
    );
    assert_exact(&stack);
}

#[test]
fn gates_and_contexts_of_posts_that_are_not_stored_go_by_their_own_age() {
    let stack = Stack::new("prune_gates");
    for owner in [ALICE, BOB] {
        thread_gate(owner, "p", serde_json::json!([])).create(&stack);
        post_gate(owner, "p", &["at://did:plc:x/app.bsky.feed.post/1".to_owned()]).create(&stack);
    }
    stack.drain();
    age(&stack, "14 days");
    thread_gate(CAROL, "p", serde_json::json!([])).create(&stack);
    stack.drain();
    prune(&stack, ALICE, &[]);
    let of = |repo| post(repo, "p", "").uri();
    assert_eq!(keys(&stack, "thread_gates", "post_uri"), [of(ALICE), of(CAROL)]);
    assert_eq!(keys(&stack, "post_gates", "post_uri"), [of(ALICE)]);
}

#[test]
fn no_remembered_like_takes_the_place_of_a_pruned_one() {
    let stack = Stack::new("prune_rivals");
    let subject = post(BOB, "p", "old");
    let likes: Vec<Record> = (0..3).map(|n| like(CAROL, &format!("l{n}"), &subject)).collect();
    subject.create(&stack);
    apply(&stack, &likes);
    assert_eq!(stack.count("firehose_worker.rivals"), 3);
    age(&stack, "14 days");
    prune(&stack, ALICE, &[]);
    assert_eq!(stack.count("likes") + stack.count("firehose_worker.rivals"), 0);
    // The deletes that come later find nothing.
    likes.iter().for_each(|like| _ = like.delete(&stack));
    stack.drain();
    for table in ["likes", "post_aggregations", "post_viewer_states", "notifications"] {
        assert_eq!(stack.count(table), 0, "{table}");
    }
}

#[test]
fn a_post_with_more_likes_than_a_transaction_deletes_goes_in_parts() {
    let stack = Stack::new("prune_viral");
    let subject = post(BOB, "p", "viral");
    subject.create(&stack);
    for n in 0..2500 {
        like(&format!("did:plc:liker{n}"), "l", &subject).create(&stack);
    }
    stack.drain();
    age(&stack, "14 days");
    super::count_rows(&stack);
    let report = prune(&stack, ALICE, &[]);
    assert_eq!(report["rows"]["likes"], 2500);
    for table in [
        "posts",
        "likes",
        "notifications",
        "post_viewer_states",
        "post_aggregations",
        "feed_items",
    ] {
        assert_eq!(stack.count(table), 0, "{table}");
    }
    super::assert_rows_counted(&stack);
}

#[test]
fn counters_that_another_program_left_wrong_do_not_stay() {
    let stack = Stack::new("prune_foreign");
    let subject = post(BOB, "p", "old");
    apply(&stack, [&subject, &like(CAROL, "l", &subject)]);
    stack.sql("UPDATE post_aggregations SET like_count = 7, reply_count = -2; UPDATE likes SET commit_seq = NULL");
    age(&stack, "14 days");
    let answer = reply(CAROL, "answer", &subject, &subject);
    answer.create(&stack);
    stack.drain();
    prune(&stack, ALICE, &[]);
    assert_exact(&stack);
}

#[test]
fn a_mute_of_a_local_user_outlives_the_post() {
    let stack = Stack::new("prune_mute");
    let subject = post(BOB, "p", "old");
    subject.create(&stack);
    stack.drain();
    stack.sql(&format!(
        "INSERT INTO post_viewer_states (post_uri, viewer_did, thread_muted)
         VALUES ('{0}', '{ALICE}', true), ('{0}', '{BOB}', true)",
        subject.uri()
    ));
    age(&stack, "14 days");
    prune(&stack, ALICE, &[]);
    assert_eq!(stack.count("posts"), 0);
    assert_eq!(keys(&stack, "post_viewer_states", "viewer_did"), [ALICE]);
}
