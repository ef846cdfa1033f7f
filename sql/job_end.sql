-- Deletes the progress of a finished job, so that the next one starts from the beginning.
-- $1 job  $2 runner
-- Safe twice: a deleted row stays deleted.
-- Locks: the single row.
DELETE FROM firehose_worker.progress WHERE job = $1::text AND runner = $2::text
