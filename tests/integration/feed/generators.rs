//! Feed generators.

use serde_json::json;

use crate::records::*;
use crate::support::Stack;

#[test]
fn a_feed_generator_becomes_a_row_and_its_creator() {
    let stack = Stack::new("generator_create");
    let feed = generator(ALICE, "feed");
    feed.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .row("feed_generators", generator_row(&feed))
        .assert(&stack);
}

#[test]
fn a_feed_generator_without_optional_members_has_empty_names() {
    let stack = Stack::new("generator_minimal");
    let feed = Record::new(
        ALICE,
        GENERATOR,
        "feed",
        json!({"$type": GENERATOR, "createdAt": CREATED}),
    );
    feed.create(&stack);
    stack.drain();
    let columns = json!({"did": "", "display_name": "", "description": null, "avatar_url": null});
    Expected::none()
        .users(&[ALICE])
        .row("feed_generators", with(generator_row(&feed), columns))
        .assert(&stack);
}

#[test]
fn an_updated_feed_generator_is_what_the_update_says_and_keeps_its_likes() {
    let stack = Stack::new("generator_update");
    let before = generator(ALICE, "feed");
    let after = before.without("description").without("avatar").with(json!({
        "displayName": "Dogs", "did": "did:web:dogs.example", "createdAt": LATER,
    }));
    before.create(&stack);
    stack.drain();
    stack.sql("UPDATE feed_generators SET like_count = 7, indexed_at = '2020-01-01'");
    after.update(&stack);
    stack.drain();
    let columns = json!({
        "display_name": "Dogs", "did": "did:web:dogs.example", "description": null, "avatar_url": null,
        "like_count": 7,
    });
    Expected::none()
        .users(&[ALICE])
        .row("feed_generators", with(generator_row(&after), columns))
        .assert(&stack);
    assert_indexed_now(&stack, "feed_generators");
}

#[test]
fn a_repeated_feed_generator_writes_nothing() {
    let stack = Stack::new("generator_repeat");
    let feed = generator(ALICE, "feed");
    feed.create(&stack);
    stack.drain();
    stack.sql("UPDATE feed_generators SET like_count = 7, indexed_at = '2020-01-01'");
    feed.update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .row("feed_generators", with(generator_row(&feed), json!({"like_count": 7})))
        .assert(&stack);
    assert_eq!(
        stack.query("SELECT indexed_at FROM feed_generators"),
        [json!({"indexed_at": "2020-01-01T00:00:00"})]
    );
}

#[test]
fn a_deleted_feed_generator_is_gone() {
    let stack = Stack::new("generator_delete");
    let (gone, kept) = (generator(ALICE, "gone"), generator(ALICE, "kept"));
    gone.create(&stack);
    kept.create(&stack);
    stack.drain();
    gone.delete(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .row("feed_generators", generator_row(&kept))
        .assert(&stack);
}
