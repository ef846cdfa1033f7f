-- Makes this process the one that repairs, and returns the progress of an unfinished repair.
-- $1 runner  $2 state of a new repair
-- Safe twice: the same runner is written again.
-- Locks: the single row.
INSERT INTO firehose_worker.progress AS p (job, runner, state)
VALUES ('repair', $1::text, $2::jsonb)
ON CONFLICT (job) DO UPDATE SET runner = excluded.runner
RETURNING p.state::text AS state
