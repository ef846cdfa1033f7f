//! Rows that older versions of the worker left wrong: items in another account's list, handles of several users, URLs
//! in place of pictures, dates of the first century, embeds under a name that readers do not know.

use firehose_worker::rows::{DatedTable, dated_tables};
use serde_json::{Value, json};

use super::{command, filled, repair, report, run};
use crate::records::*;
use crate::support::wait::equal;
use crate::support::{Stack, assert_same, wait_until};

/// The steps that this is about, as the report has them.
const STEPS: [&str; 6] = ["list_items", "remembered", "handles", "pictures", "dates", "embeds"];

/// How many rows each of the steps found wrong.
fn wrong(report: &Value) -> [u64; 6] {
    STEPS.map(|step| {
        // A dry run does without the worker's own tables.
        let skipped = (step == "remembered" && report["dry_run"] == true).then_some(0);
        report[step]["wrong"]
            .as_u64()
            .or(skipped)
            .unwrap_or_else(|| panic!("{step} in {report}"))
    })
}

/// A dry run changes nothing and finds what the repair finds, and afterwards there is nothing to find. Answers the
/// report.
fn repaired(stack: &Stack) -> Value {
    let before = stack.snapshot();
    let dry = repair(stack, &["--dry-run", "--slice", "3"]);
    assert_same(&before, &stack.snapshot());
    let report = repair(stack, &["--slice", "3"]);
    let mut found = wrong(&report);
    // Only with the worker's own tables.
    found[1] = 0;
    assert_eq!(wrong(&dry), found, "{dry} {report}");
    assert_eq!(wrong(&repair(stack, &[])), [0; 6], "after a repair");
    stack.assert_counters_equal_rows();
    report
}

#[test]
fn rows_as_the_worker_writes_them_are_left_alone() {
    let stack = filled("repair_rows_good");
    for record in [
        list(ALICE, "l"),
        list_item(ALICE, "i", &list(ALICE, "l"), BOB),
        generator(ALICE, "g"),
        profile(ALICE),
    ] {
        record.create(&stack);
    }
    stack.push("identity", json!({"did": ALICE, "handle": "alice.example"}));
    stack.drain();
    let before = stack.snapshot();
    assert_eq!(wrong(&repair(&stack, &[])), [0; 6]);
    assert_same(&before, &stack.snapshot());
}

fn insert_item(stack: &Stack, item: &Record) {
    stack.sql(&format!(
        "INSERT INTO list_items (uri, cid, list_uri, subject_did, created_at)
             VALUES ('{}', 'c', {}, {}, '2025-01-01')",
        item.uri(),
        item.value["list"].to_string().replace('"', "'"),
        item.value["subject"].to_string().replace('"', "'"),
    ));
}

fn remember_item(stack: &Stack, item: &Record, entry_ms: u64) {
    stack.sql(&format!(
        "INSERT INTO firehose_worker.rivals (uri, table_name, key_a, key_b, entry_ms, entry_n, op, created_at, cid)
             VALUES ('{}', 'list_items', {}, {}, {entry_ms}, 0, 0, '2025-01-01', 'c')",
        item.uri(),
        item.value["list"].to_string().replace('"', "'"),
        item.value["subject"].to_string().replace('"', "'"),
    ));
}

#[test]
fn items_in_another_accounts_list_are_replaced_by_the_owners() {
    let stack = Stack::new("repair_list_items");
    let list = list(ALICE, "l");
    list.create(&stack);
    stack.drain();
    let own = list_item(ALICE, "own", &list, DAVE);
    let [first, second] = ["a", "b"].map(|rkey| list_item(ALICE, rkey, &list, CAROL));
    let of_pair = list_item(BOB, "pair", &list, CAROL);
    let alone = list_item(BOB, "alone", &list, BOB);
    let waiting = list_item(BOB, "waiting", &list, DAVE);
    [&own, &of_pair, &alone]
        .iter()
        .for_each(|item| insert_item(&stack, item));
    for (item, ms) in [(&of_pair, 0), (&second, 3), (&first, 2), (&waiting, 4)] {
        remember_item(&stack, item, ms);
    }
    let report = repaired(&stack);
    assert_eq!(wrong(&report)[..2], [2, 1], "{report}");
    let uris = stack.query("SELECT uri FROM list_items ORDER BY uri");
    assert_eq!(uris, [json!({"uri": first.uri()}), json!({"uri": own.uri()})]);
    let remembered = stack.query("SELECT uri FROM firehose_worker.rivals ORDER BY uri");
    assert_eq!(remembered, [json!({"uri": first.uri()}), json!({"uri": second.uri()})]);
    // What is remembered still does its work.
    first.delete(&stack);
    stack.drain();
    let uris = stack.query("SELECT uri FROM list_items ORDER BY uri");
    assert_eq!(uris, [json!({"uri": second.uri()}), json!({"uri": own.uri()})]);
}

#[test]
fn an_opted_out_owner_gets_no_item_in_place_of_anothers() {
    let stack = Stack::new("repair_list_items_opt_out");
    let list = list(ALICE, "l");
    list.create(&stack);
    stack.drain();
    insert_item(&stack, &list_item(BOB, "b", &list, CAROL));
    remember_item(&stack, &list_item(ALICE, "a", &list, CAROL), 1);
    stack.sql(&format!(
        "INSERT INTO user_settings (user_did, data_collection_forbidden) VALUES ('{ALICE}', true)"
    ));
    repaired(&stack);
    assert_eq!(stack.count("list_items"), 0);
}

#[test]
fn a_handle_of_several_users_is_left_to_the_newest_and_reported_as_a_guess() {
    let stack = Stack::new("repair_handles");
    stack.sql(&format!(
        "INSERT INTO users (did, handle, created_at) VALUES
             ('{ALICE}', 'shared.example', '2025-01-01'), ('{BOB}', 'shared.example', '2025-01-03'),
             ('{CAROL}', 'shared.example', '2025-01-02'), ('{DAVE}', 'dave.example', '2025-01-01'),
             ('did:plc:at', '@at.example', '2025-01-01'), ('did:plc:login', 'did:plc:login', '2025-01-01'),
             ('did:plc:none', 'handle.invalid', '2025-01-01'), ('did:plc:nobody', 'handle.invalid', '2025-01-01')"
    ));
    let report = repaired(&stack);
    assert_eq!(report["handles"]["repaired"], 3, "{report}");
    assert!(
        report["not_known"][0]
            .as_str()
            .is_some_and(|note| note.contains("handle")),
        "{report}"
    );
    let kept = stack.query("SELECT did, handle FROM users WHERE handle <> 'handle.invalid' ORDER BY handle");
    assert_eq!(
        kept,
        [
            json!({"did": DAVE, "handle": "dave.example"}),
            json!({"did": "did:plc:login", "handle": "did:plc:login"}),
            json!({"did": BOB, "handle": "shared.example"}),
        ]
    );
    stack.sql("UPDATE users SET handle = 'again.example' WHERE handle = 'handle.invalid'");
    let text = run(command(&stack, &["--dry-run"])).stdout;
    assert!(
        text.contains("again.example") && text.contains("not known: who owns a handle"),
        "{text}"
    );
}

#[test]
fn pictures_that_are_urls_are_removed_and_other_forms_of_a_cid_rewritten() {
    let stack = Stack::new("repair_pictures");
    for record in [profile(ALICE), profile(BOB), list(ALICE, "l"), generator(ALICE, "g")] {
        record.create(&stack);
    }
    stack.drain();
    let good = stack.snapshot();
    stack.sql(&format!(
        "UPDATE users SET avatar_url = '{AVATAR_HEX}' WHERE did = '{BOB}';
         INSERT INTO users (did, handle, avatar_url, banner_url) VALUES
             ('{CAROL}', 'handle.invalid', 'http://example.org/a.png', 'https://example.org/b.png'),
             ('{DAVE}', 'handle.invalid', NULL, 'no CID')"
    ));
    let report = repaired(&stack);
    assert_eq!(wrong(&report)[3], 4, "{report}");
    assert_eq!(report["pictures"]["repaired"], 4, "{report}");
    let of_others = format!("FROM users WHERE did IN ('{CAROL}', '{DAVE}')");
    let pictures = stack.query(&format!("SELECT avatar_url, banner_url {of_others}"));
    assert_eq!(pictures, vec![json!({"avatar_url": null, "banner_url": null}); 2]);
    stack.sql(&format!("DELETE {of_others}"));
    assert_same(&good, &stack.snapshot());
    stack.sql("UPDATE lists SET avatar_url = 'http://x'; UPDATE feed_generators SET avatar_url = 'http://x'");
    repaired(&stack);
    let left = stack.query("SELECT avatar_url FROM lists UNION ALL SELECT avatar_url FROM feed_generators");
    assert_eq!(left, vec![json!({"avatar_url": null}); 2]);
}

/// Each table that is repaired, with the columns that hold dates of records.
fn dated() -> Vec<(&'static str, &'static str)> {
    let columns = |table: DatedTable| table.columns.into_iter().map(move |column| (table.name, column));
    dated_tables().into_iter().flat_map(columns).collect()
}

#[test]
fn dates_of_the_first_century_become_the_time_of_writing_in_every_table() {
    let stack = Stack::new("repair_dates");
    let list = list(ALICE, "l");
    let ops = one_of_each(|_| BOB.to_owned())
        .iter()
        .map(|record| record.op("create"))
        .collect();
    stack.push("commit", commit(BOB, ops));
    stack.drain();
    let dated = dated();
    let rows_of = |(table, _): &(&str, &str)| stack.count(table);
    let kept: Vec<_> = dated.iter().map(rows_of).collect();
    for (table, column) in &dated {
        assert!(stack.count(table) > 0, "no row in {table}");
        stack.sql(&format!("UPDATE {table} SET {column} = '0031-01-01 00:00:00'"));
    }
    remember_item(&stack, &list_item(ALICE, "j", &list, BOB), 1_770_000_000_000);
    stack.sql("UPDATE firehose_worker.rivals SET created_at = '0001-01-01'");
    repaired(&stack);
    for (table, column) in &dated {
        let left = format!("SELECT * FROM {table} WHERE {column} < now() - interval '1 day'");
        assert_eq!(stack.query(&left), Vec::<Value>::new(), "{table}.{column}");
    }
    let remembered = stack.query("SELECT created_at FROM firehose_worker.rivals");
    assert_eq!(remembered, [json!({"created_at": "2026-02-02T02:40:00"})]);
    // Dates that are none of that century stay.
    for (table, column) in &dated {
        stack.sql(&format!("UPDATE {table} SET {column} = '0100-01-01'"));
    }
    repaired(&stack);
    for ((table, column), rows) in dated.iter().zip(kept) {
        let count = stack
            .query(&format!("SELECT {column} FROM {table} WHERE {column} = '0100-01-01'"))
            .len();
        assert_eq!(count, rows as usize, "{table}.{column}");
    }
}

#[test]
fn embeds_under_a_long_name_get_their_plain_one_with_quotes_and_safe_images() {
    let stack = Stack::new("repair_embeds");
    let subject = post(ALICE, "p", "hello");
    subject.create(&stack);
    let plain = quote(BOB, "plain", &subject);
    plain.create(&stack);
    stack.drain();
    let record = json!({"$type": "app.bsky.embed.record#main", "record": strong_ref(&subject)});
    let safe = json!({"alt": "", "image": blob(IMAGE, "image/jpeg")});
    let image = |reference: &str| json!({"alt": "", "image": {"$type": "blob", "ref": {"$link": reference}}});
    let images = |name: &str, images: Value| json!({"$type": name, "images": images});
    let embeds = [
        record.clone(),
        images(
            "app.bsky.embed.images#main",
            json!([safe, {"alt": "", "image": {"$type": "blob"}}]),
        ),
        json!({"$type": "app.bsky.embed.recordWithMedia", "record": record, "media":
            images("app.bsky.embed.images#main", json!([safe]))}),
        images(
            "app.bsky.embed.images",
            json!([image("https://example.org/a.png"), safe]),
        ),
        images("app.bsky.embed.images", json!([image("https://example.org/a.png")])),
        json!({"$type": "app.bsky.embed.external", "external": {"uri": "https://x", "title": "#main", "description": ""}}),
    ];
    for (embed, n) in embeds.iter().zip(0..) {
        let uri = post(CAROL, &format!("p{n}"), "old").uri();
        stack.sql(&format!(
            "INSERT INTO posts (uri, cid, author_did, text, embed, created_at, commit_seq)
                 VALUES ('{uri}', 'c', '{CAROL}', 'old', '{embed}', '2025-12-31', '1');
             INSERT INTO post_aggregations (post_uri) VALUES ('{uri}')"
        ));
    }
    let report = repaired(&stack);
    assert_eq!(wrong(&report)[5], 5, "{report}");
    let plain_record = plain.value["embed"].clone();
    let plain_images = images("app.bsky.embed.images", json!([safe]));
    let expected = [
        plain_record.clone(),
        plain_images.clone(),
        json!({"$type": "app.bsky.embed.recordWithMedia", "record": plain_record, "media": plain_images}),
        plain_images,
        Value::Null,
        embeds[5].clone(),
    ];
    let stored = stack.query(&format!(
        "SELECT embed FROM posts WHERE author_did = '{CAROL}' ORDER BY uri"
    ));
    let stored: Vec<Value> = stored.into_iter().map(|mut row| row["embed"].take()).collect();
    assert_eq!(stored, expected);
    assert_eq!(stack.count("quotes"), 3);
    assert_eq!(report["embeds"]["repaired"], 5, "{report}");
}

#[test]
fn a_repair_of_rows_goes_on_where_it_was() {
    let stack = Stack::new("repair_rows_stopped");
    stack.sql(
        "INSERT INTO users (did, handle, avatar_url)
             SELECT 'did:plc:' || n, 'name' || n / 2 || '.example', 'http://x' FROM generate_series(1, 60) AS n",
    );
    // The first worker makes its own tables.
    stack.push("identity", json!({"did": ALICE, "handle": "alice.example"}));
    stack.drain();
    let mut worker = command(&stack, &["--slice", "7", "--pause-ms", "3600000"]).spawn();
    let step = "SELECT state #>> '{place,step}' AS step FROM firehose_worker.progress";
    wait_until("a slice of handles is done", || {
        equal(stack.query(step), vec![json!({"step": "handles"})])
    });
    worker.kill();
    let report = report(&run(command(&stack, &["--json", "--slice", "7"])));
    assert_eq!(wrong(&report), [0, 0, 29, 60, 0, 0], "{report}");
    assert_eq!(report["handles"]["examined"], 61, "{report}");
}
