-- Finds the reposts of a slice that the viewer's state does not name, but for pairs that repair_likes_find.sql finds.
-- $1 uri of the last row of the slice before  $2 rows in a slice
-- Pairs are found in the order of their own index, as in pairs_held.sql.
-- Safe twice: reads only. Returns the slice's length and end, with one such pair or none (NULL) beside it in each row.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT uri, user_did, post_uri FROM reposts WHERE uri > $1::text ORDER BY uri LIMIT $2::bigint
), missing AS (
    SELECT slice.post_uri, slice.user_did AS viewer_did
    FROM slice
    LEFT JOIN LATERAL (
        SELECT post_uri, viewer_did, like_uri, repost_uri, bookmarked
        FROM post_viewer_states
        WHERE (post_uri, viewer_did) >= (slice.post_uri, slice.user_did)
        ORDER BY post_uri, viewer_did
        LIMIT 1
    ) AS s ON (s.post_uri, s.viewer_did) = (slice.post_uri, slice.user_did)
    LEFT JOIN LATERAL (
        SELECT user_did, post_uri
        FROM likes
        WHERE (user_did, post_uri) >= (slice.user_did, slice.post_uri)
        ORDER BY user_did, post_uri
        LIMIT 1
    ) AS l ON (l.user_did, l.post_uri) = (slice.user_did, slice.post_uri)
    WHERE s.repost_uri IS NULL
        AND NOT (s.like_uri IS NULL AND l.user_did IS NOT NULL)
)
SELECT total.n, total.last_uri, missing.post_uri, missing.viewer_did
FROM (SELECT count(*) AS n, max(uri) AS last_uri FROM slice) AS total
LEFT JOIN missing ON true
