-- Reads the local accounts, beginning with the largest number.
-- $1 limit bigint
-- Safe twice: reads only.
-- Locks: none.
SELECT did, number FROM firehose_worker.local_dids ORDER BY number DESC LIMIT $1::bigint
