//! What posts refer to: parents, quoted records and mentioned people.

use serde_json::json;

use super::quote_embed;
use crate::records::*;
use crate::support::Stack;

#[test]
fn a_deleted_reply_takes_back_the_parents_count_and_its_notification() {
    let stack = Stack::new("reply_delete");
    let parent = post(BOB, "p", "parent");
    let reply = reply(ALICE, "a", &parent, &parent);
    parent.create(&stack);
    reply.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB])
        .post(&parent, 1)
        .post_with(&reply, 2, reply_columns(&parent, &parent))
        .counts(&parent, json!({"reply_count": 1}))
        .row("notifications", reply_notification(&reply, BOB))
        .assert(&stack);
    reply.delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, BOB]).post(&parent, 1).assert(&stack);
}

#[test]
fn a_reply_counts_for_its_parent_and_not_for_its_root() {
    let stack = Stack::new("reply_root");
    let root = post(BOB, "r", "root");
    let parent = reply(CAROL, "p", &root, &root);
    let reply = reply(ALICE, "a", &parent, &root);
    for record in [&root, &parent, &reply] {
        record.create(&stack);
    }
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB, CAROL])
        .post(&root, 1)
        .post_with(&parent, 2, reply_columns(&root, &root))
        .post_with(&reply, 3, reply_columns(&parent, &root))
        .counts(&root, json!({"reply_count": 1}))
        .counts(&parent, json!({"reply_count": 1}))
        .row("notifications", reply_notification(&parent, BOB))
        .row("notifications", reply_notification(&reply, CAROL))
        .assert(&stack);
}

#[test]
fn a_self_reply_counts_without_a_notification() {
    let stack = Stack::new("reply_self");
    let parent = post(ALICE, "p", "parent");
    let reply = reply(ALICE, "a", &parent, &parent);
    parent.create(&stack);
    reply.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post(&parent, 1)
        .post_with(&reply, 2, reply_columns(&parent, &parent))
        .counts(&parent, json!({"reply_count": 1}))
        .assert(&stack);
}

#[test]
fn an_update_that_moves_a_reply_moves_count_and_notification() {
    let stack = Stack::new("reply_moved");
    let (old, new) = (post(BOB, "p", "old parent"), post(CAROL, "p", "new parent"));
    let (before, after) = (reply(ALICE, "a", &old, &old), reply(ALICE, "a", &new, &new));
    before.create(&stack);
    stack.drain();
    after.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&after, 2, reply_columns(&new, &new))
        .counts(&new, json!({"reply_count": 1}))
        .row("notifications", reply_notification(&after, CAROL))
        .assert(&stack);
}

#[test]
fn an_update_that_takes_the_reply_away_takes_back_what_it_caused() {
    let stack = Stack::new("reply_dropped");
    let parent = post(BOB, "p", "parent");
    reply(ALICE, "a", &parent, &parent).create(&stack);
    stack.drain();
    let after = post(ALICE, "a", "no reply");
    after.update(&stack);
    stack.drain();
    Expected::none().users(&[ALICE]).post(&after, 2).assert(&stack);
}

#[test]
fn a_quote_becomes_a_quotes_row_a_count_and_a_notification() {
    let stack = Stack::new("quote_create");
    let quoted = post(BOB, "q", "quoted");
    let quote = quote(ALICE, "a", &quoted);
    quoted.create(&stack);
    quote.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB])
        .post(&quoted, 1)
        .post_with(&quote, 2, json!({"embed": quote_embed(&quoted)}))
        .counts(&quoted, json!({"quote_count": 1}))
        .row("quotes", quote_row(&quote, &quoted))
        .row("notifications", quote_notification(&quote, BOB))
        .assert(&stack);
}

#[test]
fn a_deleted_quote_takes_back_row_count_and_notification() {
    let stack = Stack::new("quote_delete");
    let quoted = post(BOB, "q", "quoted");
    let quote = quote(ALICE, "a", &quoted);
    quoted.create(&stack);
    quote.create(&stack);
    stack.drain();
    quote.delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, BOB]).post(&quoted, 1).assert(&stack);
}

#[test]
fn a_quote_beside_media_counts_like_a_plain_one() {
    let stack = Stack::new("quote_with_media");
    let quoted = post(BOB, "q", "quoted");
    let embed = json!({
        "$type": "app.bsky.embed.recordWithMedia",
        "record": quote_embed(&quoted),
        "media": {
            "$type": "app.bsky.embed.images",
            "images": [{"alt": "", "image": blob(IMAGE, "image/jpeg")}],
        },
    });
    let quote = post(ALICE, "a", "look").with(json!({"embed": embed}));
    quote.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&quote, 1, json!({"embed": embed}))
        .counts(&quoted, json!({"quote_count": 1}))
        .row("quotes", quote_row(&quote, &quoted))
        .row("notifications", quote_notification(&quote, BOB))
        .assert(&stack);
}

#[test]
fn an_embedded_feed_is_a_quote_without_a_notification() {
    let stack = Stack::new("quote_feed");
    let feed = generator(BOB, "feed");
    let quote = quote(ALICE, "a", &feed);
    quote.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&quote, 1, json!({"embed": quote_embed(&feed)}))
        .counts(&feed, json!({"quote_count": 1}))
        .row("quotes", quote_row(&quote, &feed))
        .assert(&stack);
}

#[test]
fn a_self_quote_counts_without_a_notification() {
    let stack = Stack::new("quote_self");
    let quoted = post(ALICE, "q", "quoted");
    let quote = quote(ALICE, "a", &quoted);
    quoted.create(&stack);
    quote.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post(&quoted, 1)
        .post_with(&quote, 2, json!({"embed": quote_embed(&quoted)}))
        .counts(&quoted, json!({"quote_count": 1}))
        .row("quotes", quote_row(&quote, &quoted))
        .assert(&stack);
}

#[test]
fn an_update_that_quotes_another_post_moves_row_count_and_notification() {
    let stack = Stack::new("quote_moved");
    let (old, new) = (post(BOB, "q", "old"), post(CAROL, "q", "new"));
    let (before, after) = (quote(ALICE, "a", &old), quote(ALICE, "a", &new));
    before.create(&stack);
    stack.drain();
    after.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&after, 2, json!({"embed": quote_embed(&new)}))
        .counts(&new, json!({"quote_count": 1}))
        .row("quotes", quote_row(&after, &new))
        .row("notifications", quote_notification(&after, CAROL))
        .assert(&stack);
}

#[test]
fn an_update_that_keeps_reply_and_quote_keeps_the_notifications_read() {
    let stack = Stack::new("post_update_is_read");
    let parent = post(BOB, "p", "parent");
    let before = reply(ALICE, "a", &parent, &parent)
        .with(json!({"embed": quote_embed(&parent), "facets": [mention_facet(CAROL)]}));
    let after = before.with(json!({"text": "edited"}));
    before.create(&stack);
    stack.drain();
    stack.sql("UPDATE notifications SET is_read = true, indexed_at = '2020-01-01'");
    after.update(&stack);
    stack.drain();
    let columns = json!({"embed": quote_embed(&parent), "facets": [mention_facet(CAROL)]});
    let read = json!({"is_read": true});
    Expected::none()
        .users(&[ALICE])
        .post_with(&after, 2, with(reply_columns(&parent, &parent), columns))
        .counts(&parent, json!({"reply_count": 1, "quote_count": 1}))
        .row("quotes", quote_row(&after, &parent))
        .row("notifications", with(reply_notification(&after, BOB), read.clone()))
        .row("notifications", with(quote_notification(&after, BOB), read.clone()))
        .row("notifications", with(mention_notification(&after, CAROL), read))
        .assert(&stack);
    let moved = stack.query("SELECT uri FROM notifications WHERE indexed_at <> '2020-01-01'");
    assert!(moved.is_empty(), "an update gave these a new indexed_at: {moved:?}");
}

#[test]
fn mentions_come_from_the_facets_once_each_and_never_to_oneself() {
    let stack = Stack::new("mentions");
    let link = json!({"$type": "app.bsky.richtext.facet#link", "uri": "https://example.com"});
    let second = json!({"$type": "app.bsky.richtext.facet#mention", "did": CAROL});
    let two_features = json!({"index": {"byteStart": 1, "byteEnd": 2}, "features": [link, second]});
    let facets = json!([
        mention_facet(BOB),
        mention_facet(BOB),
        mention_facet(ALICE),
        two_features
    ]);
    let post = post(ALICE, "a", "@dave.example has no facet").with(json!({"facets": facets}));
    stack.sql(&format!(
        "INSERT INTO users (did, handle) VALUES ('{DAVE}', 'dave.example')"
    ));
    post.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .row("users", with(user_row(DAVE), json!({"handle": "dave.example"})))
        .post_with(&post, 1, json!({"facets": facets}))
        .row("notifications", mention_notification(&post, BOB))
        .row("notifications", mention_notification(&post, CAROL))
        .assert(&stack);
}

#[test]
fn an_update_with_other_mentions_removes_the_old_ones() {
    let stack = Stack::new("mentions_moved");
    let before = mention(ALICE, "a", &[BOB, CAROL]);
    let after = mention(ALICE, "a", &[CAROL, DAVE]);
    before.create(&stack);
    stack.drain();
    after.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(
            &after,
            2,
            json!({"facets": [mention_facet(CAROL), mention_facet(DAVE)]}),
        )
        .row("notifications", mention_notification(&after, CAROL))
        .row("notifications", mention_notification(&after, DAVE))
        .assert(&stack);
}

#[test]
fn a_deleted_post_takes_back_its_mentions() {
    let stack = Stack::new("mentions_deleted");
    let post = mention(ALICE, "a", &[BOB, CAROL]);
    post.create(&stack);
    stack.drain();
    post.delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE]).assert(&stack);
}

#[test]
fn references_without_a_did_count_without_a_notification() {
    let stack = Stack::new("references_by_handle");
    let named = post("alice.example", "p", "hello");
    let reply = reply(BOB, "r", &named, &named).with(json!({"embed": quote_embed(&named)}));
    let like = like(BOB, "l", &named);
    reply.create(&stack);
    like.create(&stack);
    stack.drain();
    let mut expected = Expected::none().users(&[BOB]).only_like(&like, &named, 2);
    expected.clear("notifications");
    expected.change("post_aggregations", json!({"reply_count": 1, "quote_count": 1}));
    expected
        .post_with(
            &reply,
            1,
            with(reply_columns(&named, &named), json!({"embed": quote_embed(&named)})),
        )
        .row("quotes", quote_row(&reply, &named))
        .assert(&stack);
}
