//! Posts with their aggregation and feed item; replies, quotes and mentions in a file of their own.
//!
//! Each test compares the whole database, so what a test does not name must not be there.

mod references;

use serde_json::{Value, json};

use crate::records::*;
use crate::support::Stack;

fn quote_embed(quoted: &Record) -> Value {
    json!({"$type": "app.bsky.embed.record", "record": strong_ref(quoted)})
}

#[test]
fn a_post_becomes_a_post_an_aggregation_a_feed_item_and_its_author() {
    let stack = Stack::new("post_create");
    let post = post(ALICE, "a", "hello");
    post.create(&stack);
    stack.drain();
    Expected::none().users(&[ALICE]).post(&post, 1).assert(&stack);
}

#[test]
fn a_post_keeps_langs_tags_facets_and_embed_as_the_record_has_them() {
    let stack = Stack::new("post_fields");
    let facets = json!([{
        "index": {"byteStart": 0, "byteEnd": 5},
        "features": [{"$type": "app.bsky.richtext.facet#link", "uri": "https://example.com"}],
    }]);
    let embed = json!({
        "$type": "app.bsky.embed.external",
        "external": {
            "uri": "https://example.com", "title": "t", "description": "d", "thumb": blob(IMAGE, "image/jpeg"),
        },
    });
    let fields = json!({"langs": ["de", "pt-BR"], "tags": ["cats", "dogs"], "facets": facets, "embed": embed});
    let post = post(ALICE, "a", "hello").with(fields.clone());
    post.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&post, 1, fields)
        .assert(&stack);
}

#[test]
fn a_post_without_optional_members_has_null_columns_and_no_tags() {
    let stack = Stack::new("post_minimal");
    let post = post(ALICE, "a", "").without("langs");
    post.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&post, 1, json!({"langs": null}))
        .assert(&stack);
}

#[test]
fn an_updated_post_has_the_updates_values() {
    let stack = Stack::new("post_update");
    let first = post(ALICE, "a", "hello").with(json!({"tags": ["old"], "langs": ["de"]}));
    let second = post(ALICE, "a", "hello again")
        .without("langs")
        .with(json!({"createdAt": LATER}));
    first.create(&stack);
    stack.drain();
    second.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&second, 2, json!({"langs": null}))
        .assert(&stack);
}

#[test]
fn an_update_of_a_post_never_seen_creates_it() {
    let stack = Stack::new("post_update_unseen");
    let parent = post(BOB, "p", "parent");
    let reply = reply(ALICE, "a", &parent, &parent);
    reply.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&reply, 1, reply_columns(&parent, &parent))
        .counts(&parent, json!({"reply_count": 1}))
        .row("notifications", reply_notification(&reply, BOB))
        .assert(&stack);
}

#[test]
fn a_create_of_a_post_that_is_there_replaces_it() {
    let stack = Stack::new("post_create_again");
    let first = post(ALICE, "a", "hello").with(json!({"tags": ["old"]}));
    let second = post(ALICE, "a", "hello again");
    first.create(&stack);
    stack.drain();
    second.create(&stack);
    stack.drain();
    Expected::none().users(&[ALICE]).post(&second, 2).assert(&stack);
}

#[test]
fn an_updated_post_keeps_the_time_at_which_it_was_indexed() {
    let stack = Stack::new("post_update_indexed_at");
    post(ALICE, "a", "hello").create(&stack);
    stack.drain();
    stack.sql("UPDATE posts SET indexed_at = '2020-01-01'");
    stack.sql("UPDATE feed_items SET indexed_at = '2020-01-01'");
    post(ALICE, "a", "hello again").update(&stack);
    stack.drain();
    let kept = stack.query("SELECT p.indexed_at, f.indexed_at AS feed FROM posts p JOIN feed_items f USING (uri)");
    assert_eq!(
        kept,
        [json!({"indexed_at": "2020-01-01T00:00:00", "feed": "2020-01-01T00:00:00"})]
    );
}

#[test]
fn a_repeated_reply_with_quote_and_mention_counts_once() {
    let stack = Stack::new("post_repeat");
    let parent = post(BOB, "p", "parent");
    let quoted = post(CAROL, "q", "quoted");
    let facets = json!([mention_facet(DAVE)]);
    let embed = quote_embed(&quoted);
    let post = reply(ALICE, "a", &parent, &parent).with(json!({"embed": embed, "facets": facets}));
    for _ in 0..3 {
        post.create(&stack);
        stack.drain();
    }
    any_seq_of_equals(&stack, "posts", 1);
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
fn a_deleted_post_takes_its_aggregation_feed_item_and_context_with_it() {
    let stack = Stack::new("post_delete");
    let post = post(ALICE, "a", "hello");
    post.create(&stack);
    stack.drain();
    stack.sql(&format!(
        "INSERT INTO thread_contexts (post_uri) VALUES ('{}')",
        post.uri()
    ));
    post.delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE]).assert(&stack);
}

#[test]
fn a_delete_of_a_post_never_seen_changes_nothing() {
    let stack = Stack::new("post_delete_unseen");
    post(ALICE, "a", "hello").delete(&stack);
    stack.drain();
    Expected::none().assert(&stack);
}

#[test]
fn records_of_others_about_a_deleted_post_stay() {
    let stack = Stack::new("post_delete_keeps_others");
    let subject = post(ALICE, "a", "hello");
    let (like, repost) = (like(BOB, "l", &subject), repost(CAROL, "r", &subject));
    let (reply, quote) = (reply(BOB, "p", &subject, &subject), quote(CAROL, "q", &subject));
    let gate = thread_gate(ALICE, "a", json!([]));
    for record in [&subject, &like, &repost, &reply, &quote, &gate] {
        record.create(&stack);
    }
    stack.drain();
    subject.delete(&stack);
    stack.drain();
    let counts = json!({"like_count": 1, "repost_count": 1, "reply_count": 1, "quote_count": 1});
    let state = |viewer: &str, column: &str, uri: String| with(viewer_row(&subject, viewer), json!({column: uri}));
    Expected::none()
        .users(&[ALICE, BOB, CAROL])
        .row("likes", subject_row(&like, &subject, 2))
        .row("reposts", subject_row(&repost, &subject, 3))
        .row("feed_items", feed_item_row(&repost, &subject.uri(), "repost"))
        .post_with(&reply, 4, reply_columns(&subject, &subject))
        .post_with(&quote, 5, json!({"embed": quote_embed(&subject)}))
        .counts(&subject, counts)
        .row("post_viewer_states", state(BOB, "like_uri", like.uri()))
        .row("post_viewer_states", state(CAROL, "repost_uri", repost.uri()))
        .row("quotes", quote_row(&quote, &subject))
        .row("notifications", subject_notification(&like, "like", &subject))
        .row("notifications", subject_notification(&repost, "repost", &subject))
        .row("notifications", reply_notification(&reply, ALICE))
        .row("notifications", quote_notification(&quote, ALICE))
        .row("thread_gates", thread_gate_row(&gate))
        .assert(&stack);
}

#[test]
fn a_post_created_again_after_its_delete_is_whole_again() {
    let stack = Stack::new("post_recreated");
    let parent = post(BOB, "p", "parent");
    let reply = reply(ALICE, "a", &parent, &parent);
    reply.create(&stack);
    stack.drain();
    reply.delete(&stack);
    stack.drain();
    reply.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&reply, 3, reply_columns(&parent, &parent))
        .counts(&parent, json!({"reply_count": 1}))
        .row("notifications", reply_notification(&reply, BOB))
        .assert(&stack);
}

#[test]
fn the_ops_of_one_commit_all_take_effect() {
    let stack = Stack::new("many_ops");
    let first = post(ALICE, "a", "first");
    let second = reply(ALICE, "b", &first, &first);
    let gone = post(ALICE, "c", "gone");
    let ops = vec![
        first.op("create"),
        second.op("create"),
        gone.op("create"),
        gone.delete_op(),
    ];
    stack.push("commit", commit(ALICE, ops));
    stack.push("commit", commit(BOB, vec![]));
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post(&first, 1)
        .post_with(&second, 1, reply_columns(&first, &first))
        .counts(&first, json!({"reply_count": 1}))
        .assert(&stack);
    assert_eq!(stack.metrics("firehose:metrics").get("totalEvents"), Some(&2));
}
