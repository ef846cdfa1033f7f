-- Locks viewer states. If another transaction has just deleted one, inserts an empty one, which prune_states_delete.sql
-- deletes again.
-- $1 post_uri  $2 viewer_did: arrays of one length, sorted
-- A state is looked up as the first from its key on, and locked through a conflict on the key's own index; see
-- viewer_states_clear.sql.
-- Safe twice: no row is changed.
-- Locks: the rows, in the order of post and viewer, until the end of the transaction.
INSERT INTO post_viewer_states AS s (post_uri, viewer_did)
SELECT key.post_uri, key.viewer_did
FROM unnest($1::text[], $2::text[]) AS key (post_uri, viewer_did),
    LATERAL (
        SELECT post_uri, viewer_did
        FROM post_viewer_states
        WHERE (post_uri, viewer_did) >= (key.post_uri, key.viewer_did)
        ORDER BY post_uri, viewer_did
        LIMIT 1
    ) AS found
WHERE (found.post_uri, found.viewer_did) = (key.post_uri, key.viewer_did)
ON CONFLICT (post_uri, viewer_did) DO UPDATE SET updated_at = s.updated_at WHERE false
