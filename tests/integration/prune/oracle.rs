//! What a prune must leave, computed from all rows at once before it runs.
//!
//! Written as plainly as possible and for small databases only, without anything of the program's own walk.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::Stack;

/// Makes the set of local accounts, and the posts that stay.
const STAYING: &str = "
    DROP SCHEMA IF EXISTS oracle CASCADE;
    CREATE SCHEMA oracle;
    CREATE TABLE oracle.local AS SELECT unnest(string_to_array('{local}', ',')) AS did;
    CREATE TABLE oracle.staying AS
    WITH RECURSIVE near AS (
        SELECT did FROM oracle.local
        UNION SELECT following_did FROM follows WHERE follower_did IN (SELECT did FROM oracle.local)
    ), direct AS (
        SELECT uri FROM posts WHERE author_did IN (SELECT did FROM near)
        UNION SELECT post_uri FROM likes WHERE user_did IN (SELECT did FROM oracle.local)
        UNION SELECT post_uri FROM reposts WHERE user_did IN (SELECT did FROM oracle.local)
        UNION SELECT post_uri FROM bookmarks WHERE user_did IN (SELECT did FROM oracle.local)
        UNION SELECT quoted_uri FROM quotes WHERE split_part(post_uri, '/', 3) IN (SELECT did FROM oracle.local)
    ), protected AS (
        SELECT uri FROM posts WHERE uri IN (SELECT uri FROM direct)
        UNION
        SELECT above.uri
        FROM protected
        JOIN posts AS p ON p.uri = protected.uri
        JOIN posts AS above ON above.uri IN (p.parent_uri, p.root_uri)
    )
    SELECT uri FROM protected
    UNION SELECT uri FROM posts WHERE indexed_at >= now() - '7 days'::interval;
    CREATE TABLE oracle.going AS SELECT uri FROM posts WHERE uri NOT IN (SELECT uri FROM oracle.staying);
";

/// The rows that stay of each table, given the posts that stay.
const RULES: [(&str, &str, &str); 9] = [
    ("posts", "uri", "uri IN (SELECT uri FROM oracle.staying)"),
    ("likes", "uri", PAIR),
    ("reposts", "uri", PAIR),
    ("bookmarks", "uri", PAIR),
    ("quotes", "uri", "post_uri NOT IN (SELECT uri FROM oracle.going)"),
    (
        "notifications",
        "uri",
        "indexed_at >= now() - '7 days'::interval
         AND split_part(uri, '#', 1) NOT IN (SELECT uri FROM oracle.going)
         AND split_part(uri, '#', 1) NOT IN (SELECT uri FROM oracle.pairs_going)",
    ),
    (
        "feed_items",
        "uri",
        "uri NOT IN (SELECT uri FROM oracle.going) AND uri NOT IN (SELECT uri FROM oracle.pairs_going)",
    ),
    (
        "generic_records",
        "uri",
        "indexed_at >= now() - '7 days'::interval OR author_did IN (SELECT did FROM oracle.local)",
    ),
    (
        "thread_contexts",
        "post_uri",
        "post_uri NOT IN (SELECT uri FROM oracle.going)",
    ),
];

const PAIR: &str = "
    user_did IN (SELECT did FROM oracle.local)
    OR post_uri IN (SELECT uri FROM oracle.staying)
    OR post_uri NOT LIKE 'at://%/app.bsky.feed.post/%'
    OR post_uri NOT IN (SELECT uri FROM oracle.going) AND indexed_at >= now() - '7 days'::interval";

/// The keys of the rows that a prune must leave, by table.
pub(super) struct Expected(BTreeMap<&'static str, Vec<String>>);

pub(super) fn expect(stack: &Stack, local: &str) -> Expected {
    stack.sql(&STAYING.replace("{local}", local));
    let pairs = ["likes", "reposts", "bookmarks"].map(|table| format!("SELECT uri FROM {table} WHERE NOT ({PAIR})"));
    stack.sql(&format!(
        "CREATE TABLE oracle.pairs_going AS {}",
        pairs.join(" UNION ALL ")
    ));
    let keys = |(table, key, rule): (&'static str, &str, &str)| {
        let rows = stack.query(&format!("SELECT {key} AS key FROM {table} WHERE {rule} ORDER BY 1"));
        (table, rows.iter().map(text).collect())
    };
    Expected(RULES.into_iter().map(keys).collect())
}

fn text(row: &Value) -> String {
    row["key"].as_str().expect("a key").to_owned()
}

impl Expected {
    /// Fails with what is there and should not be, and what should be and is not.
    #[track_caller]
    pub(super) fn check(&self, stack: &Stack, what: &str) {
        for (table, key, _) in RULES {
            let found = super::keys(stack, table, key);
            let wanted = &self.0[table];
            let left: Vec<&String> = found.iter().filter(|uri| !wanted.contains(uri)).collect();
            let lost: Vec<&String> = wanted.iter().filter(|uri| !found.contains(uri)).collect();
            assert!(
                left.is_empty() && lost.is_empty(),
                "{what}: {table} has too many: {left:#?}\nand lacks {lost:#?}"
            );
        }
        let orphans = stack.query(ORPHANS);
        assert!(orphans.is_empty(), "{what}: rows are left of nothing: {orphans:#?}");
    }
}

/// Rows from before the limit that belong to no row.
const ORPHANS: &str = "
    SELECT 'post_aggregations' AS \"table\", post_uri AS key FROM post_aggregations AS a
    WHERE a.created_at < now() - '7 days'::interval AND post_uri LIKE 'at://%/app.bsky.feed.post/%'
        AND NOT EXISTS (SELECT FROM posts WHERE uri = a.post_uri OR parent_uri = a.post_uri)
        AND NOT EXISTS (SELECT FROM likes WHERE post_uri = a.post_uri)
        AND NOT EXISTS (SELECT FROM reposts WHERE post_uri = a.post_uri)
        AND NOT EXISTS (SELECT FROM bookmarks WHERE post_uri = a.post_uri)
        AND NOT EXISTS (SELECT FROM quotes WHERE quoted_uri = a.post_uri)
    UNION ALL
    SELECT 'post_viewer_states', post_uri FROM post_viewer_states AS s
    WHERE s.created_at < now() - '7 days'::interval AND post_uri LIKE 'at://%/app.bsky.feed.post/%'
        AND NOT EXISTS (SELECT FROM posts WHERE uri = s.post_uri)
        AND NOT EXISTS (SELECT FROM post_aggregations WHERE post_uri = s.post_uri)
    UNION ALL
    SELECT 'feed_items', uri FROM feed_items AS f
    WHERE NOT EXISTS (SELECT FROM posts WHERE uri = f.uri) AND NOT EXISTS (SELECT FROM reposts WHERE uri = f.uri)
    UNION ALL
    SELECT 'thread_gates', post_uri FROM thread_gates AS g
    WHERE g.updated_at < now() - '7 days'::interval AND NOT EXISTS (SELECT FROM posts WHERE uri = g.post_uri)
        AND split_part(post_uri, '/', 3) NOT IN (SELECT did FROM oracle.local)
    UNION ALL
    SELECT 'post_gates', post_uri FROM post_gates AS g
    WHERE g.created_at < now() - '7 days'::interval AND NOT EXISTS (SELECT FROM posts WHERE uri = g.post_uri)
        AND split_part(post_uri, '/', 3) NOT IN (SELECT did FROM oracle.local)
    UNION ALL
    SELECT 'rivals', uri FROM firehose_worker.rivals AS r
    WHERE key_b IN (SELECT uri FROM oracle.going) AND key_a NOT IN (SELECT did FROM oracle.local)";
