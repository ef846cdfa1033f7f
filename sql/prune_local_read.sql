-- Reads local accounts in the order of their DIDs.
-- $1 the last one of the previous slice  $2 number of accounts
-- Safe twice: reads only.
-- Locks: none.
SELECT did FROM firehose_worker.local_dids WHERE did > $1::text ORDER BY did LIMIT $2::bigint
