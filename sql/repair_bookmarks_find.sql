-- Finds the bookmarks of a slice that the viewer's state does not name, but for pairs that repair_likes_find.sql or
-- repair_reposts_find.sql finds.
-- $1 uri of the last row of the slice before  $2 rows in a slice
-- Safe twice: reads only. Returns the slice's length and end, with one such pair or none (NULL) beside it in each row.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT uri, user_did, post_uri FROM bookmarks WHERE uri > $1::text ORDER BY uri LIMIT $2::bigint
), missing AS (
    SELECT slice.post_uri, slice.user_did AS viewer_did
    FROM slice
    LEFT JOIN post_viewer_states AS s ON s.post_uri = slice.post_uri AND s.viewer_did = slice.user_did
    WHERE s.bookmarked IS NOT TRUE
        AND NOT (
            s.like_uri IS NULL
            AND EXISTS (SELECT FROM likes AS l WHERE l.user_did = slice.user_did AND l.post_uri = slice.post_uri)
        )
        AND NOT (
            s.repost_uri IS NULL
            AND EXISTS (SELECT FROM reposts AS r WHERE r.user_did = slice.user_did AND r.post_uri = slice.post_uri)
        )
)
SELECT total.n, total.last_uri, missing.post_uri, missing.viewer_did
FROM (SELECT count(*) AS n, max(uri) AS last_uri FROM slice) AS total
LEFT JOIN missing ON true
