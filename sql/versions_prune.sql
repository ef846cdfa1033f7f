-- Deletes versions of entries from before the lowest position that a member has published as settled, a few thousand
-- at most. A member that has left is ignored, because it holds no entries.
-- No parameters.
-- Safe twice: a deleted row stays deleted.
-- Locks: the rows deleted. Rows that another transaction has locked are left for the next run.
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
