-- Inserts missing viewer states as empty ones. states_set.sql fills them after they are committed: from then
-- on, a worker that deletes a like finds the state and waits for its lock.
-- $1 post_uri  $2 viewer_did: arrays of one length, sorted
-- Safe twice: a conflict does nothing, and an empty state has no effect.
-- Locks: new rows, in the order of post and viewer.
INSERT INTO post_viewer_states (post_uri, viewer_did)
SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT DO NOTHING
