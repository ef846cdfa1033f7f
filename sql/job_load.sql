-- Reads the progress of a job for this transaction alone. Returns no row if another process has taken the job over.
-- $1 job  $2 runner
-- Safe twice: reads only.
-- Locks: the single row, so that a process that takes the job over waits until this transaction has stored its progress.
SELECT state::text AS state FROM firehose_worker.progress WHERE job = $1::text AND runner = $2::text FOR UPDATE
