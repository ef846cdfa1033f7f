-- Tells members up to where all entries have been acknowledged, before the versions of those are pruned.
-- $1 id bigint[], sorted  $2 settled_ms  $3 settled_n
-- Safe twice: the values are absolute. They go back with the group, when an operator has the stream delivered again.
-- Locks: the rows; every member writes the same ones, in a transaction of its own.
UPDATE firehose_worker.members
SET settled_ms = $2::bigint, settled_n = $3::bigint
WHERE id = ANY($1::bigint[]) AND (settled_ms, settled_n) <> ($2::bigint, $3::bigint)
