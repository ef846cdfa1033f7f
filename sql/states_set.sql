-- Makes viewer states name exactly the existing likes, reposts and bookmarks.
-- $1 post_uri  $2 viewer_did: arrays of one length, sorted
-- Uses a conflict on the key, for the reason given in states_lock.sql. Pairs are looked up as in pairs_held.sql.
-- Safe twice: the values are absolute, and a row that already has them is not written.
-- Locks: rows that states_lock.sql has already locked in the previous statement. A worker that inserted or
-- deleted a like, repost or bookmark of the pair has either committed, and the change is seen here, or it waits for
-- that lock to write its part.
INSERT INTO post_viewer_states AS s (post_uri, viewer_did, like_uri, repost_uri, bookmarked)
SELECT pair.post_uri, pair.viewer_did, l.uri, r.uri, b.uri IS NOT NULL
FROM unnest($1::text[], $2::text[]) AS pair (post_uri, viewer_did)
LEFT JOIN LATERAL (
    SELECT uri, user_did, post_uri
    FROM likes
    WHERE (user_did, post_uri) >= (pair.viewer_did, pair.post_uri)
    ORDER BY user_did, post_uri
    LIMIT 1
) AS l ON (l.user_did, l.post_uri) = (pair.viewer_did, pair.post_uri)
LEFT JOIN LATERAL (
    SELECT uri, user_did, post_uri
    FROM reposts
    WHERE (user_did, post_uri) >= (pair.viewer_did, pair.post_uri)
    ORDER BY user_did, post_uri
    LIMIT 1
) AS r ON (r.user_did, r.post_uri) = (pair.viewer_did, pair.post_uri)
LEFT JOIN LATERAL (
    SELECT uri, user_did, post_uri
    FROM bookmarks
    WHERE (user_did, post_uri) >= (pair.viewer_did, pair.post_uri)
    ORDER BY user_did, post_uri
    LIMIT 1
) AS b ON (b.user_did, b.post_uri) = (pair.viewer_did, pair.post_uri)
ON CONFLICT (post_uri, viewer_did) DO UPDATE
SET like_uri = excluded.like_uri, repost_uri = excluded.repost_uri, bookmarked = excluded.bookmarked, updated_at = now()
WHERE (s.like_uri, s.repost_uri, s.bookmarked)
    IS DISTINCT FROM
    (excluded.like_uri, excluded.repost_uri, excluded.bookmarked)
