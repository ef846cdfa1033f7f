//! Feed generators.

use serde_json::json;

use crate::records::*;
use crate::support::Stack;

#[test]
fn a_feed_generator_is_a_row_and_its_creator_and_keeps_its_likes() {
    let record = generator(ALICE, "feed");
    Life {
        updated: record.without("description").without("avatar").with(json!({
            "displayName": "Dogs", "did": "did:web:dogs.example", "createdAt": LATER,
        })),
        record,
        other: generator(ALICE, "other"),
        rows: |feed, _| vec![("feed_generators", generator_row(feed))],
        changes: json!({
            "display_name": "Dogs", "did": "did:web:dogs.example", "description": null, "avatar_url": null,
        }),
        kept: json!({"like_count": 7}),
        indexed_at: IndexedAt::Renewed,
        users: &[ALICE],
        users_later: &[ALICE],
    }
    .run(&Stack::new("generator"));
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
