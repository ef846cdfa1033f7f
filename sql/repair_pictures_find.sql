-- Finds the pictures of a slice of one table whose stored value may not be a CID in the expected form.
-- $1 table  $2 key of the last row of the previous slice  $3 number of rows in a slice
-- The planner removes every branch except that of the table.
-- Safe twice: reads only.
-- Returns the number of rows in the slice and its last key, repeated with each picture found. If there are none, the
-- picture is NULL.
-- Locks: none.
WITH slice AS MATERIALIZED (
    (SELECT did AS key, avatar_url, banner_url
        FROM users WHERE $1::text = 'users' AND did > $2::text ORDER BY did LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, avatar_url, NULL
        FROM lists WHERE $1::text = 'lists' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
    UNION ALL
    (SELECT uri AS key, avatar_url, NULL
        FROM feed_generators WHERE $1::text = 'feed_generators' AND uri > $2::text ORDER BY uri LIMIT $3::bigint)
), picture AS (
    SELECT key, false AS is_banner, avatar_url AS stored FROM slice
    UNION ALL
    SELECT key, true, banner_url FROM slice
)
SELECT total.n, total.last_key, odd.key, odd.is_banner, odd.stored
FROM (SELECT count(*) AS n, max(key) AS last_key FROM slice) AS total
LEFT JOIN (SELECT * FROM picture WHERE stored !~ '^baf[a-z2-7]{50,}$') AS odd ON true
