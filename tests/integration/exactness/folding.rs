//! Many ops of one record: the rows are those of the last op, whether the worker saw the ops at once or one by one.

use serde_json::{Value, json};

use crate::records::*;
use crate::support::{Snapshot, Stack, assert_same, entries};

/// All sequences of up to three ops of one record: create (c), update to other content (u), delete (d).
fn histories() -> Vec<String> {
    let mut histories = vec![String::new()];
    let mut all = Vec::new();
    for _ in 0..3 {
        histories = histories
            .iter()
            .flat_map(|history| ["c", "u", "d"].map(|op| format!("{history}{op}")))
            .collect();
        all.extend(histories.clone());
    }
    all
}

/// One record of each collection in `repo`, each with a second version. No other repo's record meets them.
fn versions(repo: &str) -> Vec<(Record, Record)> {
    let author = entries::did(&format!("author for {repo}"));
    let other = entries::did(&format!("other author for {repo}"));
    let (one, two) = (post(&author, "p", "one"), post(&other, "p", "two"));
    let (list_one, list_two) = (list(&author, "l"), list(&other, "l"));
    let rich = reply(repo, "p", &one, &one).with(json!({
        "embed": {"$type": "app.bsky.embed.record", "record": strong_ref(&two)},
        "facets": [mention_facet(&author), mention_facet(&other)],
    }));
    vec![
        (rich, quote(repo, "p", &one)),
        (like(repo, "l", &one), like(repo, "l", &two)),
        (repost(repo, "r", &one), repost(repo, "r", &two)),
        (bookmark(repo, "b", &one), bookmark(repo, "b", &two)),
        (
            generator(repo, "g"),
            generator(repo, "g").with(json!({"displayName": "Dogs", "description": ""})),
        ),
        (
            thread_gate(repo, "p", json!([])),
            thread_gate(repo, "p", json!([])).without("allow"),
        ),
        (post_gate(repo, "p", &[one.uri()]), post_gate(repo, "p", &[two.uri()])),
        (follow(repo, "f", &author), follow(repo, "f", &other)),
        (block(repo, "b", &author), block(repo, "b", &other)),
        (
            list(repo, "l"),
            list(repo, "l").with(json!({"name": "others", "avatar": null})),
        ),
        (
            list_item(repo, "i", &list_one, &author),
            list_item(repo, "i", &list_two, &other),
        ),
        (list_block(repo, "b", &list_one), list_block(repo, "b", &list_two)),
        (
            starter_pack(repo, "s", &list_one, &[]),
            starter_pack(repo, "s", &list_two, &[two.uri()]),
        ),
        (verification(repo, "v", &author), verification(repo, "v", &other)),
        (
            profile(repo),
            profile(repo)
                .without("avatar")
                .without("description")
                .with(json!({"displayName": "New"})),
        ),
        (labeler(repo), labeler(repo).without("policies")),
        (
            label(repo, "l", &one.uri()),
            label(repo, "l", &two.uri()).with(json!({"neg": true})),
        ),
        (custom(repo, "n", "one"), custom(repo, "n", "two")),
    ]
}

fn op(history_op: char, versions: &(Record, Record)) -> Value {
    match history_op {
        'c' => versions.0.op("create"),
        'u' => versions.1.op("update"),
        _ => versions.0.delete_op(),
    }
}

/// Pushes the op at `step` of every history of every record, and answers the last entry's ID.
fn push_step(stack: &Stack, step: usize) -> String {
    let mut last_id = None;
    for history in histories() {
        let Some(history_op) = history.chars().nth(step) else {
            continue;
        };
        let repo = entries::did(&history);
        for versions in versions(&repo) {
            last_id = Some(stack.push("commit", commit(&repo, vec![op(history_op, &versions)])));
        }
    }
    last_id.expect("some history has that many ops")
}

/// Pushes only the last op of each history, where that leaves a record.
fn push_last(stack: &Stack) {
    for history in histories() {
        let repo = entries::did(&history);
        let last = history.chars().last().filter(|last| *last != 'd');
        for versions in last.map(|_| versions(&repo)).unwrap_or_default() {
            let op = op(last.expect("there is one where there are versions"), &versions);
            stack.push("commit", commit(&repo, vec![op]));
        }
    }
}

/// Pushes each history of a record as the ops of one commit.
fn push_as_commits(stack: &Stack) {
    for history in histories() {
        let repo = entries::did(&history);
        for versions in versions(&repo) {
            let ops = history.chars().map(|history_op| op(history_op, &versions)).collect();
            stack.push("commit", commit(&repo, ops));
        }
    }
}

/// Rows that several histories share with the bare last op: all but users, who are ensured by ops that left nothing
/// else, and the seq, which is that of the history.
fn rows_of_records(stack: &Stack) -> Snapshot {
    stack.snapshot().map(&["users"], |row| {
        if let Some(row) = row.as_object_mut() {
            row.remove("commit_seq");
        }
    })
}

#[test]
fn every_history_of_a_record_ends_as_its_last_op_however_it_is_batched() {
    let stacks = in_one_batch_and_entry_by_entry("histories", |stack, step| {
        for n in 0..3 {
            push_step(stack, n);
            step();
        }
    });
    let last_only = Stack::new("histories_last");
    push_last(&last_only);
    last_only.drain();
    let profiles = "SELECT did, handle, display_name, description, avatar_url, banner_url, profile_record, pinned_post
                      FROM users WHERE profile_record IS NOT NULL ORDER BY did";
    let as_commits = Stack::new("histories_commits");
    push_as_commits(&as_commits);
    as_commits.drain();
    let [together, apart] = stacks;
    for stack in [together, apart, as_commits] {
        stack.assert_all_acknowledged();
        stack.assert_counters_equal_rows();
        assert_same(&rows_of_records(&stack), &rows_of_records(&last_only));
        assert_eq!(stack.query(profiles), last_only.query(profiles));
    }
}

#[test]
fn a_like_taken_back_and_given_again_counts_once() {
    let post = post(ALICE, "p", "hello");
    let like = like(BOB, "l", &post);
    let expected = Expected::none()
        .users(&[ALICE, BOB])
        .post(&post, 1)
        .only_like(&like, &post, 4);
    both_ways_give("like_unlike_like", expected, |stack, step| {
        post.create(stack);
        step();
        like.create(stack);
        step();
        like.delete(stack);
        step();
        like.create(stack);
    });
}

#[test]
fn a_like_taken_back_and_given_again_under_another_key_counts_once() {
    let post = post(ALICE, "p", "hello");
    let (first, second) = (like(BOB, "l", &post), like(BOB, "m", &post));
    let expected = Expected::none()
        .users(&[ALICE, BOB])
        .post(&post, 1)
        .only_like(&second, &post, 4);
    both_ways_give("like_unlike_like_again", expected, |stack, step| {
        post.create(stack);
        step();
        first.create(stack);
        step();
        first.delete(stack);
        step();
        second.create(stack);
    });
}

#[test]
fn a_repost_and_a_bookmark_taken_back_and_given_again_count_once() {
    let subject = post(ALICE, "p", "hello");
    let reposts = [repost(BOB, "r", &subject), repost(BOB, "s", &subject)];
    let bookmarks = [bookmark(CAROL, "b", &subject), bookmark(CAROL, "c", &subject)];
    let mut expected = Expected::none()
        .users(&[BOB, CAROL])
        .only_repost(&reposts[1], &subject, 5);
    expected.clear("post_aggregations");
    expected = expected.only_bookmark(&bookmarks[1], &subject);
    expected.change("post_aggregations", json!({"repost_count": 1}));
    both_ways_give("repost_unrepost_repost", expected, |stack, step| {
        for record in [&reposts[0], &bookmarks[0]] {
            record.create(stack);
            step();
            record.delete(stack);
            step();
        }
        reposts[1].create(stack);
        step();
        bookmarks[1].create(stack);
    });
}

#[test]
fn an_unfollow_and_a_new_follow_leave_the_new_one() {
    let (first, second) = (follow(ALICE, "f", BOB), follow(ALICE, "g", BOB));
    let expected = Expected::none().users(&[ALICE, BOB]).follow(&second, 3);
    both_ways_give("follow_unfollow_follow", expected, |stack, step| {
        first.create(stack);
        step();
        first.delete(stack);
        step();
        second.create(stack);
    });
}

#[test]
fn counts_of_others_stay_when_a_post_is_deleted_and_created_between_them() {
    let post = post(ALICE, "p", "hello");
    let (first, second) = (like(BOB, "l", &post), like(CAROL, "l", &post));
    let mut expected = Expected::none().users(&[ALICE, BOB, CAROL]).post(&post, 4);
    for (like, seq) in [(&first, 2), (&second, 5)] {
        expected = expected.only_like(like, &post, seq);
    }
    expected.clear("post_aggregations");
    let expected = expected.counts(&post, json!({"like_count": 2}));
    both_ways_give("post_recreated_between_likes", expected, |stack, step| {
        post.create(stack);
        step();
        first.create(stack);
        step();
        post.delete(stack);
        step();
        post.create(stack);
        step();
        second.create(stack);
    });
}

#[test]
fn users_of_records_that_are_deleted_at_once_exist() {
    let subject = post(DAVE, "p", "hello");
    let records = [
        post(ALICE, "p", "hello"),
        follow(BOB, "f", CAROL),
        like(BOB, "l", &subject),
    ];
    let expected = Expected::none().users(&[ALICE, BOB, CAROL]);
    both_ways_give("users_folded_away", expected, |stack, step| {
        for record in &records {
            record.create(stack);
            step();
            record.delete(stack);
            step();
        }
    });
}

#[test]
fn users_of_records_that_are_updated_at_once_exist() {
    let after = follow(ALICE, "f", CAROL);
    let expected = Expected::none().users(&[ALICE, BOB, CAROL]).follow(&after, 2);
    both_ways_give("users_updated_away", expected, |stack, step| {
        follow(ALICE, "f", BOB).create(stack);
        step();
        after.update(stack);
    });
}

#[test]
fn profile_and_handle_of_one_user_meet_in_one_row() {
    let profile = profile(ALICE);
    let follow = follow(BOB, "f", ALICE);
    let expected = Expected::none()
        .users(&[BOB])
        .row("users", with(profile_row(&profile), json!({"handle": "alice.example"})))
        .follow(&follow, 1);
    both_ways_give("profile_and_handle", expected, |stack, step| {
        follow.create(stack);
        step();
        stack.push("identity", json!({"did": ALICE, "handle": "old.example"}));
        step();
        profile.create(stack);
        step();
        stack.push("identity", json!({"did": ALICE, "handle": "alice.example"}));
        step();
        stack.push("identity", json!({"did": ALICE, "handle": null}));
    });
}

#[test]
fn an_ignored_update_in_between_leaves_what_was_there() {
    let post = post(ALICE, "p", "hello");
    let expected = Expected::none().users(&[ALICE]).post(&post, 1);
    both_ways_give("ignored_update", expected, |stack, step| {
        post.create(stack);
        step();
        stack.commit(
            ALICE,
            json!([{"action": "update", "path": post.path(), "cid": post.cid}]),
        );
        step();
        post.with(json!({"$type": LIKE})).update(stack);
    });
}

#[test]
fn the_seq_of_an_entry_without_one_is_its_id() {
    let stack = Stack::new("seq_empty");
    let post = post(ALICE, "p", "hello");
    let id = stack.push_with_seq("commit", commit(ALICE, vec![post.op("create")]), "");
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&post, 0, json!({"commit_seq": id}))
        .assert(&stack);
}

#[test]
fn the_seq_of_an_entry_that_has_no_such_field_is_its_id() {
    let stack = Stack::new("seq_absent");
    let post = post(ALICE, "p", "hello");
    let data = commit(ALICE, vec![post.op("create")]).to_string();
    let id = stack.push_fields(&[("type", b"commit"), ("data", data.as_bytes())]);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post_with(&post, 0, json!({"commit_seq": id}))
        .assert(&stack);
}

#[test]
fn a_redelivery_from_any_step_of_every_history_gives_the_same_rows() {
    let stack = Stack::new("histories_redelivered");
    let mut starts = vec!["0".to_owned()];
    for n in 0..3 {
        starts.push(push_step(&stack, n));
        stack.drain();
    }
    let once = stack.snapshot();
    for start in &starts[..3] {
        redeliver_after(&stack, start);
        stack.drain();
        stack.assert_all_acknowledged();
        assert_same(&once, &stack.snapshot());
    }
}

#[test]
fn the_last_of_two_writes_in_a_commit_counts_beside_a_refused_op() {
    let stack = Stack::new("folding_refused");
    let subject = post(ALICE, "p", "hello");
    let first = repost(BOB, "r", &subject);
    let mut last = first.clone();
    last.cid = like(BOB, "r", &subject).cid;
    let number: serde_json::Value = serde_json::from_str("1e999999").expect("it is JSON");
    // PostgreSQL's jsonb refuses the number, so the commit is applied in parts.
    let refused = post(BOB, "p", "hello").with(json!({"embed": {"$type": "com.example.embed", "number": number}}));
    let ops = vec![
        first.op("create"),
        refused.op("create"),
        last.op("update"),
        post(BOB, "q", "hello").op("create"),
    ];
    stack.push("commit", commit(BOB, ops));
    stack.drain();
    assert_eq!(stack.dead_letters().len(), 1);
    assert_eq!(
        stack.rows("notifications"),
        [subject_notification(&last, "repost", &subject)]
    );
    assert!(
        stack
            .rows("feed_items")
            .contains(&feed_item_row(&last, &subject.uri(), "repost"))
    );
}
