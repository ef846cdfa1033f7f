-- Stores the progress of a job. Updates no row if another process has taken it over.
-- $1 job  $2 runner  $3 state
-- Safe twice: the state is absolute.
-- Locks: the single row.
UPDATE firehose_worker.progress SET state = $3::jsonb, updated_at = now() WHERE job = $1::text AND runner = $2::text
