-- Reads up to where all entries have been acknowledged, as far as the process has been told. To be read after
-- versions_take.sql: a version that was pruned before that is of an entry before this place.
-- $1 id
-- Safe twice: reads only.
-- Locks: none.
SELECT settled_ms, settled_n FROM firehose_worker.members WHERE id = $1::bigint
