-- Counts the rows of posts, for a dry run; likes, reposts and bookmarks by local accounts are not counted.
-- $1 post_uri text[]  $2 limit of indexed_at
-- Safe twice: reads only.
-- Locks: none.
SELECT
    (
        SELECT count(*)
        FROM likes AS r
            LEFT JOIN LATERAL (
                SELECT did FROM firehose_worker.local_dids WHERE did = r.user_did LIMIT 1
            ) AS account ON true
        WHERE r.post_uri = ANY($1::text[]) AND r.indexed_at < $2::timestamp AND account.did IS NULL
    ) AS likes,
    (
        SELECT count(*)
        FROM reposts AS r
            LEFT JOIN LATERAL (
                SELECT did FROM firehose_worker.local_dids WHERE did = r.user_did LIMIT 1
            ) AS account ON true
        WHERE r.post_uri = ANY($1::text[]) AND r.indexed_at < $2::timestamp AND account.did IS NULL
    ) AS reposts,
    (
        SELECT count(*)
        FROM bookmarks AS r
            LEFT JOIN LATERAL (
                SELECT did FROM firehose_worker.local_dids WHERE did = r.user_did LIMIT 1
            ) AS account ON true
        WHERE r.post_uri = ANY($1::text[]) AND r.indexed_at < $2::timestamp AND account.did IS NULL
    ) AS bookmarks,
    (SELECT count(*) FROM feed_items WHERE post_uri = ANY($1::text[]) AND indexed_at < $2::timestamp) AS feed_items,
    (SELECT count(*) FROM quotes WHERE uri = ANY(ARRAY(SELECT unnest($1::text[]) || '#quote'))) AS quotes,
    (SELECT count(*) FROM thread_contexts WHERE post_uri = ANY($1::text[])) AS thread_contexts,
    (SELECT count(*) FROM thread_gates WHERE post_uri = ANY($1::text[])) AS thread_gates,
    (SELECT count(*) FROM post_gates WHERE post_uri = ANY($1::text[])) AS post_gates,
    (SELECT count(*) FROM post_viewer_states WHERE post_uri = ANY($1::text[])) AS post_viewer_states,
    (SELECT count(*) FROM post_aggregations WHERE post_uri = ANY($1::text[])) AS post_aggregations
