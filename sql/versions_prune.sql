-- Deletes versions of entries from before the place of which every member says that it holds nothing older, some thousands at
-- most. A member that has left holds nothing.
-- No parameters.
-- Safe twice: rows that are gone are gone.
-- Locks: the rows deleted; those that somebody else has locked are left for the next time.
DELETE FROM firehose_worker.versions
WHERE key = ANY(ARRAY(
    SELECT key
    FROM firehose_worker.versions
    WHERE (entry_ms, entry_n) < (
        SELECT settled_ms, settled_n
        FROM firehose_worker.members
        WHERE NOT has_left
        ORDER BY settled_ms, settled_n
        LIMIT 1
    )
    ORDER BY entry_ms, entry_n
    LIMIT 5000
    FOR UPDATE SKIP LOCKED
))
