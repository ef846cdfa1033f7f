-- Tells the others that a member neither holds nor takes in an entry from before a place.
-- $1 id  $2 settled_ms  $3 settled_n
-- Safe twice: the values are absolute. They go back where Redis does, and what is read again is applied in order again.
-- Locks: the row.
UPDATE firehose_worker.members
SET settled_ms = $2::bigint, settled_n = $3::bigint
WHERE id = $1::bigint AND (settled_ms, settled_n) <> ($2::bigint, $3::bigint)
