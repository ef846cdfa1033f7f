//! Any order across repos, and the whole stream once more.

use serde_json::{Value, json};

use crate::records::*;
use crate::support::{Stack, assert_same, entries};

/// One repo's events, in their order. Events of different repos may come in any.
struct Repo {
    did: String,
    ops: Vec<Value>,
}

impl Repo {
    fn of(records: &[Record]) -> Self {
        let ops = records.iter().map(|record| record.op("create")).collect();
        Self {
            did: records[0].repo.clone(),
            ops,
        }
    }

    fn then_delete(mut self, record: &Record) -> Self {
        self.ops.push(record.delete_op());
        self
    }
}

/// Repos that meet in each other's posts, lists and feeds.
fn repos() -> Vec<Repo> {
    let somebody = |n: usize| entries::did(&format!("somebody {n}"));
    let subject = post(ALICE, "p", "hello");
    let list = list(ALICE, "l");
    let own_list = crate::records::list(&somebody(1), "own");
    let gone = post(BOB, "gone", "for a moment");
    let embed = json!({"$type": "app.bsky.embed.record", "record": strong_ref(&subject)});
    let unliked = like(&somebody(4), "l", &subject);
    vec![
        Repo::of(&[subject.clone(), list.clone(), generator(ALICE, "g")]),
        Repo::of(&[like(BOB, "l", &subject), repost(BOB, "r", &subject), gone.clone()]).then_delete(&gone),
        Repo::of(&[
            reply(CAROL, "r", &subject, &subject),
            follow(CAROL, "f", ALICE),
            like(CAROL, "g", &gone),
        ]),
        Repo::of(&[
            reply(DAVE, "r", &gone, &subject).with(json!({"embed": embed})),
            bookmark(DAVE, "b", &subject),
        ]),
        Repo::of(&[
            list_item(&somebody(1), "i", &own_list, BOB),
            list_block(&somebody(1), "b", &list),
        ]),
        Repo::of(&[
            repost(&somebody(2), "r", &gone),
            mention(&somebody(2), "m", &[ALICE, BOB]),
        ]),
        Repo::of(&[like(&somebody(3), "l", &generator(ALICE, "g")), profile(&somebody(3))]),
        Repo::of(std::slice::from_ref(&unliked)).then_delete(&unliked),
        Repo {
            did: somebody(5),
            ops: vec![like(&somebody(5), "never seen", &subject).delete_op()],
        },
    ]
}

/// Pushes the repos in this order; the seq of an entry does not depend on the order.
fn push_in_order(stack: &Stack, order: impl Iterator<Item = usize>) {
    let repos = repos();
    for n in order {
        for (op, op_index) in repos[n].ops.iter().zip(0..) {
            let seq = 100 * n + op_index;
            stack.push_with_seq("commit", commit(&repos[n].did, vec![op.clone()]), &seq.to_string());
        }
    }
}

#[test]
fn the_order_of_different_repos_makes_no_difference() {
    let n_repos = repos().len();
    let stacks = ["forward", "backward", "rotated"].map(|name| Stack::new(&format!("order_{name}")));
    push_in_order(&stacks[0], 0..n_repos);
    push_in_order(&stacks[1], (0..n_repos).rev());
    push_in_order(&stacks[2], (0..n_repos).map(|n| (n + n_repos / 2) % n_repos));
    for stack in &stacks {
        stack.drain();
        stack.assert_all_acknowledged();
        stack.assert_counters_equal_rows();
        assert_same(&stacks[0].snapshot(), &stack.snapshot());
    }
}

#[test]
fn the_order_of_different_repos_makes_no_difference_one_by_one() {
    let n_repos = repos().len();
    let stacks = ["forward", "backward"].map(|name| Stack::new(&format!("order_one_by_one_{name}")));
    for n in 0..n_repos {
        push_in_order(&stacks[0], std::iter::once(n));
        stacks[0].drain();
        push_in_order(&stacks[1], std::iter::once(n_repos - 1 - n));
        stacks[1].drain();
    }
    assert_same(&stacks[0].snapshot(), &stacks[1].snapshot());
    stacks[1].assert_counters_equal_rows();
}

#[test]
fn a_like_that_comes_before_its_post_counts_and_notifies() {
    let post = post(ALICE, "p", "hello");
    let like = like(BOB, "l", &post);
    let expected = Expected::none()
        .users(&[ALICE, BOB])
        .only_like(&like, &post, 1)
        .post(&post, 2);
    both_ways_give("like_before_post", expected, |stack, step| {
        like.create(stack);
        step();
        post.create(stack);
    });
}

#[test]
fn a_reply_that_comes_before_its_parent_counts_and_notifies() {
    let parent = post(BOB, "p", "parent");
    let reply = reply(ALICE, "r", &parent, &parent);
    let expected = Expected::none()
        .users(&[ALICE, BOB])
        .post_with(&reply, 1, reply_columns(&parent, &parent))
        .post(&parent, 2)
        .counts(&parent, json!({"reply_count": 1}))
        .row("notifications", reply_notification(&reply, BOB));
    both_ways_give("reply_before_parent", expected, |stack, step| {
        reply.create(stack);
        step();
        parent.create(stack);
    });
}

#[test]
fn gates_that_come_before_their_post_and_items_before_their_list_are_stored() {
    let post = post(ALICE, "p", "hello");
    let gates = [
        thread_gate(ALICE, "p", json!([])),
        post_gate(ALICE, "p", &[uri(BOB, POST, "q")]),
    ];
    let list = list(BOB, "l");
    let item = list_item(BOB, "i", &list, DAVE);
    let rules = json!({"detachedEmbeddingUris": [uri(BOB, POST, "q")]});
    let expected = Expected::none()
        .users(&[ALICE, BOB, DAVE])
        .row("thread_gates", thread_gate_row(&gates[0]))
        .row("post_gates", post_gate_row(&gates[1], rules))
        .row("list_items", list_item_row(&item))
        .post(&post, 4)
        .row("lists", list_row(&list));
    both_ways_give("gate_before_post", expected, |stack, step| {
        for record in [&gates[0], &gates[1], &item, &post, &list] {
            record.create(stack);
            step();
        }
    });
}

#[test]
fn deletes_of_what_was_never_seen_change_nothing() {
    let subject = post(ALICE, "p", "hello");
    let never_seen = [
        post(BOB, "p", "hello"),
        like(BOB, "l", &subject),
        repost(BOB, "r", &subject),
        bookmark(BOB, "b", &subject),
        generator(BOB, "g"),
        thread_gate(BOB, "p", json!([])),
        post_gate(BOB, "p", &[]),
        follow(BOB, "f", ALICE),
        block(BOB, "b", ALICE),
        list(BOB, "l"),
        list_item(BOB, "i", &list(BOB, "l"), ALICE),
        list_block(BOB, "b", &list(BOB, "l")),
        starter_pack(BOB, "s", &list(BOB, "l"), &[]),
        verification(BOB, "v", ALICE),
        profile(BOB),
        labeler(BOB),
        label(BOB, "l", &subject.uri()),
        custom(BOB, "c", "note"),
    ];
    let expected = Expected::none().users(&[ALICE]).post(&subject, 1);
    both_ways_give("delete_never_seen", expected, |stack, step| {
        subject.create(stack);
        for record in &never_seen {
            record.delete(stack);
        }
        step();
        for record in &never_seen {
            record.delete(stack);
        }
    });
}

#[test]
fn the_whole_stream_once_more_gives_the_same_rows() {
    let stack = Stack::new("redelivery");
    push_in_order(&stack, 0..repos().len());
    let subject = post(ALICE, "p", "hello");
    let (first, second) = (
        like(&entries::did("twice"), "a", &subject),
        like(&entries::did("twice"), "b", &subject),
    );
    let label = label(ALICE, "l", &subject.uri());
    for record in [
        &first,
        &second,
        &first,
        &label,
        &custom(ALICE, "c", "note"),
        &profile(ALICE),
    ] {
        record.create(&stack);
    }
    first.delete(&stack);
    subject.with(json!({"text": "edited"})).update(&stack);
    stack.push("identity", json!({"did": ALICE, "handle": "alice.example"}));
    stack.drain();
    let once = stack.snapshot();
    for _ in 0..2 {
        stack.redeliver();
        stack.drain();
        stack.assert_all_acknowledged();
        assert_same(&once, &stack.snapshot());
        stack.assert_counters_equal_rows();
    }
}

#[test]
fn the_whole_stream_once_more_in_parts_gives_the_same_rows() {
    let stack = Stack::new("redelivery_in_parts");
    for n in 0..repos().len() {
        push_in_order(&stack, std::iter::once(n));
        stack.drain();
    }
    let once = stack.snapshot();
    stack.redeliver();
    stack.drain_with(&[("BATCH_SIZE", "1"), ("PARALLEL_CONSUMERS", "1")]);
    assert_same(&once, &stack.snapshot());
    stack.assert_counters_equal_rows();
}
