-- Reads all members, one row per process. There are only a few.
-- No parameters.
-- Safe twice: reads only.
-- Locks: none.
SELECT id, consumer, lease_key, mark, has_left FROM firehose_worker.members ORDER BY id
