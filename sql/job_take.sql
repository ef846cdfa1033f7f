-- Makes this process the one that works on a job, and returns the progress of the unfinished job.
-- $1 job  $2 runner  $3 state of a new job
-- Safe twice: the same runner is written again.
-- Locks: the single row.
INSERT INTO firehose_worker.progress AS p (job, runner, state)
VALUES ($1::text, $2::text, $3::jsonb)
ON CONFLICT (job) DO UPDATE SET runner = excluded.runner
RETURNING p.state::text AS state
