-- Reads, as the last step before a commit, which processes write to this database. Sends two statements in one
-- message: the second must not read before the first has its lock.
-- No parameters: sent as simple text.
-- Safe twice: reads only.
-- Locks: the gate, shared, until the commit. A process that joins or removes members holds the gate exclusively, so
-- every later commit sees the change.
SELECT pg_advisory_xact_lock_shared(1718186597, 1);
SELECT id FROM firehose_worker.members
