-- Finds the viewer states of a slice that name a like, repost or bookmark that does not exist.
-- $1 post_uri  $2 viewer_did of the last state of the previous slice  $3 number of states in a slice
-- Pairs are looked up in the order of their own index, as in pairs_held.sql.
-- Safe twice: reads only.
-- Returns the number of states in the slice and the key of the last, repeated with each state found. If there are
-- none, the state is NULL.
-- Locks: none.
WITH slice AS MATERIALIZED (
    SELECT post_uri, viewer_did, like_uri, repost_uri, bookmarked
    FROM post_viewer_states
    WHERE (post_uri, viewer_did) > ($1::text, $2::text)
    ORDER BY post_uri, viewer_did
    LIMIT $3::bigint
), stale AS (
    SELECT s.post_uri, s.viewer_did
    FROM slice AS s
    LEFT JOIN LATERAL (
        SELECT uri, user_did, post_uri
        FROM likes
        WHERE (user_did, post_uri) >= (s.viewer_did, s.post_uri)
        ORDER BY user_did, post_uri
        LIMIT 1
    ) AS l ON (l.user_did, l.post_uri) = (s.viewer_did, s.post_uri)
    LEFT JOIN LATERAL (
        SELECT uri, user_did, post_uri
        FROM reposts
        WHERE (user_did, post_uri) >= (s.viewer_did, s.post_uri)
        ORDER BY user_did, post_uri
        LIMIT 1
    ) AS r ON (r.user_did, r.post_uri) = (s.viewer_did, s.post_uri)
    LEFT JOIN LATERAL (
        SELECT uri, user_did, post_uri
        FROM bookmarks
        WHERE (user_did, post_uri) >= (s.viewer_did, s.post_uri)
        ORDER BY user_did, post_uri
        LIMIT 1
    ) AS b ON (b.user_did, b.post_uri) = (s.viewer_did, s.post_uri)
    WHERE s.like_uri IS NOT NULL AND s.like_uri IS DISTINCT FROM l.uri
        OR s.repost_uri IS NOT NULL AND s.repost_uri IS DISTINCT FROM r.uri
        OR s.bookmarked AND b.uri IS NULL
), slice_end AS (
    SELECT post_uri, viewer_did FROM slice ORDER BY post_uri DESC, viewer_did DESC LIMIT 1
)
SELECT total.n, slice_end.post_uri AS last_post_uri, slice_end.viewer_did AS last_viewer_did, stale.post_uri,
    stale.viewer_did
FROM (SELECT count(*) AS n FROM slice) AS total
LEFT JOIN slice_end ON true
LEFT JOIN stale ON true
