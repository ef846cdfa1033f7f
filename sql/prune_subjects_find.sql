-- Reads a slice of the counters, and finds the posts among their subjects that are not stored and of which something
-- goes: a like, repost or bookmark from before the limit, or the counters themselves.
-- $1 last subject of the previous slice  $2 limit of time  $3 number of subjects
-- Each row repeats the last subject and the length of the slice. Returns no subject if nothing goes.
-- Safe twice: reads only.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT post_uri::text AS uri FROM post_aggregations WHERE post_uri > $1::text ORDER BY post_uri LIMIT $3::bigint
), unstored AS MATERIALIZED (
    SELECT uri
    FROM slice
    WHERE uri LIKE 'at://%/app.bsky.feed.post/%' AND NOT EXISTS (SELECT FROM posts AS p WHERE p.uri = slice.uri)
), found AS (
    SELECT uri
    FROM unstored AS subject,
        LATERAL (
            SELECT
            FROM (
                    SELECT user_did::text AS did FROM likes WHERE post_uri = subject.uri AND indexed_at < $2::timestamp
                    UNION ALL SELECT user_did FROM reposts WHERE post_uri = subject.uri AND indexed_at < $2::timestamp
                    UNION ALL SELECT user_did FROM bookmarks WHERE post_uri = subject.uri AND indexed_at < $2::timestamp
                ) AS touch
                LEFT JOIN LATERAL (
                    SELECT did FROM firehose_worker.local_dids WHERE did = touch.did LIMIT 1
                ) AS account ON true
            WHERE account.did IS NULL
            LIMIT 1
        ) AS old
    UNION
    SELECT a.post_uri
    FROM post_aggregations AS a
    WHERE a.post_uri = ANY(ARRAY(SELECT uri FROM unstored))
        AND a.created_at < $2::timestamp
        AND NOT EXISTS (SELECT FROM likes AS l WHERE l.post_uri = a.post_uri)
        AND NOT EXISTS (SELECT FROM reposts AS r WHERE r.post_uri = a.post_uri)
        AND NOT EXISTS (SELECT FROM bookmarks AS b WHERE b.post_uri = a.post_uri)
        AND NOT EXISTS (SELECT FROM posts AS p WHERE p.parent_uri = a.post_uri)
        AND NOT EXISTS (SELECT FROM quotes AS q WHERE q.quoted_uri = a.post_uri)
)
SELECT total.n, total.last, found.uri
FROM (SELECT count(*) AS n, max(uri) AS last FROM slice) AS total
LEFT JOIN found ON true
