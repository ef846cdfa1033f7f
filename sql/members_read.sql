-- Reads all members: a row for each process, a few at most.
-- No parameters.
-- Safe twice: reads only.
-- Locks: none.
SELECT id, consumer, lease_key, mark, has_left FROM firehose_worker.members ORDER BY id
