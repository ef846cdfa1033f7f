//! Random histories with prunes at random moments, against the oracle and against the same histories without a prune.

use std::collections::BTreeSet;

use fastrand::Rng;
use serde_json::Value;

use super::{age, assert_exact, assert_rows_counted, count_rows, oracle, prune};
use crate::histories::history::{History, tag};
use crate::histories::play::{add_entry, entries};
use crate::support::Stack;

/// Histories that share a database.
const N_HISTORIES: u64 = 30;

/// Groups of histories.
const N_GROUPS: u64 = 3;

fn histories(group: u64) -> Vec<History> {
    let first = 1 + group * N_HISTORIES;
    let mut histories: Vec<History> = (first..first + N_HISTORIES).map(History::of_seed).collect();
    // The acts of the app leave counts that only a repair corrects.
    for phase in histories.iter_mut().flat_map(|history| &mut history.phases) {
        phase.acts.clear();
    }
    histories
}

/// One user of two in three histories.
fn local(histories: &[History]) -> String {
    let served = histories.iter().filter(|history| history.seed % 3 > 0);
    let dids: Vec<String> = served.map(|history| format!("{}a", tag(history.seed))).collect();
    dids.join(",")
}

#[test]
fn random_histories_keep_what_concerns_local_users_and_exact_counts() {
    for group in 0..N_GROUPS {
        play(group);
    }
}

fn play(group: u64) {
    let histories = histories(group);
    let local = local(&histories);
    let mut rng = Rng::with_seed(group);
    let (pruned, whole) = (Stack::new("prune_histories"), Stack::new("prune_histories_whole"));
    count_rows(&pruned);
    let mut gone: BTreeSet<String> = BTreeSet::new();
    let n_phases = histories
        .iter()
        .map(|history| history.phases.len())
        .max()
        .unwrap_or_default();
    for phase in 0..n_phases {
        for entry in entries(&histories, phase) {
            add_entry(&pruned, &entry);
            add_entry(&whole, &entry);
        }
        let batch = rng.usize(1..200).to_string();
        for stack in [&pruned, &whole] {
            stack.drain_with(&[("MAX_BATCH_ENTRIES", &batch)]);
        }
        // What is pruned comes from the phases before.
        let days = format!("{} days", rng.u32(1..7));
        for stack in [&pruned, &whole] {
            age(stack, &days);
        }
        gone.extend(prune_once(&pruned, &local, &format!("group {group}, phase {phase}")));
    }
    compare(&pruned, &whole, &gone);
    pruned.redeliver();
    pruned.drain();
    assert_exact(&pruned);
    age(&pruned, "14 days");
    prune_once(&pruned, &local, &format!("group {group}, at the end"));
}

/// Prunes, and answers the posts of which something may be missing since: those that are gone, and those that were not
/// stored yet.
fn prune_once(stack: &Stack, local: &str, what: &str) -> Vec<String> {
    let mut before = super::keys(stack, "posts", "uri");
    before.extend(unstored(stack));
    let expected = oracle::expect(stack, local);
    prune(stack, local, &[]);
    expected.check(stack, what);
    assert_exact(stack);
    assert_rows_counted(stack);
    let after = super::keys(stack, "posts", "uri");
    before.into_iter().filter(|uri| !after.contains(uri)).collect()
}

/// Posts that are not stored, and of which there are counters.
fn unstored(stack: &Stack) -> Vec<String> {
    let rows =
        stack.query("SELECT post_uri AS uri FROM post_aggregations WHERE post_uri NOT IN (SELECT uri FROM posts)");
    rows.iter()
        .map(|row| row["uri"].as_str().expect("a URI").to_owned())
        .collect()
}

/// What there is about each post that was never pruned, apart from what goes by its own age, or by that of replies and
/// quotes.
const ABOUT: &str = "
    SELECT p.uri, to_jsonb(p) - 'indexed_at' AS post,
        (SELECT jsonb_agg(uri ORDER BY uri) FROM likes WHERE post_uri = p.uri) AS likes,
        (SELECT jsonb_agg(uri ORDER BY uri) FROM reposts WHERE post_uri = p.uri) AS reposts,
        (SELECT jsonb_agg(uri ORDER BY uri) FROM bookmarks WHERE post_uri = p.uri) AS bookmarks,
        (SELECT jsonb_agg(uri ORDER BY uri) FROM feed_items WHERE post_uri = p.uri) AS feed_items,
        (SELECT jsonb_agg(uri ORDER BY uri) FROM quotes WHERE post_uri = p.uri) AS quotes,
        (SELECT jsonb_agg(to_jsonb(g) - 'updated_at') FROM thread_gates AS g WHERE post_uri = p.uri) AS gates,
        (SELECT jsonb_agg(to_jsonb(g) - 'created_at') FROM post_gates AS g WHERE post_uri = p.uri) AS post_gates,
        (SELECT jsonb_agg(jsonb_build_array(viewer_did, like_uri, repost_uri, bookmarked) ORDER BY viewer_did)
            FROM post_viewer_states
            WHERE post_uri = p.uri AND (like_uri IS NOT NULL OR repost_uri IS NOT NULL OR bookmarked)) AS states,
        (SELECT jsonb_build_array(like_count, repost_count, bookmark_count)
            FROM post_aggregations WHERE post_uri = p.uri) AS counts
    FROM posts AS p
    ORDER BY p.uri";

/// Compares the posts that were never pruned.
fn compare(pruned: &Stack, whole: &Stack, gone: &BTreeSet<String>) {
    let about = |stack: &Stack| -> Vec<Value> {
        let rows = stack.query(ABOUT).into_iter();
        rows.filter(|row| !gone.contains(row["uri"].as_str().expect("a URI")))
            .collect()
    };
    let (pruned, whole) = (about(pruned), about(whole));
    assert!(!pruned.is_empty() && !gone.is_empty(), "nothing is compared");
    let different: Vec<_> = pruned
        .iter()
        .zip(&whole)
        .filter(|(left, right)| left != right)
        .take(3)
        .collect();
    assert!(
        different.is_empty() && pruned.len() == whole.len(),
        "{} and {} posts, of which differ: {different:#?}",
        pruned.len(),
        whole.len()
    );
}
