-- Forgets a repair that has come to its end: the next starts anew.
-- $1 runner
-- Safe twice: what is gone stays gone.
-- Locks: the one row.
DELETE FROM firehose_worker.progress WHERE job = 'repair' AND runner = $1::text
