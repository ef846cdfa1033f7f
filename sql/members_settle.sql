-- Publishes a member's settled position: the member neither holds nor will read an entry from before it. Returns the
-- position stored before. That is lower than the one published last if the server went back to an older state.
-- $1 id  $2 settled_ms  $3 settled_n
-- Safe twice: the values are absolute.
-- Locks: the row, which no other process writes.
WITH before AS (
    SELECT id, settled_ms, settled_n FROM firehose_worker.members WHERE id = $1::bigint
)
UPDATE firehose_worker.members AS m
SET settled_ms = $2::bigint, settled_n = $3::bigint
FROM before
WHERE m.id = before.id
RETURNING before.settled_ms, before.settled_n
