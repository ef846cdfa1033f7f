-- Makes this process the one that repairs, and reads how far an unfinished repair has come.
-- $1 runner  $2 state of a new repair
-- Safe twice: the same runner is written again.
-- Locks: the one row.
INSERT INTO firehose_worker.progress AS p (job, runner, state)
VALUES ('repair', $1::text, $2::jsonb)
ON CONFLICT (job) DO UPDATE SET runner = excluded.runner
RETURNING p.state::text AS state
