-- Reads which viewer states exist, before those of the other pairs, and their likes and reposts, are copied.
-- $1 post_uri text[]  $2 viewer_did text[]: of one length, sorted
-- A state is looked up as a pair in pairs_held.sql.
-- Safe twice: reads only.
-- Locks: none. A row inserted between this statement and the copy fails the copy, and the transaction is repeated.
SELECT pair.post_uri, pair.viewer_did
FROM unnest($1::text[], $2::text[]) AS pair (post_uri, viewer_did),
    LATERAL (
        SELECT post_uri, viewer_did
        FROM post_viewer_states
        WHERE (post_uri, viewer_did) >= (pair.post_uri, pair.viewer_did)
        ORDER BY post_uri, viewer_did
        LIMIT 1
    ) AS held
WHERE (held.post_uri, held.viewer_did) = (pair.post_uri, pair.viewer_did)
