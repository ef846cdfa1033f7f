-- Deletes versions of entries before a place, some thousands at most.
-- $1 entry_ms  $2 entry_n
-- Safe twice: rows that are gone are gone.
-- Locks: the rows deleted; those that somebody else has locked are left for the next time.
DELETE FROM firehose_worker.versions
WHERE key = ANY(ARRAY(
    SELECT key
    FROM firehose_worker.versions
    WHERE (entry_ms, entry_n) < ($1::bigint, $2::bigint)
    ORDER BY entry_ms, entry_n
    LIMIT 5000
    FOR UPDATE SKIP LOCKED
))
