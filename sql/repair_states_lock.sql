-- Locks viewer states, and makes empty ones where somebody has just deleted them.
-- $1 post_uri  $2 viewer_did: arrays of one length, sorted
-- By way of a conflict on the key's own index: by an equality the planner may take the index of one column, and read
-- all that a post or an account has.
-- Safe twice: an empty state says nothing, and nothing else changes.
-- Locks: the rows in the order of post and viewer.
INSERT INTO post_viewer_states AS s (post_uri, viewer_did)
SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (post_uri, viewer_did) DO UPDATE SET updated_at = s.updated_at
