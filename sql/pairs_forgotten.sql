-- Finds the subjects of deleted likes, reposts and bookmarks whose rows the AppView had deleted before, and which a
-- viewer state or a feed item still names.
-- $1 uri  $2 user_did  $3 is_bookmark: arrays of one length, the records  $4 number of states to read for each viewer
-- No index leads from a like to its viewer state. Therefore approximately the newest states of each viewer are read,
-- and only a limited number: each may be on another page, and on a young database most deletes are of records that it
-- never had.
-- Safe twice: reads only.
-- Locks: none; viewer_states_clear.sql checks the states again.
WITH record AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[]) AS record (uri, user_did, is_bookmark)
), state AS (
    SELECT s.*, viewer.has_bookmark
    FROM (SELECT user_did, bool_or(is_bookmark) AS has_bookmark FROM record GROUP BY user_did) AS viewer,
        LATERAL (
            SELECT post_uri, viewer_did, like_uri, repost_uri, bookmarked
            FROM post_viewer_states
            WHERE viewer_did >= viewer.user_did AND viewer_did <= viewer.user_did
            ORDER BY viewer_did DESC
            LIMIT $4::bigint
        ) AS s
)
SELECT 'likes' AS table_name, like_uri AS uri, viewer_did AS key_a, post_uri AS key_b
FROM state
WHERE like_uri = ANY($1::text[])
UNION ALL
SELECT 'reposts', repost_uri, viewer_did, post_uri
FROM state
WHERE repost_uri = ANY($1::text[])
UNION ALL
SELECT 'reposts', uri, originator_did, post_uri
FROM feed_items
WHERE uri = ANY($1::text[]) AND type = 'repost'
UNION ALL
SELECT 'bookmarks', '', viewer_did, post_uri
FROM state
WHERE has_bookmark AND bookmarked AND NOT EXISTS (
    SELECT FROM (
        SELECT user_did, post_uri
        FROM bookmarks
        WHERE (user_did, post_uri) >= (state.viewer_did, state.post_uri)
        ORDER BY user_did, post_uri
        LIMIT 1
    ) AS b
    WHERE (b.user_did, b.post_uri) = (state.viewer_did, state.post_uri)
)
