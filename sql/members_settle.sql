-- Tells the others that a member neither holds nor takes in an entry from before a place, and returns what it had told before:
-- less than that, where the server has gone back.
-- $1 id  $2 settled_ms  $3 settled_n
-- Safe twice: the values are absolute.
-- Locks: the row, which nobody else writes.
WITH before AS (
    SELECT id, settled_ms, settled_n FROM firehose_worker.members WHERE id = $1::bigint
)
UPDATE firehose_worker.members AS m
SET settled_ms = $2::bigint, settled_n = $3::bigint
FROM before
WHERE m.id = before.id
RETURNING before.settled_ms, before.settled_n
