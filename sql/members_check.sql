-- Reads, as the last step before a commit, which processes write to this database, and the largest number of a local
-- account. Sends two statements in one message: the second must not read before the first has its lock.
-- No parameters: sent as simple text.
-- Safe twice: reads only.
-- Locks: the gate, shared, until the commit. A process that joins, removes members or adds local accounts holds the
-- gate exclusively, so every later commit sees the change.
SELECT pg_advisory_xact_lock_shared(1718186597, 1);
SELECT id, (SELECT coalesce(max(number), 0) FROM firehose_worker.local_dids) AS number FROM firehose_worker.members
