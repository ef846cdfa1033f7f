-- Locks viewer states.
-- $1 post_uri  $2 viewer_did: arrays of one length, sorted
-- Safe twice: the locks are the transaction's.
-- Locks: the rows in the order of post and viewer.
SELECT
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS pair (post_uri, viewer_did, n)
JOIN post_viewer_states AS s ON s.post_uri = pair.post_uri AND s.viewer_did = pair.viewer_did
ORDER BY pair.n
FOR UPDATE OF s
