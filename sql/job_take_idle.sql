-- Makes this process the one that works on a job, unless another one has saved its progress within the last minute.
-- Returns the progress of the unfinished job.
-- $1 job  $2 runner  $3 state of a new job
-- Safe twice: the same runner is written again.
-- Locks: the single row.
INSERT INTO firehose_worker.progress AS p (job, runner, state)
VALUES ($1::text, $2::text, $3::jsonb)
ON CONFLICT (job) DO UPDATE SET runner = excluded.runner, updated_at = now()
WHERE p.updated_at < now() - interval '1 minute' OR p.runner = excluded.runner
RETURNING p.state::text AS state
