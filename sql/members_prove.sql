-- Sets the Redis key by which other processes see that a member is alive. Empty while there is no such key.
-- $1 id  $2 lease_key
-- Safe twice: the value is absolute.
-- Locks: the row.
UPDATE firehose_worker.members SET lease_key = $2::text WHERE id = $1::bigint
