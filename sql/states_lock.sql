-- Locks viewer states. If another transaction has just deleted one, inserts an empty one.
-- $1 post_uri  $2 viewer_did: arrays of one length, sorted
-- Uses a conflict on the key's own index. With an equality, the planner might choose the index of a single column and
-- read every state of a post or an account.
-- Safe twice: an empty state has no effect, and nothing else changes.
-- Locks: the rows, in the order of post and viewer.
INSERT INTO post_viewer_states AS s (post_uri, viewer_did)
SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (post_uri, viewer_did) DO UPDATE SET updated_at = s.updated_at
