-- Reads the places of records, as far as there are versions of them.
-- $1 key text[]
-- Safe twice: reads only.
-- Locks: none; the rows are of repos at hand, which are locked.
SELECT key, entry_ms, entry_n, op, cid FROM firehose_worker.versions WHERE key = ANY($1::text[])
