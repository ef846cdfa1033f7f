-- Finds the pictures of a slice of one table that may not be named by a CID as it should be stored.
-- $1 table  $2 key of the last row of the slice before  $3 rows in a slice
-- Every branch but that of the table is planned away.
-- Safe twice: reads only. Returns the slice's length and end, with one such picture or none (NULL) beside it in each row.
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
