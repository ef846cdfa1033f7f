-- Reads the settled position that the process has published. Every entry before it has been applied. Must run after
-- versions_take.sql: a version that was pruned before then belongs to an entry before this position.
-- $1 id
-- Safe twice: reads only.
-- Locks: none.
SELECT settled_ms, settled_n FROM firehose_worker.members WHERE id = $1::bigint
