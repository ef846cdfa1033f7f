//! The command `repair` finds and corrects rows that other workers left wrong, with or without running workers, and
//! after any interruption.
//!
//! The worker fills the tables, so they are correct; then the tests damage them as older workers do, or worse.

mod interrupted;
mod load;
mod rows;

use std::time::Duration;

use serde_json::{Value, json};

use crate::generator::Events;
use crate::records::{ALICE, BOB, CAROL, bookmark, like, post, repost};
use crate::support::stack::shown;
use crate::support::{Output, Stack, WorkerBuilder, assert_same};

/// Far longer than a repair takes to end once it has a reason to.
const EXIT_LIMIT: Duration = Duration::from_secs(60);

/// A stack with made-up rows of every kind that is repaired.
fn filled(name: &str) -> Stack {
    filled_in(Stack::new(name))
}

fn filled_in(stack: Stack) -> Stack {
    stack.push_events(Events::new(21, 3000));
    for (n, reader) in [ALICE, BOB, CAROL].into_iter().enumerate() {
        let post = post(ALICE, &format!("p{n}"), "kept");
        post.create(&stack);
        bookmark(reader, "b", &post).create(&stack);
        repost(reader, "r", &post).create(&stack);
        like(reader, "l", &post).create(&stack);
    }
    stack.drain();
    for table in ["likes", "reposts", "bookmarks", "quotes", "post_viewer_states"] {
        assert!(stack.count(table) > 0, "no row in {table}");
    }
    stack
}

fn command(stack: &Stack, args: &[&str]) -> WorkerBuilder {
    args.iter()
        .fold(stack.worker().arg("repair"), |command, arg| command.arg(arg))
}

fn run(command: WorkerBuilder) -> Output {
    let output = command.run_to_exit();
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output.log));
    output
}

/// Repairs and answers the report.
fn repair(stack: &Stack, args: &[&str]) -> Value {
    report(&run(command(stack, args).arg("--json")))
}

fn report(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
}

/// Damages the rows, repairs them, and checks that they are as before, and that nothing is left to find.
fn check(name: &str, damage: &str) -> Value {
    let stack = filled(name);
    let good = stack.snapshot();
    stack.sql(damage);
    let damaged = stack.snapshot();
    assert!(good != damaged, "no damage was done by {damage}");

    let dry = repair(&stack, &["--dry-run", "--slice", "100"]);
    assert_same(&damaged, &stack.snapshot());
    let report = repair(&stack, &["--slice", "100"]);
    assert_same(&good, &stack.snapshot());
    stack.assert_counters_equal_rows();
    assert_eq!(n_wrong(&dry), n_wrong(&report), "a dry run finds what a repair finds");
    let counters = &report["counters"];
    assert_eq!(counters["repaired"], counters["wrong"], "{report}");
    assert_eq!(n_wrong(&repair(&stack, &["--dry-run"])), [0; 4], "after a repair");
    report
}

/// How many rows a report says were wrong: quotes, subjects, states, and likes, reposts and bookmarks without a state.
fn n_wrong(report: &Value) -> [u64; 4] {
    let wrong = |step: &str| report[step]["wrong"].as_u64();
    let needed = |step: &str| wrong(step).unwrap_or_else(|| panic!("{step} in {report}"));
    let without_state = [
        "likes_without_state",
        "reposts_without_state",
        "bookmarks_without_state",
    ];
    [
        needed("quotes"),
        needed("counters"),
        needed("viewer_states"),
        without_state.into_iter().filter_map(wrong).sum(),
    ]
}

#[test]
fn counters_are_set_to_the_number_of_rows_whatever_their_values() {
    let report = check(
        "repair_counters",
        "UPDATE post_aggregations SET like_count = like_count + 7 WHERE hashtext(post_uri) % 3 = 0;
         UPDATE post_aggregations SET repost_count = -1 WHERE hashtext(post_uri) % 5 = 0;
         UPDATE post_aggregations SET reply_count = 0, quote_count = 0;
         UPDATE post_aggregations SET bookmark_count = 3 WHERE hashtext(post_uri) % 7 = 0;",
    );
    for counter in [
        "like_count",
        "repost_count",
        "reply_count",
        "bookmark_count",
        "quote_count",
    ] {
        let counter = &report["counters"]["by_counter"][counter];
        assert!(counter["subjects"].as_u64() > Some(0), "{report}");
        assert!(
            counter["difference"].as_u64() >= counter["subjects"].as_u64(),
            "{report}"
        );
    }
}

#[test]
fn posts_and_counted_subjects_without_a_row_of_counters_get_one() {
    let report = check(
        "repair_rows",
        "DELETE FROM post_aggregations WHERE hashtext(post_uri) % 2 = 0;",
    );
    assert!(
        report["counters"]["subjects_without_row"].as_u64() > Some(0),
        "{report}"
    );
}

#[test]
fn counters_of_a_subject_that_nothing_counts_become_zeros() {
    check(
        "repair_zeros",
        "INSERT INTO post_aggregations (post_uri, like_count, reply_count)
             VALUES ('at://did:plc:nobody/app.bsky.feed.post/1', 5, -1);",
    );
}

#[test]
fn viewer_states_name_exactly_the_existing_records() {
    let report = check(
        "repair_states",
        "DELETE FROM post_viewer_states WHERE hashtext(post_uri) % 4 = 0;
         UPDATE post_viewer_states SET like_uri = NULL WHERE hashtext(post_uri) % 4 = 1;
         UPDATE post_viewer_states SET like_uri = 'at://gone' WHERE hashtext(post_uri) % 4 = -1;
         UPDATE post_viewer_states SET repost_uri = like_uri WHERE hashtext(post_uri) % 4 = 2;
         UPDATE post_viewer_states SET bookmarked = NOT bookmarked WHERE hashtext(post_uri) % 4 = -2;
         INSERT INTO post_viewer_states (post_uri, viewer_did, like_uri) VALUES ('at://gone', 'did:plc:gone', 'at://gone');",
    );
    assert!(n_wrong(&report)[2] > 0 && n_wrong(&report)[3] > 0, "{report}");
    assert_eq!(report["counters"]["wrong"], 0, "{report}");
}

#[test]
fn a_state_keeps_what_the_worker_does_not_write() {
    let stack = filled("repair_muted");
    stack.sql(
        "INSERT INTO post_viewer_states (post_uri, viewer_did, like_uri, thread_muted)
             VALUES ('at://gone', 'did:plc:gone', 'at://gone', true)",
    );
    repair(&stack, &[]);
    let states = stack.query("SELECT like_uri, thread_muted FROM post_viewer_states WHERE post_uri = 'at://gone'");
    assert_eq!(states, [json!({"like_uri": null, "thread_muted": true})]);
}

#[test]
fn missing_quotes_are_inserted_from_embeds_of_either_dialect() {
    let report = check(
        "repair_quotes",
        "UPDATE post_aggregations SET quote_count = 0;
         DELETE FROM quotes;",
    );
    assert!(n_wrong(&report)[0] > 0, "{report}");

    let stack = filled("repair_quotes_dialect");
    let quoted = post(BOB, "q", "quoted").uri();
    for (rkey, embed) in [
        (
            "plain",
            json!({"py_type": "app.bsky.embed.record", "record": {"uri": quoted, "cid": "c", "py_type": "x"}}),
        ),
        (
            "media",
            json!({"py_type": "app.bsky.embed.recordWithMedia", "media": {}, "record":
                {"record": {"uri": quoted, "cid": null}, "py_type": "app.bsky.embed.record"}}),
        ),
        ("other", json!({"py_type": "app.bsky.embed.images", "images": []})),
        ("odd", json!([{"py_type": "app.bsky.embed.record"}])),
        (
            "handle",
            json!({"$type": "app.bsky.embed.record", "record": {"uri": "https://x"}}),
        ),
    ] {
        stack.sql(&format!(
            "INSERT INTO posts (uri, cid, author_did, text, embed, created_at)
                 VALUES ('{}', 'cid', '{ALICE}', 'old', '{embed}', '2025-12-31')",
            post(ALICE, rkey, "old").uri()
        ));
    }
    repair(&stack, &[]);
    let quotes = stack.query(&format!(
        "SELECT post_uri, quoted_cid FROM quotes WHERE quoted_uri = '{quoted}' ORDER BY post_uri DESC"
    ));
    assert_eq!(
        quotes,
        [
            json!({"post_uri": post(ALICE, "plain", "old").uri(), "quoted_cid": "c"}),
            json!({"post_uri": post(ALICE, "media", "old").uri(), "quoted_cid": null}),
        ]
    );
    stack.assert_counters_equal_rows();
    assert_eq!(n_wrong(&repair(&stack, &["--dry-run"])), [0; 4]);
}

#[test]
fn states_are_not_added_where_they_are_switched_off_but_stale_ones_are_repaired() {
    let stack = filled("repair_switched_off");
    let good = stack.snapshot();
    stack.sql(
        "DELETE FROM post_viewer_states;
         INSERT INTO post_viewer_states (post_uri, viewer_did, like_uri) VALUES ('at://gone', 'did:plc:gone', 'at://gone')",
    );
    let report = report(&run(command(&stack, &["--json"]).env("WRITE_VIEWER_STATES", "false")));
    assert_eq!(n_wrong(&report), [0, 0, 1, 0], "{report}");
    assert_eq!(
        stack
            .rows("post_viewer_states")
            .iter()
            .filter(|row| !row["like_uri"].is_null())
            .count(),
        0
    );
    // Switched on again, the next repair adds them.
    repair(&stack, &[]);
    assert_same(&good, &stack.snapshot());
}

#[test]
fn the_report_states_what_was_wrong_and_by_how_much() {
    let stack = Stack::new("repair_report");
    let liked = post(ALICE, "p", "hello");
    liked.create(&stack);
    for actor in [ALICE, BOB, CAROL] {
        like(actor, "l", &liked).create(&stack);
    }
    stack.drain();
    stack.sql("UPDATE post_aggregations SET like_count = 1, repost_count = 4");
    let report = repair(&stack, &[]);
    let counters = &report["counters"];
    assert_eq!(counters["examined"], 1);
    assert_eq!(
        counters["by_counter"]["like_count"],
        json!({"subjects": 1, "difference": 2})
    );
    assert_eq!(
        counters["by_counter"]["repost_count"],
        json!({"subjects": 1, "difference": 4})
    );
    assert_eq!(
        counters["examples"],
        json!([format!(
            "{}: like_count 1 for 3 rows repost_count 4 for 0 rows",
            liked.uri()
        )])
    );
    assert_eq!(report["finished"], true);
    assert_eq!(report["dry_run"], false);

    stack.sql("UPDATE post_aggregations SET like_count = 1");
    let text = run(command(&stack, &["--dry-run"])).stdout;
    for part in [
        "nothing was changed",
        "like_count of 1 subjects wrong, by 2 in all",
        &liked.uri(),
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_database_with_nothing_in_it_needs_no_repair() {
    let stack = Stack::new("repair_empty");
    let report = repair(&stack, &[]);
    assert_eq!(n_wrong(&report), [0; 4], "{report}");
    assert_eq!(stack.count("firehose_worker.progress"), 0);
}

#[test]
fn a_role_without_rights_gets_a_list_of_them_and_may_do_a_dry_run() {
    let stack = filled("repair_rights");
    stack.sql("UPDATE post_aggregations SET like_count = 99");
    let role = format!("{}_role", stack.database.name());
    stack.sql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};"
    ));
    let url = stack.database_url().replace("postgres@", &format!("{role}@"));
    let with_role = |args: &[&str]| command(&stack, args).env("DATABASE_URL", &url).run_to_exit();

    let looked = with_role(&["--dry-run", "--json"]);
    assert_eq!(looked.status.code(), Some(0), "{}", shown(&looked.log));
    assert!(n_wrong(&report(&looked))[1] > 0, "{}", looked.stdout);

    let refused = with_role(&[]);
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused.log));
    assert!(refused.log.contains("firehose_worker"), "{}", refused.log);

    stack.sql(&format!(
        "GRANT USAGE ON SCHEMA firehose_worker TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA firehose_worker TO {role};
         GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
         REVOKE UPDATE ON post_aggregations, post_viewer_states, posts FROM {role};
         REVOKE INSERT ON quotes FROM {role}"
    ));
    let refused = with_role(&[]);
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused.log));
    let lacks = "lacks UPDATE on post_aggregations, UPDATE on post_viewer_states, UPDATE on posts, INSERT on quotes;";
    assert!(refused.log.contains(lacks), "{}", refused.log);
    assert_eq!(stack.count("firehose_worker.progress"), 0);

    stack.sql(&format!(
        "GRANT UPDATE ON post_aggregations, post_viewer_states, posts TO {role}; GRANT INSERT ON quotes TO {role}"
    ));
    run(command(&stack, &[]).env("DATABASE_URL", &url));
    stack.assert_counters_equal_rows();
    stack.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
