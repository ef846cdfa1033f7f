//! Lists, list items, list blocks and starter packs.

use serde_json::json;

use crate::records::*;
use crate::support::Stack;
use crate::support::stack::shown;

// Lists

#[test]
fn a_list_is_a_row_and_its_creator() {
    let record = list(ALICE, "l");
    Life {
        updated: record.without("description").without("avatar").with(json!({
            "name": "rude people", "purpose": "app.bsky.graph.defs#modlist", "createdAt": LATER,
        })),
        record,
        other: list(ALICE, "m"),
        rows: |list, _| vec![("lists", list_row(list))],
        changes: json!({
            "name": "rude people", "purpose": "app.bsky.graph.defs#modlist", "description": null, "avatar_url": null,
        }),
        kept: json!({}),
        indexed_at: IndexedAt::Kept,
        users: &[ALICE],
        users_later: &[ALICE],
    }
    .run(&Stack::new("list"));
}

#[test]
fn a_list_without_optional_members_has_empty_name_and_purpose() {
    let stack = Stack::new("list_minimal");
    let list = Record::new(ALICE, LIST, "l", json!({"$type": LIST, "createdAt": CREATED}));
    list.create(&stack);
    stack.drain();
    let columns = json!({"name": "", "purpose": "", "description": null, "avatar_url": null});
    Expected::none()
        .users(&[ALICE])
        .row("lists", with(list_row(&list), columns))
        .assert(&stack);
}

#[test]
fn a_deleted_list_is_removed_and_its_items_and_blocks_stay() {
    let stack = Stack::new("list_delete");
    let list = list(ALICE, "l");
    let item = list_item(ALICE, "i", &list, BOB);
    let block = list_block(ALICE, "b", &list);
    for record in [&list, &item, &block] {
        record.create(&stack);
    }
    stack.drain();
    list.delete(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, BOB])
        .row("list_items", list_item_row(&item))
        .row("list_blocks", list_block_row(&block))
        .assert(&stack);
}

// List items

#[test]
fn a_list_item_is_a_row_creator_and_subject_though_its_list_is_not_there() {
    Life {
        record: list_item(ALICE, "i", &list(ALICE, "old"), BOB),
        updated: list_item(ALICE, "i", &list(ALICE, "new"), CAROL).with(json!({"createdAt": LATER})),
        other: list_item(ALICE, "j", &list(ALICE, "old"), CAROL),
        rows: |item, _| vec![("list_items", list_item_row(item))],
        changes: json!({}),
        kept: json!({}),
        indexed_at: IndexedAt::Kept,
        users: &[ALICE, BOB],
        users_later: &[ALICE, BOB, CAROL],
    }
    .run(&Stack::new("listitem"));
}

#[test]
fn an_item_of_another_accounts_list_is_ignored_and_blocks_no_owners_delete() {
    let stack = Stack::new("listitem_foreign");
    let of_alice = list(ALICE, "l");
    let strangers = list_item(BOB, "i", &of_alice, CAROL);
    let by_handle = Record::new(
        ALICE,
        LISTITEM,
        "h",
        json!({"$type": LISTITEM, "list": format!("at://alice.example/{LIST}/l"), "subject": CAROL, "createdAt": CREATED}),
    );
    let owners = list_item(ALICE, "i", &of_alice, CAROL);
    for record in [&strangers, &by_handle, &owners, &strangers] {
        record.create(&stack);
    }
    let log = stack.drain().log;
    assert!(log.contains("ops ignored: foreign_list 3"), "{}", shown(&log));
    Expected::none()
        .users(&[ALICE, CAROL])
        .row("list_items", list_item_row(&owners))
        .assert(&stack);
    owners.delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, CAROL]).assert(&stack);
}

#[test]
fn an_update_into_another_accounts_list_keeps_the_old_row_until_a_delete() {
    let stack = Stack::new("listitem_foreign_update");
    let own = list_item(ALICE, "i", &list(ALICE, "l"), CAROL);
    own.create(&stack);
    list_item(ALICE, "i", &list(BOB, "l"), CAROL).update(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, CAROL])
        .row("list_items", list_item_row(&own))
        .assert(&stack);
    own.delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, CAROL]).assert(&stack);
}

#[test]
fn an_item_stored_in_another_accounts_list_gives_way_to_the_owners() {
    let of_alice = list(ALICE, "l");
    let item = |repo: &str| list_item(repo, "i", &of_alice, CAROL);
    let stack = Stack::new("listitem_foreign_stored");
    let store = |stack: &Stack| {
        stack.sql(&format!(
            "INSERT INTO list_items (uri, cid, list_uri, subject_did, created_at)
             VALUES ('{}', 'bafyold', '{}', '{CAROL}', '2025-01-01')",
            item(BOB).uri(),
            of_alice.uri()
        ));
    };
    store(&stack);
    item(ALICE).create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE, CAROL])
        .row("list_items", list_item_row(&item(ALICE)))
        .assert(&stack);
    item(BOB).delete(&stack);
    item(ALICE).delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, CAROL]).assert(&stack);

    // The owner's item waits behind the stranger's, as an earlier version left them.
    store(&stack);
    for (repo, ms) in [(BOB, 0), (ALICE, 1)] {
        stack.sql(&format!(
            "INSERT INTO firehose_worker.rivals
                 (uri, table_name, key_a, key_b, entry_ms, entry_n, op, created_at, cid)
             VALUES ('{}', 'list_items', '{}', '{CAROL}', {ms}, 0, 0, '2025-01-01', 'bafyold')",
            item(repo).uri(),
            of_alice.uri()
        ));
    }
    item(ALICE).delete(&stack);
    stack.drain();
    Expected::none().users(&[ALICE, CAROL]).assert(&stack);
}

// List blocks

#[test]
fn a_list_block_is_a_row() {
    Life {
        record: list_block(ALICE, "b", &list(BOB, "old")),
        updated: list_block(ALICE, "b", &list(BOB, "new")).with(json!({"createdAt": LATER})),
        other: list_block(ALICE, "c", &list(BOB, "two")),
        rows: |block, _| vec![("list_blocks", list_block_row(block))],
        changes: json!({}),
        kept: json!({}),
        indexed_at: IndexedAt::Kept,
        users: &[ALICE],
        users_later: &[ALICE],
    }
    // Whether the worker makes the blocker a user is not defined.
    .run(&stack_with_user("listblock", ALICE));
}

// Starter packs

#[test]
fn a_starter_pack_is_a_row_and_its_creator() {
    let feeds = [uri(BOB, GENERATOR, "one"), uri(CAROL, GENERATOR, "two")];
    let record = starter_pack(ALICE, "s", &list(ALICE, "l"), &feeds);
    Life {
        updated: record
            .without("description")
            .without("list")
            .without("feeds")
            .with(json!({"name": "old hands", "createdAt": LATER})),
        record,
        other: starter_pack(ALICE, "t", &list(ALICE, "l"), &[]),
        rows: |pack, _| vec![("starter_packs", starter_pack_row(pack))],
        changes: json!({"name": "old hands", "description": null, "list_uri": null}),
        kept: json!({}),
        indexed_at: IndexedAt::Renewed,
        users: &[ALICE],
        users_later: &[ALICE],
    }
    .run(&Stack::new("starterpack"));
}

#[test]
fn a_starter_pack_without_optional_members_has_an_empty_name_and_no_feeds() {
    let stack = Stack::new("starterpack_minimal");
    let pack = Record::new(
        ALICE,
        STARTERPACK,
        "s",
        json!({"$type": STARTERPACK, "createdAt": CREATED}),
    );
    pack.create(&stack);
    stack.drain();
    let columns = json!({"name": "", "description": null, "list_uri": null});
    Expected::none()
        .users(&[ALICE])
        .row("starter_packs", with(starter_pack_row(&pack), columns))
        .assert(&stack);
}
