-- Stores the progress of the repair. Updates no row if another process has taken it over.
-- $1 runner  $2 state
-- Safe twice: the state is absolute.
-- Locks: the single row.
UPDATE firehose_worker.progress SET state = $2::jsonb, updated_at = now() WHERE job = 'repair' AND runner = $1::text
