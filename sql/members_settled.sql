-- Reads the place before which everything has been applied, as far as the process has been told. To be read after
-- versions_take.sql: a version that was pruned before that is of an entry before this place.
-- $1 id
-- Safe twice: reads only.
-- Locks: none.
SELECT settled_ms, settled_n FROM firehose_worker.members WHERE id = $1::bigint
