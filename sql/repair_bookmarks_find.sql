-- Finds the bookmarks of a slice that their viewer state does not name, except pairs that repair_likes_find.sql or
-- repair_reposts_find.sql finds.
-- $1 uri of the last row of the previous slice  $2 number of rows in a slice
-- Pairs are looked up in the order of their own index, as in pairs_held.sql.
-- Safe twice: reads only.
-- Returns the number of rows in the slice and its last uri, repeated with each pair found. If there are none, the pair
-- is NULL.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT uri, user_did, post_uri FROM bookmarks WHERE uri > $1::text ORDER BY uri LIMIT $2::bigint
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
    LEFT JOIN LATERAL (
        SELECT user_did, post_uri
        FROM reposts
        WHERE (user_did, post_uri) >= (slice.user_did, slice.post_uri)
        ORDER BY user_did, post_uri
        LIMIT 1
    ) AS r ON (r.user_did, r.post_uri) = (slice.user_did, slice.post_uri)
    WHERE s.bookmarked IS NOT TRUE
        AND NOT (s.like_uri IS NULL AND l.user_did IS NOT NULL)
        AND NOT (s.repost_uri IS NULL AND r.user_did IS NOT NULL)
)
SELECT total.n, total.last_uri, missing.post_uri, missing.viewer_did
FROM (SELECT count(*) AS n, max(uri) AS last_uri FROM slice) AS total
LEFT JOIN missing ON true
