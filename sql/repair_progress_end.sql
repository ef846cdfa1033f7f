-- Deletes the progress of a finished repair, so that the next one starts from the beginning.
-- $1 runner
-- Safe twice: a deleted row stays deleted.
-- Locks: the single row.
DELETE FROM firehose_worker.progress WHERE job = 'repair' AND runner = $1::text
