-- Reads a slice of the remembered records, and finds those from before the limit whose post is not stored and whose pair
-- has no row, because another program deleted it. Those of local accounts are not among them.
-- $1 last uri of the previous slice  $2 limit of entry_ms  $3 number of records
-- Each row repeats the last uri and the length of the slice. Returns no uri if nothing goes.
-- A pair is looked up as the first row from it on, in the order of the pair's own index; see pairs_held.sql.
-- Safe twice: reads only.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT uri, table_name, key_a, key_b, entry_ms
    FROM firehose_worker.rivals WHERE uri > $1::text ORDER BY uri LIMIT $3::bigint
), found AS (
    SELECT slice.uri
    FROM slice
        LEFT JOIN LATERAL (
            SELECT did FROM firehose_worker.local_dids WHERE did = slice.key_a LIMIT 1
        ) AS account ON true
        LEFT JOIN LATERAL (
            SELECT user_did, post_uri FROM likes
            WHERE (user_did, post_uri) >= (slice.key_a, slice.key_b) ORDER BY user_did, post_uri LIMIT 1
        ) AS l ON slice.table_name = 'likes' AND (l.user_did, l.post_uri) = (slice.key_a, slice.key_b)
        LEFT JOIN LATERAL (
            SELECT user_did, post_uri FROM reposts
            WHERE (user_did, post_uri) >= (slice.key_a, slice.key_b) ORDER BY user_did, post_uri LIMIT 1
        ) AS r ON slice.table_name = 'reposts' AND (r.user_did, r.post_uri) = (slice.key_a, slice.key_b)
        LEFT JOIN LATERAL (
            SELECT user_did, post_uri FROM bookmarks
            WHERE (user_did, post_uri) >= (slice.key_a, slice.key_b) ORDER BY user_did, post_uri LIMIT 1
        ) AS b ON slice.table_name = 'bookmarks' AND (b.user_did, b.post_uri) = (slice.key_a, slice.key_b)
    WHERE slice.table_name IN ('likes', 'reposts', 'bookmarks') AND slice.entry_ms < $2::bigint
        AND slice.key_b LIKE 'at://%/app.bsky.feed.post/%'
        AND account.did IS NULL AND l.post_uri IS NULL AND r.post_uri IS NULL AND b.post_uri IS NULL
        AND NOT EXISTS (SELECT FROM posts AS p WHERE p.uri = slice.key_b)
)
SELECT total.n, total.last, found.uri
FROM (SELECT count(*) AS n, max(uri) AS last FROM slice) AS total
LEFT JOIN found ON true
