-- Reads the positions of the records that have a version.
-- $1 key text[]
-- Safe twice: reads only.
-- Locks: none; the rows belong to the repos of this batch, which are already locked.
SELECT key, entry_ms, entry_n, op, cid FROM firehose_worker.versions WHERE key = ANY($1::text[])
