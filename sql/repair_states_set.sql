-- Has viewer states name the likes, reposts and bookmarks that are there, and no others.
-- $1 post_uri  $2 viewer_did: arrays of one length, sorted
-- Safe twice: the values are absolute; a row that has them already is not written.
-- Locks: rows that repair_states_lock.sql locked already, a statement before: a worker that made or deleted a like,
-- repost or bookmark of that pair has either committed, and is seen here, or waits for that lock to write its part.
UPDATE post_viewer_states AS s
SET like_uri = named.like_uri, repost_uri = named.repost_uri, bookmarked = named.bookmarked, updated_at = now()
FROM (
    SELECT pair.post_uri, pair.viewer_did, l.uri AS like_uri, r.uri AS repost_uri, b.uri IS NOT NULL AS bookmarked
    FROM unnest($1::text[], $2::text[]) AS pair (post_uri, viewer_did)
    LEFT JOIN likes AS l ON l.user_did = pair.viewer_did AND l.post_uri = pair.post_uri
    LEFT JOIN reposts AS r ON r.user_did = pair.viewer_did AND r.post_uri = pair.post_uri
    LEFT JOIN bookmarks AS b ON b.user_did = pair.viewer_did AND b.post_uri = pair.post_uri
) AS named
WHERE s.post_uri = named.post_uri AND s.viewer_did = named.viewer_did
    AND (s.like_uri, s.repost_uri, s.bookmarked)
        IS DISTINCT FROM
        (named.like_uri, named.repost_uri, named.bookmarked)
